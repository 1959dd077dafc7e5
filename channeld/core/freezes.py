"""Why issuing is stopped, as values: the closed set of causes, what each one says to do, and what lifting it costs.

A freeze stops issuing, opening, funding and closing; what was signed is still paid out. It is written down in the
transaction that found its cause, so that no restart forgets it, and only an operator lifts it, with a name and a
reason. What passes by itself (a lagging ledger, a store that fails) is no freeze of this kind and is not written down.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

EVERYTHING: Final = ""
"""The scope of a freeze that stops all wallets; any other scope is the name of one, or of a content server."""
SERVER: Final = "server:"
"""What the scope of a freeze begins with that stops one content server."""
USER: Final = "user:"
"""One user of a content server: then comes the server, a slash, and the hash of the user's name."""
PAYEE: Final = "payee:"
"""One payee, whoever asks for it."""
PEOPLE: Final = (SERVER, USER, PAYEE)
"""What scopes begin with that are no wallet's."""
SELF: Final = "channeld"
"""Who froze, where it was the daemon itself."""


class Cause(enum.Enum):
    """What stopped issuing; the values are what the store, `status` and the command line call it."""

    OPERATOR = "operator"
    OLD_STORE = "old_store"
    """The ledger, a witness or a content server knows more than this store: it is an old copy. Or it was restored, and
    nobody said that it is none."""
    OTHER_STORE = "other_store"
    """The witness under this daemon's name belongs to another store."""
    WITNESS_MISSING = "witness_missing"
    """The store was witnessed before, and now neither the broker nor the file beside it knows it."""
    MOVED = "moved"
    """The store was last used under another daemon name or on another broker, where its witness is."""
    FOREIGN_TRANSACTION = "foreign_transaction"
    """The wallet sent a transaction that is not in our journal: somebody else uses its key."""
    UNEXPLAINED_DECREASE = "unexplained_decrease"
    """The wallet's balance fell by more than our transactions account for."""
    HELD = "held"
    """What was asked for was so unusual that a server, a user or a payee waits until a person has looked at it."""
    UNKNOWN_CHANNELS = "unknown_channels"
    """The ledger has channels of the wallet with our claim key that this store never opened: there is another store."""
    GONE_CHANNEL = "gone_channel"
    """A node shows a channel that a validated ledger had deleted. Its id can never be there again, so somebody is
    wrong."""


RETIRES: Final = frozenset({Cause.OLD_STORE, Cause.OTHER_STORE})
"""Causes that put in doubt how far channels are signed. Lifting one retires all: they settle and close only."""

INSTRUCTIONS: Final = {
    Cause.OPERATOR: "`channeld thaw` lifts it",
    Cause.OLD_STORE: (
        "stop, and put the newest store back; if it is lost, `channeld thaw --cause old_store` goes on with new"
        " channels while those of this store only settle and close"
    ),
    Cause.OTHER_STORE: (
        "give this daemon a name of its own, or stop and put the right store back; if that one is lost,"
        " `channeld thaw --cause other_store` makes this store the witnessed one"
    ),
    Cause.WITNESS_MISSING: (
        "make sure that no other daemon uses this store, and that it is the newest there ever was, for a backup must"
        " come back by `channeld restore`; then `channeld thaw --cause witness_missing`"
    ),
    Cause.MOVED: (
        "make sure that no daemon runs on the store it was moved from, and that this is the newest there ever was, for"
        " a backup must come back by `channeld restore`; then `channeld thaw --cause moved`"
    ),
    Cause.FOREIGN_TRANSACTION: (
        "stop the other daemon that uses this wallet, or send by hand from another account, then"
        " `channeld thaw --cause foreign_transaction`"
    ),
    Cause.HELD: (
        "look at what was asked for (`channeld usage`), then `channeld thaw --wallet {scope} --why TEXT` lets it go on"
    ),
    Cause.UNEXPLAINED_DECREASE: "find out who moved it, then `channeld thaw --cause unexplained_decrease`",
    Cause.UNKNOWN_CHANNELS: (
        "stop the other daemon or put its store here; if both are gone, `channeld channels adopt` takes the channels"
        " over and `channeld thaw --cause unknown_channels` lets this store open its own"
    ),
    Cause.GONE_CHANNEL: (
        "nothing is ever issued on it; find out which of the nodes is wrong (`channeld status`), follow others, then"
        " `channeld thaw --cause gone_channel`"
    ),
}


@dataclass(frozen=True, slots=True)
class Freeze:
    """One freeze. `scope` is `EVERYTHING`, a wallet, or one of `PEOPLE` and who it is; `found` says what was seen;
    `at` is Unix seconds.
    """

    scope: str
    cause: Cause
    found: str
    who: str
    at: int

    @property
    def reason(self) -> str:
        """A sentence for a person: what was found, and what to do about it."""
        kind = "" if self.scope.startswith(PEOPLE) else "wallet "
        where = f"{kind}{self.scope}: " if self.scope else ""
        return f"{where}{self.found}: {INSTRUCTIONS[self.cause].replace('{scope}', self.scope)}"


@dataclass(frozen=True, slots=True)
class Audit:
    """Who did what to the daemon, and why; `at` is Unix seconds. Nothing changes by hand without one."""

    at: int
    who: str
    what: str
    why: str
