"""What is stopped, and why, by cause: everything, a wallet, a content server, a user or a payee.

Changed only after the store has taken the change. Whoever asks often reads the dicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from channeld.core.freezes import EVERYTHING, PAYEE, SERVER, USER, Cause, Freeze

STORE: Final = "store"
LEDGER: Final = "ledger"
WITNESS: Final = "witness"
"""Keys, beside the causes in the store, of what stops everything and passes by itself: the store failed, no ledger can
be believed, the witness was not read yet.
"""


class Frozen:
    """One for a daemon. Wallets and content servers are by name, users and payees by scope (`core.freezes`)."""

    def __init__(self, freezes: Iterable[Freeze]) -> None:
        self.everything: dict[str, str] = {}
        self.wallets: dict[str, dict[str, str]] = {}
        self.servers: dict[str, dict[str, str]] = {}
        self.people: dict[str, dict[str, str]] = {}
        for freeze in freezes:
            self.freeze(freeze)

    def freeze(self, freeze: Freeze) -> None:
        """The store has it: stop. A second freeze of one cause changes nothing."""
        frozen = self.of(freeze.scope)
        frozen.setdefault(freeze.cause.value, freeze.reason)
        if freeze.scope.startswith((USER, PAYEE)):
            self.people[freeze.scope] = frozen

    def thaw(self, scope: str, cause: Cause) -> None:
        """The store has it lifted."""
        self.of(scope).pop(cause.value, None)
        if not self.people.get(scope, True):
            del self.people[scope]

    def of(self, scope: str) -> dict[str, str]:
        """Why a scope is frozen, by cause."""
        if scope.startswith(SERVER):
            return self.servers.setdefault(scope.removeprefix(SERVER), {})
        if scope.startswith((USER, PAYEE)):
            return self.people.get(scope, {})
        return self.everything if scope == EVERYTHING else self.wallets.setdefault(scope, {})

    def halted(self, wallet: str) -> str | None:
        """Why nothing may be issued for a wallet, opened, funded or closed; None if all of it may be."""
        for frozen in (self.everything, self.wallets.get(wallet)):
            if frozen:
                return next(iter(frozen.values()))
        return None
