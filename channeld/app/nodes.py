"""What people are told of the ledger's nodes: how each of them is, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from channeld.adapters.telemetry import Gauged
from channeld.core.ledger import AMENDMENTS
from channeld.service.endpoint import Endpoint
from channeld.service.endpoints import Endpoints

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon


def skipped(endpoint: Endpoint) -> int:
    """Messages of a node that could not be understood, since this start."""
    return endpoint.skipped + (endpoint.session.skipped if endpoint.session else 0)


def status(daemon: Daemon) -> dict[str, Any]:
    """What the nodes say, how many must agree, and which rules are in force (null where no node told)."""
    nodes, known = daemon.follower.endpoints, daemon.mirror.amendments
    return {
        "quorum": nodes.quorum,
        "endpoints": {endpoint.name: _node(nodes, endpoint) for endpoint in nodes.all},
        "amendments": {name: None if known is None else name in known for name in AMENDMENTS},
    }


def _node(nodes: Endpoints, endpoint: Endpoint) -> dict[str, Any]:
    facts, heard = endpoint.facts, endpoint.heard_at
    return {
        "connected": endpoint.session is not None,
        "problem": nodes.unfit(endpoint),
        "warning": facts.warning if facts else "",
        "ledger": endpoint.newest.index if endpoint.newest else None,
        "heard_s_ago": None if heard is None else round(nodes.now() - heard, 3),
        "latency_ms": round(endpoint.latency_s * 1000, 1),
        "history": [facts.complete_first, facts.complete_last] if facts else None,
        "build": facts.build if facts else None,
        "messages_skipped": skipped(endpoint),
    }


def gauges(nodes: Endpoints) -> Iterator[Gauged]:
    """How every node of the config is, by host and port."""
    now, nan = nodes.now(), float("nan")

    def each(value: Callable[[Endpoint], float]) -> dict[tuple[str, ...], float]:
        return {(endpoint.name,): value(endpoint) for endpoint in nodes.all}

    label = ("endpoint",)
    yield Gauged("node_connected", "Whether a node answers.", label, each(lambda e: e.session is not None))
    yield Gauged("node_fit", "Whether a node may be followed.", label, each(lambda e: nodes.unfit(e) is None))
    yield Gauged(
        "node_lag_seconds",
        "Since a node announced a validated ledger.",
        label,
        each(lambda e: nan if e.heard_at is None else now - e.heard_at),
    )
    yield Gauged(
        "node_validated_index",
        "The last validated ledger that a node announced.",
        label,
        each(lambda e: e.newest.index if e.newest else 0),
    )
    yield Gauged("node_latency_seconds", "How long a node takes to answer.", label, each(lambda e: e.latency_s))
    yield Gauged(
        "node_messages_skipped",
        "Messages of a node that could not be understood.",
        label,
        each(skipped),
    )
