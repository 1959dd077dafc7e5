"""Other daemons on the broker that say they are online with a wallet of ours.

For people only: that two daemons on one wallet never both issue rests on the ledger (`ledger_book`), for a broker may
be silent, late or remember a daemon that is long gone. But what a broker says tells an operator within a second what
the ledger tells only after the first transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger()

_MOST: Final = 100
"""Others kept in mind; anybody who may publish a status could invent more."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What a daemon says of itself: whether it is online, which start of it, with which wallets (addresses)."""

    online: bool
    instance: str
    wallets: frozenset[str]


class Neighbours:
    """One for a daemon: `wallets` are its own addresses."""

    def __init__(self, wallets: Collection[str]) -> None:
        self._wallets = frozenset(wallets)
        self._others: dict[str, Presence] = {}

    def heard(self, name: str, presence: Presence | None) -> None:
        """Another daemon, called `name`, said this; None: nothing is known of it any more."""
        shares = presence is not None and presence.online and presence.wallets & self._wallets
        if not shares or presence is None:
            if self._others.pop(name, None) is not None:
                log.info("wallet_not_shared_any_more", daemon=name)
        elif self._others.get(name) != presence and (name in self._others or len(self._others) < _MOST):
            self._others[name] = presence
            log.error("wallet_shared", daemon=name, instance=presence.instance, wallets=sorted(shares))

    def warnings(self) -> list[str]:
        """Who is there with a wallet of ours, for a person; nothing if nobody is."""
        return [
            f"daemon {name} (instance {other.instance}) says that it is online with {', '.join(sorted(shared))}:"
            " at most one of two daemons on a wallet issues; stop one of them"
            for name, other in sorted(self._others.items())
            for shared in (other.wallets & self._wallets,)
        ]
