"""Putting a store back and making one anew: what is done while no daemon runs.

Neither makes anything up. A store that is put back does not sign unless an operator says that it is the newest, and is
checked against its witnesses all the same: one that is older than what was witnessed refuses to sign. A store that is
made anew knows what a ledger can tell, and not what was signed: such channels are paid what the ledger proves, and
closed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from channeld.adapters.sqlite import SqliteStore
from channeld.adapters.sqlite.backup import check_copy, copy_store, draft_beside, put_back
from channeld.adapters.witness_file import WitnessFile, path_beside
from channeld.adapters.xrpl_node import NodeSession
from channeld.app import keyring
from channeld.app.first_node import ask_first
from channeld.app.run import alone
from channeld.core.channel import Channel
from channeld.core.errors import LedgerError, Refused
from channeld.core.freezes import EVERYTHING, Audit, Freeze
from channeld.core.ledger import AccountState, LedgerHeader
from channeld.core.policy import Policy
from channeld.core.records import Booked, ChannelRecord, LedgerUpdate
from channeld.core.witness import REBUILT, doubt_restored
from channeld.settings import Settings

_BELIEVED: Final = (
    "start the daemon: it asks the broker for the witness of this store, and says why if it will not sign"
)
_DOUBTED: Final = (
    "put the newest store back instead, if it can still be had; else start the daemon: it pays what it knows to be owed"
    " and issues nothing before `channeld thaw --cause {cause}`, after which new channels are opened and those of this"
    " store only settle and close"
)
Whole = tuple[LedgerHeader, list[tuple[AccountState, list[Channel]]]]


def backup(settings: Settings, target: Path, who: str, why: str) -> dict[str, Any]:
    """Copy the store of a daemon that does not run. The copy is the newest until the next start, which says so outside.

    The data version does not rise here: nobody asks the broker, and an old store would come to pass what it holds.
    """
    with alone(settings):
        store = SqliteStore(settings.store.path, network_id=settings.ledger.network_id)
        try:
            identity = store.books.identity()
            copy_store(settings.store.path, target)
            store.books.audit(Audit(int(time.time()), who, f"backup {target}", why))
        finally:
            store.close()
    return {"file": str(target), "store_id": identity.store_id, "data_version": identity.data_version}


def restore(settings: Settings, copy: Path, who: str, why: str, *, newest: bool = False) -> dict[str, Any]:
    """Put a copy in the store's place, and say what speaks against signing from it. The old store is set aside.

    `newest`: the operator says that nothing was signed since the copy was made. What else is put back is frozen, and
    is so before it is in its place.
    """
    if not copy.is_file():
        raise Refused(f"{copy}: no such file")
    path = settings.store.path
    with alone(settings):
        check_copy(copy, settings.ledger.network_id)
        now = int(time.time())
        draft = draft_beside(copy, path)
        store = SqliteStore(draft, network_id=settings.ledger.network_id)
        try:
            identity = store.books.identity()
            doubt = doubt_restored(identity, WitnessFile(path_beside(path)).read(), newest=newest)
            if doubt is not None:
                store.books.freeze(Freeze(EVERYTHING, doubt.cause, doubt.found, who, now))
            store.books.audit(Audit(now, who, f"restore {copy}" + (" as the newest" if newest else ""), why))
        finally:
            store.close()
        aside = put_back(draft, path, f"before-restore-{now}")
    return {
        "store": str(path),
        "store_id": identity.store_id,
        "data_version": identity.data_version,
        "set_aside": str(aside) if aside else None,
        "doubt": doubt.found if doubt else None,
        "next": _BELIEVED if doubt is None else _DOUBTED.format(cause=doubt.cause.value),
    }


async def rebuild(settings: Settings, policy: Policy, keys: keyring.Keyring, who: str, why: str) -> dict[str, Any]:
    """Make a store from what the ledger shows of our wallets; raises `Refused` where there is one already."""
    path = settings.store.path
    with alone(settings):
        if path.exists():
            raise Refused(f"{path} exists: rebuild makes a new store, and never overwrites one (move it away first)")
        header, wallets = await _whole(settings)
        records = [_record(c, header, policy, settings, keys) for _, channels in wallets for c in channels]
        draft = path.with_name(path.name + ".rebuilding")
        for end in ("", "-wal", "-shm"):
            draft.with_name(draft.name + end).unlink(missing_ok=True)
        store = SqliteStore(draft, network_id=settings.ledger.network_id)
        store.load()
        balances = {account.address: int(account.balance) for account, _ in wallets}
        booked = Booked(balances=balances)
        store.apply(LedgerUpdate(header.index, header.close_time, [], records, [], [], [], booked=booked))
        store.books.move(REBUILT)
        store.books.audit(Audit(int(time.time()), who, f"rebuild at ledger {header.index}", why))
        identity = store.books.identity()
        store.close()
        WitnessFile(path_beside(path)).remove()
        draft.rename(path)
    return _summary(path, identity.store_id, header, records)


def _summary(path: Path, store_id: str, header: LedgerHeader, records: Sequence[ChannelRecord]) -> dict[str, Any]:
    ours = [r for r in records if r.pool]
    return {
        "store": str(path),
        "store_id": store_id,
        "ledger": header.index,
        "channels": len(records),
        "settle_and_close_only": len(ours),
        "quarantined": len(records) - len(ours),
        "remaining_drops": str(sum(r.channel.remaining for r in ours)),
        "paid_drops": str(sum(r.channel.balance for r in ours)),
        "unknown": "what was signed on these channels, and which requests were answered: payees keep their claims, and"
        " have each channel's settle delay to hand them in once its close is requested. The claims that payers signed"
        " for us: what was not collected is lost unless content servers hand it in again",
    }


def _record(
    channel: Channel, header: LedgerHeader, policy: Policy, settings: Settings, keys: keyring.Keyring
) -> ChannelRecord:
    """A channel as a new store takes it: to settle and close if its key is ours and a pool has its wallet."""
    names = {w.address: name for name, w in settings.wallets.items()}
    pools = [p.name for p in policy.pools.values() if p.wallet == names.get(channel.source_account)]
    pool = pools[0] if pools and channel.public_key in keys.claim_signers else ""
    return ChannelRecord(
        row=0,
        channel=channel,
        authorized=channel.balance,
        issuing=False,
        pool=pool,
        server="",
        opened_at=header.close_time,
        last_claim_at=header.close_time,
        unredeemed_since=None,
        closed_at=None,
        adopted=bool(pool),
    )


async def _whole(settings: Settings) -> Whole:
    """Our paying wallets and their channels as of one validated ledger, from the first node that has them."""

    async def ask(node: NodeSession) -> Whole:
        header = await node.follow()
        found = []
        for wallet in (w for w in settings.wallets.values() if w.role == "pay"):
            account = await node.account(wallet.address, header.index)
            if account is None:
                raise LedgerError("actNotFound", f"{wallet.name} ({wallet.address}) is not in the ledger")
            found.append((account, await node.channels(wallet.address, header.index)))
        return header, found

    return await ask_first(settings, ask)
