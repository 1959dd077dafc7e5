"""What content servers may do, as the rest of the daemon wants to be told of it."""

from __future__ import annotations

from dataclasses import dataclass

from channeld.core.limits import Limit
from channeld.core.standing import Labels
from channeld.core.units import Payee
from channeld.service.audience import Audience
from channeld.service.holdings import Grant
from channeld.settings import Settings


@dataclass(frozen=True, slots=True)
class Grants:
    """What every content server may charge for, and who is told of which channel; payees for which some server may that
    could not before. Values: replaced, never changed.
    """

    by_server: dict[str, Grant]
    audience: Audience
    gained: frozenset[Payee] = frozenset()


def grants(settings: Settings, before: Audience | None = None) -> Grants:
    """What the settings grant, `before` was granted. Takes some microseconds a payee: with many, not in the loop."""
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
    audience = Audience(by_server)
    return Grants(by_server, audience, audience.gained(before) if before else frozenset())


def limits(settings: Settings) -> tuple[Limit, dict[str, Limit]]:
    """What all servers together may ask, and each of them."""
    return settings.daemon.limit, {name: server.limit for name, server in settings.servers.items()}


def receivers(settings: Settings) -> set[str]:
    """Wallets to which channels may pay: their role says so, or a server may hand in claims for their account."""
    named = {account for server in settings.servers.values() for account in server.receive_accounts}
    return {name for name, w in settings.wallets.items() if w.role == "receive" or w.address in named}
