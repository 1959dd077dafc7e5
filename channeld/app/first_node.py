"""Asking the ledger beside what the daemon follows, or without one: the first node of the config that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from channeld.adapters.xrpl_node import NodeSession, XrplNode
from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.service.networks import Networks
from channeld.settings import Settings

_Said = TypeVar("_Said")


async def ask_first(settings: Settings, ask: Callable[[NodeSession], Awaitable[_Said]]) -> _Said:
    """What `ask` makes of the first node that has all of it.

    Raises `Unreachable`; `ConfigError` where all nodes are of another network.
    """
    problems = []
    networks = Networks(settings.ledger.network_id, settings.ledger.endpoints)
    for endpoint in settings.ledger.endpoints:
        try:
            async with XrplNode().session(endpoint) as node:
                networks.check(endpoint, (await node.facts()).network_id)
                return await ask(node)
        except (Unreachable, LedgerError, Malformed) as error:
            problems.append(f"{endpoint}: {error}")
            networks.tried(endpoint)
    raise Unreachable("; ".join(problems))
