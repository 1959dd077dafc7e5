"""Channels that pay us, as they are shown: the list, the status and the gauges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from channeld.adapters.telemetry import Gauged
from channeld.core.records import Incoming
from channeld.core.units import to_unix
from channeld.service.mirror import Mirror
from channeld.wire import events as contract
from channeld.wire.receive import held_state


def incoming_object(held: Incoming) -> dict[str, Any]:
    """A channel that pays us as the contract shows one, and what the store adds: the best claim held on it."""
    return {
        **contract.channel_facts(held.channel, held_state(held)),
        "direction": "in",
        "held": str(held.held),
        "unredeemed": str(held.unredeemed),
        "lost": held.lost,
        "reason": "it ended before what is held was collected" if held.lost else None,
        "server": held.server,
    }


def status(mirror: Mirror) -> dict[str, Any]:
    """What is held for us, and when the first of it must be collected."""
    totals, deadline = mirror.vault.totals, mirror.vault.nearest_deadline()
    return {
        "channels": totals.channels,
        "closing": totals.closing,
        "remaining": str(totals.remaining),
        "unredeemed": str(totals.unredeemed),
        "nearest_deadline_unix": None if deadline is None else to_unix(deadline),
    }


def gauges(mirror: Mirror) -> Iterator[Gauged]:
    """The same for Prometheus; costs the same however many channels there are."""
    totals, deadline, header = mirror.vault.totals, mirror.vault.nearest_deadline(), mirror.header
    states: Mapping[tuple[str, ...], float] = {
        ("open",): totals.channels - totals.closing,
        ("closing",): totals.closing,
    }
    yield Gauged("incoming_channels", "Live channels that pay us, by state.", ("state",), states)
    drops: Mapping[tuple[str, ...], float] = {
        ("unredeemed",): totals.unredeemed,
        ("unclaimed",): totals.remaining - totals.unredeemed,
    }
    text = "Drops in channels that pay us: held and not collected, and not claimed yet."
    yield Gauged("incoming_drops", text, ("kind",), drops)
    left = float("nan") if deadline is None or header is None else deadline - header.close_time
    text = "Until the first channel ends on which something is still to be collected; NaN if none has an end."
    yield Gauged("incoming_nearest_deadline_seconds", text, (), {(): left})
