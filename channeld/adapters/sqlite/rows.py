"""Between rows and values: the only place that knows the order of columns."""

from __future__ import annotations

from typing import Any, Final

from channeld.core.channel import Channel
from channeld.core.intents import (
    Action,
    FinalizeClose,
    FundChannel,
    Intent,
    Kind,
    OpenChannel,
    RedeemChannel,
    RequestClose,
    SettleChannel,
    Status,
)
from channeld.core.records import ChannelRecord, JournalEntry, LiveTransaction, Setback
from channeld.core.units import Payee

Row = tuple[Any, ...]

FACTS: Final = (
    "channel_id, source, destination, destination_tag, public_key, amount, balance, settle_delay, expiration,"
    " cancel_after, ledger_index"
)
"""Columns of a `Channel`, in its order."""
CHANNEL_COLUMNS: Final = (
    f"row, {FACTS}, authorized, issuing, pool, server, opened_at, last_claim_at, unredeemed_since, closed_at, adopted,"
    " user, tier, cut_short_at"
)
INTENT_COLUMNS: Final = (
    "number, kind, wallet, channel_id, payee, payee_tag, pool, server, target, settle_delay, life, reason, policy_hash,"
    " path, decided_at, status, note, user, tier"
)
TX_COLUMNS: Final = (
    "hash, intent, wallet, account, number, fee, first_ledger, last_ledger, blob, channel_id, ticket, makes"
)
SETBACK_COLUMNS: Final = "subject, failures, retry_at, refused, code"


def marks(columns: str) -> str:
    """As many placeholders as there are columns."""
    return ", ".join("?" * (columns.count(",") + 1))


def facts(c: Channel) -> Row:
    """A channel in the order of `FACTS`."""
    who = (c.channel_id, c.source_account, c.destination_account, c.destination_tag, c.public_key)
    return (*who, c.amount, c.balance, c.settle_delay, c.expiration, c.cancel_after, c.ledger_index)


def channel_row(record: ChannelRecord) -> Row:
    """A channel record in the order of `CHANNEL_COLUMNS`."""
    return (
        record.row,
        *facts(record.channel),
        record.authorized,
        record.issuing,
        record.pool,
        record.server,
        record.opened_at,
        record.last_claim_at,
        record.unredeemed_since,
        record.closed_at,
        record.adopted,
        record.user,
        record.tier,
        record.cut_short_at,
    )


def channel_record(row: Row) -> ChannelRecord:
    """The value of a row in the order of `CHANNEL_COLUMNS`."""
    channel = Channel(*row[1:12])
    record = ChannelRecord(row[0], channel, row[12], bool(row[13]), *row[14:])
    record.adopted = bool(record.adopted)
    return record


def intent_row(intent: Intent, decided_at: int) -> Row:
    """A new intent in the order of `INTENT_COLUMNS`, without its number, which the store gives."""
    action = intent.action
    server = payee = tag = target = delay = life = channel_id = None
    pool, whose = intent.pool or None, ("", "")
    if isinstance(action, OpenChannel):
        pool, server, payee, tag = action.pool, action.server, action.payee.account, action.payee.tag
        target, delay, life = action.amount, action.settle_delay, action.life
        whose = (action.user, action.tier)
    else:
        channel_id = action.channel_id
    if isinstance(action, FundChannel):
        target = action.target_amount
    if isinstance(action, SettleChannel | RedeemChannel):
        target = action.target_balance
    subject = (action.kind.value, action.wallet, channel_id, payee, tag, pool, server, target, delay, life)
    because = (intent.reason, intent.policy_hash, " ".join(intent.path))
    return (*subject, *because, decided_at, Status.PLANNED.value, "", *whose)


def journal_entry(row: Row) -> JournalEntry:
    """The value of a row in the order of `INTENT_COLUMNS`."""
    number, kind, *_, reason, policy_hash, path, decided_at, status, note, _, _ = row
    intent = Intent(_action(Kind(kind), row), reason, policy_hash, tuple(path.split()), row[6] or "")
    return JournalEntry(number, intent, Status(status), decided_at, row[3], note)


def _action(kind: Kind, row: Row) -> Action:
    _, _, wallet, channel_id, payee, tag, pool, server, target, delay, life, *_, user, tier = row
    if kind is Kind.OPEN:
        return OpenChannel(wallet, pool, server, Payee(payee, tag), target, delay, life, user, tier)
    if kind is Kind.FUND:
        return FundChannel(wallet, channel_id, target)
    if kind is Kind.SETTLE:
        return SettleChannel(wallet, channel_id, target)
    if kind is Kind.REDEEM:
        return RedeemChannel(wallet, channel_id, target)
    return RequestClose(wallet, channel_id) if kind is Kind.REQUEST_CLOSE else FinalizeClose(wallet, channel_id)


def tx_row(tx: LiveTransaction) -> Row:
    """A transaction in the order of `TX_COLUMNS`."""
    head = (tx.hash, tx.intent, tx.wallet, tx.account, tx.number, tx.fee)
    return (*head, tx.first_ledger, tx.last_ledger, tx.blob, tx.channel_id, tx.ticket, tx.makes)


def live_transaction(row: Row) -> LiveTransaction:
    """The value of a row in the order of `TX_COLUMNS`."""
    tx_hash, intent, wallet, account, number, fee, first, last, blob, channel_id, ticket, makes = row
    return LiveTransaction(
        intent=intent,
        wallet=wallet,
        account=account,
        number=number,
        fee=fee,
        first_ledger=first,
        last_ledger=last,
        hash=tx_hash,
        blob=blob,
        channel_id=channel_id,
        ticket=bool(ticket),
        makes=makes,
    )


def setback_row(setback: Setback) -> Row:
    """A setback in the order of `SETBACK_COLUMNS`."""
    return (setback.subject, setback.failures, setback.retry_at, setback.refused, setback.code)


def setback(row: Row) -> Setback:
    """The value of a row in the order of `SETBACK_COLUMNS`."""
    return Setback(row[0], row[1], row[2], refused=bool(row[3]), code=row[4])
