"""Is this store the newest there is? What it says of itself against what was witnessed of it outside.

Every store has an id and a *data version* that only rises: with every start, every minute, and around every backup of a
running daemon. It is witnessed in two places that a copy of the store does not take along: a file beside it, and a
retained message on the broker. The order is always the same: the store has the new version, then the file, then the
broker, and only then is anything signed under it. So a witness is never above the store that made it, and one that is,
proves an old copy.

Where both are lost with the host, or both came back as old as the store, nothing tells a restored copy from the
newest. So a store that is put back is in doubt for that alone, unless an operator says that nothing was signed since.

A witness must be looked for where it is: a store remembers under which daemon name and on which broker it was
witnessed (its *home*), so that a copy that runs under another name does not pass for new.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from channeld.core.channel import Channel
from channeld.core.freezes import Cause
from channeld.core.intents import Action, OpenChannel

REBUILT: Final = "rebuilt"
"""The home of a store that was made from the ledger and not used yet: an operator said that no other one counts."""

_RESTORED: Final = (
    "this store was restored from a copy, and more may have been signed since that was made"
    " (`channeld restore --newest` would say that nothing was)"
)


def source_tag(store_id: str, account: str) -> int:
    """The mark that a store leaves on every channel it opens from an account: 0..2^32-1.

    Two daemons that use one wallet see the same ledger and the same policy, so they may come to the very same Create,
    with the same number, fee and last ledger, and ed25519 signs equal bytes equally: one transaction, in two journals,
    and a channel that both think theirs. With a mark of its own in each, only one of the two can be validated, and to
    the other it is foreign.
    """
    return int.from_bytes(hashlib.sha256(f"{store_id} {account}".encode()).digest()[:4], "big")


def opened_by(action: Action, channel: Channel, store_id: str) -> bool:
    """Whether a channel is what a store opened for `action`, where its Create was not seen but only the channel.

    Its id says nothing of that: any Create under the same number to the same payee has it. What does is the store's
    mark on it, and that it is as the intent asked for and untouched: nobody but the store can have signed on it then.
    """
    if not isinstance(action, OpenChannel) or channel.source_tag != source_tag(store_id, channel.source_account):
        return False
    wanted = (action.payee, action.amount, action.settle_delay, action.life is None)
    shown = (channel.payee, channel.amount, channel.settle_delay, channel.cancel_after is None)
    return shown == wanted and channel.balance == 0 and channel.expiration is None


@dataclass(frozen=True, slots=True)
class Witness:
    """What was witnessed of a store: its id and its data version, 0 or more."""

    store_id: str
    data_version: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store says of itself. `data_version` is 0 and `home` empty until it was first used."""

    store_id: str
    data_version: int
    home: str

    @property
    def witness(self) -> Witness:
        """What is to be witnessed of it."""
        return Witness(self.store_id, self.data_version)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a store must not be signed from."""

    cause: Cause
    found: str


def doubt_file(store: Identity, file: Witness | None) -> Doubt | None:
    """Compare a store with the file beside it; None: nothing speaks against it."""
    return _doubt(store, file, "the file beside it")


def doubt_broker(store: Identity, file: Witness | None, broker: Witness | None, home: str) -> Doubt | None:
    """Compare a store with what the broker holds under this daemon's name, `home` being that name and broker.

    A broker that lost its retained messages is ordinary: the file alone vouches for the store then.
    """
    if store.home == REBUILT:
        return None
    if (doubt := _doubt(store, broker, "the broker")) is not None:
        return doubt
    if store.home and store.home != home:
        return Doubt(Cause.MOVED, f"this store was last used as {store.home}, and now as {home}")
    if store.data_version and broker is None and file is None:
        return Doubt(
            Cause.WITNESS_MISSING,
            f"this store was used up to data version {store.data_version}, and nothing outside it bears witness",
        )
    return None


def doubt_restored(store: Identity, file: Witness | None, *, newest: bool) -> Doubt | None:
    """What speaks against a store that is being put back: that it was, unless an operator says that it is the `newest`.

    No witness can speak for it. The broker's may be lost with the host, and a file may be as old as the copy it lay
    beside; but what proves that it is old counts more than anybody's word.
    """
    doubt = doubt_file(store, file)
    return doubt if doubt is not None or newest else Doubt(Cause.OLD_STORE, _RESTORED)


def _doubt(store: Identity, seen: Witness | None, where: str) -> Doubt | None:
    if seen is None:
        return None
    if seen.store_id != store.store_id:
        return Doubt(Cause.OTHER_STORE, f"{where} bears witness to store {seen.store_id}, and this is {store.store_id}")
    if seen.data_version > store.data_version:
        versions = f"data version {seen.data_version} was witnessed by {where}, and this store has {store.data_version}"
        return Doubt(Cause.OLD_STORE, f"{versions}: it is an old copy")
    return None
