"""What a content server asks of the claim desk and of the strongbox, and what it can be told."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from channeld.core.channel import Channel
from channeld.core.units import Address, ChannelId, Drops, Payee


class Code(enum.Enum):
    """Why a request was rejected: the contract's closed set."""

    BAD_REQUEST = "bad_request"
    BAD_RESPONSE_TOPIC = "bad_response_topic"
    UNKNOWN_PAYEE = "unknown_payee"
    LIMIT_EXCEEDED = "limit_exceeded"
    NO_HEADROOM = "no_headroom"
    ID_CONFLICT = "id_conflict"
    FROZEN = "frozen"
    BUSY = "busy"
    INTERNAL = "internal"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_CHANNEL = "unknown_channel"
    NOT_OURS = "not_ours"
    AMOUNT_NOT_HIGHER = "amount_not_higher"
    AMOUNT_EXCEEDS_CHANNEL = "amount_exceeds_channel"
    CHANNEL_CLOSING = "channel_closing"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Held:
    """A claim that a content server says it holds; all three parts are unverified."""

    channel_id: ChannelId
    amount: Drops
    signature: bytes


class Ask(NamedTuple):
    """A well-formed claim request.

    `key` names it (a 16-byte hash of server, topic and id), `contents` is a 16-byte hash of what it says beside its
    payee. `payee` is None where it named none. `drops` is 1 or more. `not_after` is in Unix seconds. `user` is empty
    where it named none; `tier` and `region` are what it asks for.
    """

    server: str
    key: bytes
    contents: bytes
    payee: Payee | None
    drops: int
    not_after: int | None
    held: Held | None
    user: str = ""
    tier: str | None = None
    region: str | None = None


@dataclass(slots=True, eq=False)
class SignedClaim:
    """A claim, and the channel as it stands with it. All requests that a group accepts on a channel share one.

    `signature` was made for `amount` in all, once that was on disk: it is empty before, and then never changes.
    `headroom` is what may still be signed. `paid` is None while the channel lives; afterwards it is what the payee got
    from it in all.
    """

    channel_id: ChannelId
    public_key: str
    source_account: Address
    destination_account: Address
    destination_tag: int | None
    amount: int = 0
    signature: bytes = b""
    headroom: int = 0
    paid: int | None = None


def unsigned(channel: Channel) -> SignedClaim:
    """A claim on a channel that says nothing yet."""
    whom = (channel.source_account, channel.destination_account, channel.destination_tag)
    return SignedClaim(channel.channel_id, channel.public_key, *whom)


class Granted(NamedTuple):
    """An accepted request: the slice `covers_from`..`covers_to` of the channel's cumulative amount is what it bought.

    `claim` is good for `covers_to` at least.
    """

    covers_from: int
    covers_to: int
    claim: SignedClaim
    replayed: bool


class Because(NamedTuple):
    """By which rules of `admit` a request was refused (the last one decided), on which facts, under which policy."""

    rules: tuple[str, ...]
    act: str
    facts: Mapping[str, int | str | None]
    policy_hash: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rejected request; nothing of it is remembered. `retry_after_ms` is None where trying again is of no use.

    `because` is for the history, where the policy refused it; no server is told.
    """

    code: Code
    reason: str
    retry_after_ms: int | None = None
    because: Because | None = field(default=None, compare=False)


class HandIn(NamedTuple):
    """A well-formed request to take in a claim that a payer signed for an account of ours.

    `key` and `contents` are as in `Ask`. `amount` is 1 or more and may be more than there is; `public_key` is
    upper-case hex. Nothing of the claim is verified.
    """

    server: str
    key: bytes
    contents: bytes
    channel_id: ChannelId
    amount: int
    signature: bytes
    public_key: str


class Taken(NamedTuple):
    """A claim that was taken in: it added `drops` to what was held, and is good for `amount` in all."""

    drops: int
    amount: int
    replayed: bool


Answer = Granted | Refusal
