"""From a node's JSON to core values. For api_version 2, and for nothing but what we ask.

Everything here raises `Malformed` for a message that lacks what it promised; unknown fields and unknown ledger entries
are passed over, for ledgers grow new ones. Amounts are strings of drops except in `ledgerClosed`, where fees are
numbers.

Sources: rippled ApplyStateTable.cpp (metadata: defaults are left out of NewFields, unchanged fields out of
PreviousFields).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from channeld.core.channel import Channel
from channeld.core.errors import BadValue, Malformed
from channeld.core.ledger import (
    AMENDMENTS,
    AccountState,
    ChannelChange,
    Fees,
    LedgerHeader,
    NodeFacts,
    OpenFees,
    SubmitResult,
    ValidatedTransaction,
    amendment_id,
)
from channeld.core.units import (
    MAX_UINT32,
    Address,
    ChannelId,
    Drops,
    LedgerIndex,
    RippleTime,
    Seconds,
    parse_channel_id,
    parse_drops,
)
from channeld.wire.fields import Json, inner, optional_uint32, ripple_time, uint32

LSF_DISABLE_MASTER: Final = 0x00100000
_CLIO: Final = 2001
AMENDMENTS_ENTRY: Final = hashlib.sha512(b"\x00f").hexdigest()[:64].upper()
"""Where the ledger keeps its Amendments object. Sources: rippled Indexes.cpp (space letter f, nothing else)."""


def _drops(fields: Json, name: str, default: str | None = None) -> Drops:
    value = fields.get(name, default)
    try:
        return parse_drops(str(value) if type(value) is int else value, name)
    except BadValue as error:
        raise Malformed(str(error)) from None


def _text(fields: Json, name: str) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    raise Malformed(f"{name}: not a string")


def _channel_id(fields: Json, name: str) -> ChannelId:
    try:
        return parse_channel_id(fields.get(name), name)
    except BadValue as error:
        raise Malformed(str(error)) from None


# --- what a node says ------------------------------------------------------------------------------------------------


def header(message: Json) -> LedgerHeader:
    """Read a `ledgerClosed` message or the answer to `subscribe` with the ledger stream, which have the same fields."""
    fees = Fees(_drops(message, "fee_base"), _drops(message, "reserve_base"), _drops(message, "reserve_inc"))
    time = RippleTime(uint32(message, "ledger_time"))
    return LedgerHeader(LedgerIndex(uint32(message, "ledger_index")), _text(message, "ledger_hash"), time, fees)


def node_facts(result: Json) -> NodeFacts:
    """Read the answer to `server_info`. An absent network_id is network 0; history is the last span it lists."""
    info = inner(result, "info")
    spans = [s for s in str(info.get("complete_ledgers", "")).split(",") if s and s != "empty"]
    if not spans:
        raise Malformed("complete_ledgers: the node has no ledgers")
    first, _, last = spans[-1].partition("-")
    if not (_is_index(first) and (not last or _is_index(last))):
        raise Malformed("complete_ledgers: not a range")
    network_id = 0 if info.get("network_id") is None else uint32(info, "network_id")
    build = str(info.get("build_version", info.get("clio_version", "unknown")))
    validated = info.get("validated_ledger")
    age = validated.get("age") if isinstance(validated, dict) else None
    return NodeFacts(
        network_id,
        build[:64],
        LedgerIndex(int(first)),
        LedgerIndex(int(last or first)),
        float(age) if isinstance(age, int | float) and not isinstance(age, bool) and 0 <= age <= MAX_UINT32 else None,
        info.get("amendment_blocked") is True,
        _warnings(result.get("warnings"), info.get("warnings")),
    )


def _warnings(*lists: Any) -> str:
    """What a node warns of, in its own words; that it is a Clio server (2001) is no warning.

    Sources: rippled ErrorCodes.h warning_code_i.
    """
    entries = [entry for found in lists if isinstance(found, list) for entry in found if isinstance(entry, dict)]
    return "; ".join(dict.fromkeys(str(e.get("message", e.get("id")))[:120] for e in entries if e.get("id") != _CLIO))[
        :400
    ]


def amendments(result: Json) -> frozenset[str]:
    """Which of the amendments that concern us are in force: from `ledger_entry` of the Amendments object."""
    enabled = inner(result, "node").get("Amendments", [])
    if not isinstance(enabled, list):
        raise Malformed("Amendments: not a list")
    return frozenset(name for name in AMENDMENTS if amendment_id(name) in enabled)


def _is_index(text: str) -> bool:
    return len(text) <= 10 and text.isascii() and text.isdigit()


def account_state(root: Json) -> AccountState:
    """Read an AccountRoot, as `account_data` or as FinalFields."""
    regular = root.get("RegularKey")
    return AccountState(
        Address(_text(root, "Account")),
        _drops(root, "Balance"),
        uint32(root, "Sequence"),
        uint32(root, "OwnerCount") if "OwnerCount" in root else 0,
        Address(regular) if isinstance(regular, str) else None,
        bool((optional_uint32(root, "Flags") or 0) & LSF_DISABLE_MASTER),
    )


def listed_channel(item: Json, ledger_index: LedgerIndex) -> Channel:
    """Read an item of `account_channels`."""
    return Channel(
        _channel_id(item, "channel_id"),
        Address(_text(item, "account")),
        Address(_text(item, "destination_account")),
        optional_uint32(item, "destination_tag"),
        str(item.get("public_key_hex", "")).upper(),
        _drops(item, "amount"),
        _drops(item, "balance"),
        Seconds(uint32(item, "settle_delay")),
        ripple_time(item, "expiration"),
        ripple_time(item, "cancel_after"),
        ledger_index,
        optional_uint32(item, "source_tag"),
    )


def ledger_channel(channel_id: ChannelId, fields: Json, ledger_index: LedgerIndex) -> Channel:
    """Read a PayChannel ledger object: FinalFields, or NewFields, where fields with default values are left out."""
    return Channel(
        channel_id,
        Address(_text(fields, "Account")),
        Address(_text(fields, "Destination")),
        optional_uint32(fields, "DestinationTag"),
        _text(fields, "PublicKey").upper(),
        _drops(fields, "Amount"),
        _drops(fields, "Balance", "0"),
        Seconds(optional_uint32(fields, "SettleDelay") or 0),
        ripple_time(fields, "Expiration"),
        ripple_time(fields, "CancelAfter"),
        ledger_index,
    )


def paid(result: Json) -> Address | None:
    """Whom the channel of a `ledger_entry` pays; None where the entry is no channel."""
    node = inner(result, "node")
    return Address(_text(node, "Destination")) if node.get("LedgerEntryType") == "PayChannel" else None


def _affected(meta: Json) -> Iterable[tuple[str, Json]]:
    nodes = meta.get("AffectedNodes")
    if not isinstance(nodes, list):
        raise Malformed("AffectedNodes: not a list")
    for node in nodes:
        if isinstance(node, dict):
            for how, body in node.items():
                if isinstance(body, dict):
                    yield how, body


def _channel_change(how: str, body: Json, transaction: Json, ledger_index: LedgerIndex) -> ChannelChange | None:
    """What happened to one PayChannel node.

    Of a new channel metadata leaves out what is zero, a destination tag of 0 included, which is not the same payee as
    no tag: whether there is one, only the transaction that created it tells.
    """
    created = how == "CreatedNode"
    fields = body.get("NewFields" if created else "FinalFields")
    if not isinstance(fields, dict) or "Account" not in fields:
        return None  # threaded only: nothing of the channel itself is told
    if created:
        fields = {**fields, "DestinationTag": transaction.get("DestinationTag")}
    channel = ledger_channel(_channel_id(body, "LedgerIndex"), fields, ledger_index)
    previous = body.get("PreviousFields")
    before = _drops(previous, "Balance") if isinstance(previous, dict) and "Balance" in previous else channel.balance
    if before > channel.balance:
        raise Malformed("PreviousFields.Balance: more than was paid afterwards")
    paid = Drops(0 if created else channel.balance - before)
    return ChannelChange(channel, created, how == "DeletedNode", paid)


def _authority(transaction: Json) -> str:
    """SigningPubKey and TxnSignature as a blob has them, one behind the other; empty where several keys signed.

    Sources: rippled sfields.macro (VL 3 and 4), serialization (a length of up to 192 bytes is one byte).
    """
    parts = [(head, transaction.get(name)) for head, name in (("73", "SigningPubKey"), ("74", "TxnSignature"))]
    if not all(isinstance(value, str) and value for _, value in parts):
        return ""
    return "".join(f"{head}{len(value) // 2:02X}{value}" for head, value in parts if value).upper()


def validated_transaction(entry: Json) -> ValidatedTransaction:
    """Read an entry of `account_tx`, an answer of `tx`, or a validated stream message: all have the same parts."""
    if entry.get("validated") is False:
        raise Malformed("validated: not a validated transaction")
    transaction, meta = inner(entry, "tx_json"), inner(entry, "meta")
    index = LedgerIndex(uint32(entry, "ledger_index"))
    channels: list[ChannelChange] = []
    accounts: list[AccountState] = []
    for how, body in _affected(meta):
        kind = body.get("LedgerEntryType")
        if kind == "PayChannel" and (change := _channel_change(how, body, transaction, index)):
            channels.append(change)
        elif kind == "AccountRoot" and how != "DeletedNode":
            fields = body.get("NewFields" if how == "CreatedNode" else "FinalFields")
            if isinstance(fields, dict) and {"Account", "Balance", "Sequence"} <= fields.keys():
                accounts.append(account_state(fields))
    ticket = transaction.get("TicketSequence") is not None
    return ValidatedTransaction(
        _text(entry, "hash"),
        index,
        uint32(meta, "TransactionIndex"),
        Address(_text(transaction, "Account")),
        uint32(transaction, "TicketSequence" if ticket else "Sequence"),
        ticket,
        _text(transaction, "TransactionType"),
        _text(meta, "TransactionResult"),
        _drops(transaction, "Fee"),
        tuple(channels),
        tuple(accounts),
        _authority(transaction),
    )


def submit_result(result: Json) -> SubmitResult:
    """Read the answer to `submit`."""
    message = result.get("engine_result_message")
    return SubmitResult(_text(result, "engine_result"), bool(result.get("queued")), str(message)[:200])


def tickets(items: Iterable[Any]) -> list[int]:
    """Read the numbers of Ticket objects in a page of `account_objects`; other objects are passed over."""
    found = (item for item in items if isinstance(item, dict) and item.get("LedgerEntryType") == "Ticket")
    return [uint32(item, "TicketSequence") for item in found]


def channels_paying(items: Iterable[Any], account: Address, ledger_index: LedgerIndex) -> list[Channel]:
    """Read the channels whose destination is `account` in a page of `account_objects`.

    The directory of an account holds both directions, and other objects where the node filters nothing: all but what is
    asked for is passed over.
    """
    found = (i for i in items if isinstance(i, dict) and i.get("LedgerEntryType") == "PayChannel")
    return [
        ledger_channel(_channel_id(item, "index"), item, ledger_index)
        for item in found
        if item.get("Destination") == account
    ]


def open_fees(result: Json) -> OpenFees:
    """Read from the answer to `fee` what a reference transaction must offer now."""
    drops = inner(result, "drops")
    return OpenFees(_drops(drops, "open_ledger_fee"), _drops(drops, "minimum_fee"))
