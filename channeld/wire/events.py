"""What content servers are told without asking: their channels as retained messages, and events. JSON and topics."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from channeld.core.channel import Channel
from channeld.core.news import Event
from channeld.core.records import ChannelRecord
from channeld.core.units import Address, ChannelId, LedgerIndex
from channeld.wire.topics import Topics

encode: Final = msgspec.json.Encoder().encode
"""JSON, compact."""
_BELOW: Final = re.compile(r"([A-Za-z0-9_-]{1,64})/channels/([0-9A-F]{64})", re.ASCII)


def channel_topic(topics: Topics, server: str, channel_id: ChannelId) -> str:
    """Where a channel of a server is retained."""
    return f"{topics.servers}{server}/channels/{channel_id}"


def event_topic(topics: Topics, server: str) -> str:
    """Where a server is told what happens."""
    return f"{topics.servers}{server}/event"


def read_channel_topic(topics: Topics, topic: str) -> tuple[str, ChannelId] | None:
    """The server and the channel of a topic; None for any other topic."""
    if not topic.startswith(topics.servers):
        return None
    found = _BELOW.fullmatch(topic, len(topics.servers))
    return None if found is None else (found[1], ChannelId(found[2]))


def channel_state(record: ChannelRecord) -> str:
    """Where a channel stands for those it pays: no claim is issued on one that is closing."""
    if record.closed_at is not None:
        return "closed"
    return "open" if record.issuing and record.channel.expiration is None else "closing"


def channel_object(record: ChannelRecord) -> dict[str, Any]:
    """A channel as the contract shows it. Times are in seconds since 2000, as on the ledger."""
    return channel_facts(record.channel, channel_state(record))


def channel_facts(channel: Channel, state: str) -> dict[str, Any]:
    """Any channel as the contract shows it."""
    return {
        "channel_id": channel.channel_id,
        "state": state,
        "source_account": channel.source_account,
        "destination_account": channel.destination_account,
        "destination_tag": channel.destination_tag,
        "public_key": channel.public_key,
        "amount": str(channel.amount),
        "balance": str(channel.balance),
        "settle_delay": channel.settle_delay,
        "expiration": channel.expiration,
        "cancel_after": channel.cancel_after,
        "ledger_index": channel.ledger_index,
    }


def channel_payload(record: ChannelRecord) -> bytes:
    """The retained message of a channel."""
    return encode(channel_object(record))


class _Shown(msgspec.Struct):
    """What tells whose a retained message is."""

    source_account: str
    ledger_index: int


_read: Final = msgspec.json.Decoder(_Shown).decode


def channel_source(payload: bytes) -> tuple[Address, LedgerIndex] | None:
    """Whose channel a retained message shows, and as of which ledger; None for anything but a channel."""
    try:
        shown = _read(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Address(shown.source_account), LedgerIndex(shown.ledger_index)


def event_payload(seq: int, event: Event) -> bytes:
    """An event with its number; null where it has no such thing."""
    return encode(
        {
            "seq": seq,
            "event": event.news.value,
            "channel_id": event.channel_id,
            "destination_account": event.destination_account,
            "destination_tag": event.destination_tag,
            "amount": str(event.amount),
            "balance": str(event.balance),
            "expiration": event.expiration,
            "ledger_index": event.ledger_index,
            "hash": event.hash,
            "paid": None if event.paid is None else str(event.paid),
            "owed": None if event.owed is None else str(event.owed),
        }
    )
