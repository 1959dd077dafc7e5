"""What content servers may do, as the rest of the daemon wants to be told of it."""

from __future__ import annotations

from dataclasses import dataclass

from channeld.core.limits import Limit
from channeld.core.standing import Labels
from channeld.service.audience import Audience
from channeld.service.holdings import Grant
from channeld.settings import Settings


@dataclass(frozen=True, slots=True)
class Grants:
    """What every content server may charge for, and who is told of which channel. Values: replaced, never changed."""

    by_server: dict[str, Grant]
    audience: Audience


def grants(settings: Settings) -> Grants:
    """What the settings grant. Takes about a microsecond a payee: with many of them, not in the loop."""
    by_server = {
        name: Grant(
            {entry.payee: entry.pool for entry in server.payees},
            server.max_drops_per_day,
            server.max_locked_drops,
            server.max_open_channels,
            frozenset(server.receive_accounts),
            {entry.payee: Labels(entry.tier, entry.region) for entry in server.payees if entry.tier or entry.region},
        )
        for name, server in settings.servers.items()
    }
    return Grants(by_server, Audience(by_server))


def limits(settings: Settings) -> tuple[Limit, dict[str, Limit]]:
    """What all servers together may ask, and each of them."""
    return settings.daemon.limit, {name: server.limit for name, server in settings.servers.items()}
