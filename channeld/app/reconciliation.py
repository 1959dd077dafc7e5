"""`reconcile`: read the ledger whole and compare it with what is believed, to the drop; change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from channeld.adapters.sqlite.reader import read_balances, read_channels, read_facts, read_incoming
from channeld.adapters.xrpl_node import NodeSession
from channeld.app.first_node import ask_first
from channeld.app.granted import receivers
from channeld.core.channel import Channel
from channeld.core.errors import Unreachable
from channeld.core.ledger import AccountState
from channeld.core.records import ChannelRecord, Incoming
from channeld.core.units import Address, LedgerIndex
from channeld.settings import Settings

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

_TRIES: Final = 5
_Known = TypeVar("_Known")
_FIELDS: Final = ("amount", "balance", "expiration", "cancel_after", "settle_delay", "public_key", "destination_tag")


class Shown(NamedTuple):
    """An account as the ledger shows it: its channels, and those that pay it where that was asked for."""

    account: AccountState | None
    channels: Sequence[Channel] = ()
    incoming: Sequence[Channel] = ()


Read = Mapping[Address, Shown]


async def of_daemon(daemon: Daemon) -> dict[str, Any]:
    """Compare a running daemon with the ledger it has processed last. Raises `Unreachable`."""
    for _ in range(_TRIES):
        at = daemon.mirror.processed
        if at is None:
            raise Unreachable("no validated ledger was seen yet")
        accounts = {address: wallet.receives for address, wallet in daemon.mirror.by_address.items()}
        read = await _read(daemon.settings, accounts, at)
        if daemon.mirror.processed == at:
            break
    else:
        raise Unreachable("ledgers close faster than the node answers: try again")
    records = [state.record for state in daemon.mirror.channels.values()]
    booked = {address: wallet.booked for address, wallet in daemon.mirror.by_address.items()}
    answer = _answer(at, read, records, booked, list(daemon.mirror.vault.channels.values()))
    for address, wallet in daemon.mirror.by_address.items():
        wallet.difference = int(answer["difference_drops"][address])
    return answer


async def of_store(settings: Settings) -> dict[str, Any]:
    """Compare the store of a daemon that does not run with the ledger it processed last. Raises `Unreachable`."""
    path = settings.store.path
    facts = await read_facts(path)
    if facts.get("processed") is None:
        raise Unreachable("the store has not processed any ledger yet")
    at = LedgerIndex(int(facts["processed"]))
    receiving = receivers(settings)
    wallets = {wallet.address: name in receiving for name, wallet in settings.wallets.items()}
    read = await _read(settings, wallets, at)
    balances: dict[Address, int | None] = dict.fromkeys(wallets)
    balances |= await read_balances(path)
    return _answer(at, read, await read_channels(path), balances, await read_incoming(path))


async def _read(settings: Settings, accounts: Mapping[Address, bool], at: LedgerIndex) -> Read:
    """Accounts and channels as of a ledger, from the first node that has them; true: also the channels that pay it."""

    async def ask(node: NodeSession) -> Read:
        return {account: await _shown(node, account, at, receives) for account, receives in accounts.items()}

    return await ask_first(settings, ask)


async def _shown(node: NodeSession, address: Address, at: LedgerIndex, receives: bool) -> Shown:
    account = await node.account(address, at)
    if account is None:
        return Shown(None)
    return Shown(account, await node.channels(address, at), await node.incoming(address, at) if receives else ())


def _answer(
    at: LedgerIndex,
    read: Read,
    records: Sequence[ChannelRecord],
    booked: Mapping[Address, int | None],
    incoming: Sequence[Incoming],
) -> dict[str, Any]:
    """Every difference, and by how many drops each wallet is off in all."""
    found: list[dict[str, Any]] = []
    drops: dict[str, int] = {}
    for address, shown in read.items():
        mine = [r for r in records if r.channel.source_account == address]
        off = differences(address, shown.account, shown.channels, mine, booked.get(address))
        off += _paying(shown.incoming, [i.channel for i in incoming if i.channel.destination_account == address])
        found += off
        drops[address] = sum(abs(int(d.get("drops", 0))) for d in off)
    return {
        "ok": not found,
        "ledger": at,
        "differences": found,
        "difference_drops": {address: str(total) for address, total in drops.items()},
    }


def differences(
    address: Address,
    account: AccountState | None,
    channels: Sequence[Channel],
    records: Sequence[ChannelRecord],
    booked: int | None,
) -> list[dict[str, Any]]:
    """Where what the ledger says of an account and what is believed differ; `drops` is by how much."""
    found: list[dict[str, Any]] = []
    if booked is not None and (account is None or account.balance != booked):
        shown = account.balance if account else 0
        found.append(_difference(address, "balance", booked, shown, shown - booked))
    return found + _matched(channels, [(record.channel, record) for record in records], _compared)


def _paying(shown: Sequence[Channel], believed: Sequence[Channel]) -> list[dict[str, Any]]:
    """Where the channels that pay an account differ from what is believed of them."""
    return _matched(shown, [(channel, channel) for channel in believed], _fields)


def _matched(
    shown: Sequence[Channel],
    believed: Sequence[tuple[Channel, _Known]],
    compare: Callable[[Channel, _Known], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Channels that only the ledger or only the store has, and how those differ that both have."""
    known, found = {channel.channel_id: (channel, what) for channel, what in believed}, list[dict[str, Any]]()
    for channel in shown:
        pair = known.pop(channel.channel_id, None)
        if pair is None:
            found.append(_difference(channel.channel_id, "channel", None, "on the ledger", channel.remaining))
        else:
            found += compare(channel, pair[1])
    gone = [_difference(c.channel_id, "channel", "in the store", None, -c.remaining) for c, _ in known.values()]
    return found + gone


def _fields(channel: Channel, known: Channel) -> list[dict[str, Any]]:
    found = []
    for name in _FIELDS:
        believed, shown = getattr(known, name), getattr(channel, name)
        if believed != shown:
            drops = shown - believed if name in ("amount", "balance") else 0
            found.append(_difference(channel.channel_id, name, believed, shown, drops))
    return found


def _compared(channel: Channel, record: ChannelRecord) -> list[dict[str, Any]]:
    found = _fields(channel, record.channel)
    if record.pool and not record.adopted and channel.balance > record.authorized:
        over = channel.balance - record.authorized
        found.append(_difference(channel.channel_id, "signed", record.authorized, channel.balance, over))
    return found


def _difference(subject: str, what: str, believed: object, ledger: object, drops: int) -> dict[str, Any]:
    return {"subject": subject, "what": what, "believed": believed, "ledger": ledger, "drops": str(drops)}
