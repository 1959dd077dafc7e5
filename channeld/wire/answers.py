"""The claim contract as a content server sees it: write requests, read answers and retained channel states.

The other side of `wire.claims` and `wire.replies`, on the standard library alone, so that a client stays light. What
comes is read as strictly as the daemon reads requests, for it is money: exact types, no repeated names, no guesses;
only unknown fields are passed over, for contracts grow new ones.

Sources: the contract, section 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from channeld.core.channel import Channel
from channeld.core.errors import BadValue, Malformed
from channeld.core.units import (
    MAX_UINT32,
    Address,
    ChannelId,
    Drops,
    LedgerIndex,
    Payee,
    Seconds,
    parse_channel_id,
    parse_drops,
)
from channeld.wire.fields import Json, inner, optional_uint32, ripple_time, uint32
from channeld.wire.payee import parse_address

LARGEST_REPLY: Final = 1024 * 1024
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){1,80}", re.ASCII)
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_STATES: Final = frozenset({"opening", "open", "closing", "closed"})


@dataclass(frozen=True, slots=True)
class Claim:
    """What a payee collects with: the channel owes `amount` drops in all, signed. Hex is upper-case."""

    channel_id: ChannelId
    amount: Drops
    signature: str
    public_key: str

    def as_json(self) -> dict[str, str]:
        """Word for word what the ledger's `channel_verify` takes."""
        return {
            "channel_id": self.channel_id,
            "amount": str(self.amount),
            "signature": self.signature,
            "public_key": self.public_key,
        }


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that bought the slice `covers_from`..`covers_to` of a channel's cumulative amount.

    `claim` is worth the slice and all before it. `headroom` is what could still be signed then. `replayed` says that
    the id had been accepted before; `paid` is set where the channel is gone by now: what the payee got from it in all.
    """

    id: str
    drops: Drops
    covers_from: Drops
    covers_to: Drops
    claim: Claim
    source_account: Address
    payee: Payee
    headroom: Drops
    replayed: bool = False
    paid: Drops | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request that was not decided in our favour; nothing of it is remembered.

    `id` is None where the daemon could not read one. `retry_after_ms` is None where trying again is of no use.
    """

    id: str | None
    code: str
    reason: str
    retry_after_ms: int | None


class ChannelState(NamedTuple):
    """A retained channel object: `state` is opening, open, closing or closed."""

    state: str
    channel: Channel


class Question(Protocol):
    """What of a request is sent: its id, and its other fields as JSON."""

    @property
    def id(self) -> str:
        """The id."""
        ...

    @property
    def contents(self) -> str:
        """The other fields: a JSON object's text, as it was stored before the first sending."""
        ...


# --- requests --------------------------------------------------------------------------------------------------------


def contents_of(
    payee: Payee,
    drops: int,
    not_after: int,
    *,
    user: str | None = None,
    content: str | None = None,
    tier: str | None = None,
    region: str | None = None,
) -> str:
    """All of a claim request but its id and `held`, as JSON text. Equal text means the same request."""
    said = {
        "payee": str(payee),
        "drops": str(drops),
        "user": user,
        "content": content,
        "tier": tier,
        "region": region,
        "not_after": not_after,
    }
    return json.dumps({k: v for k, v in said.items() if v is not None}, separators=(",", ":"), ensure_ascii=False)


def claim_request(question: Question, held: Claim | None) -> str:
    """One request. `held`, the best claim we hold, lets the daemon notice that its store is old."""
    parts = [f'{{"id":{json.dumps(question.id)}', question.contents[1:-1]]
    if held is not None:
        parts.append('"held":' + json.dumps(held.as_json(), separators=(",", ":")))
    return ",".join(parts) + "}"


# --- answers ---------------------------------------------------------------------------------------------------------


def read_answers(payload: bytes) -> tuple[list[Accepted | Rejected | Malformed], bool]:
    """All answers in a payload, and whether it was an array.

    What is no answer stands as a `Malformed` in its place, for its neighbours may have been accepted. Raises
    `Malformed` for a payload that is no JSON.
    """
    said = _json(payload)
    if isinstance(said, list):
        return [_item(item) for item in said], True
    return [_item(said)], False


def _item(said: Any) -> Accepted | Rejected | Malformed:
    try:
        return _answer(said)
    except Malformed as error:
        return error


def read_channel_state(payload: bytes) -> ChannelState:
    """A retained channel object. Raises `Malformed`."""
    said = _json(payload)
    if not isinstance(said, dict):
        raise Malformed("a channel is a JSON object")
    if said.get("state") not in _STATES:
        raise Malformed("state: not one of opening, open, closing, closed")
    try:
        channel = Channel(
            parse_channel_id(said.get("channel_id"), "channel_id"),
            parse_address(said.get("source_account"), "source_account"),
            parse_address(said.get("destination_account"), "destination_account"),
            optional_uint32(said, "destination_tag"),
            _hex(said, "public_key"),
            parse_drops(said.get("amount"), "amount"),
            parse_drops(said.get("balance"), "balance"),
            Seconds(uint32(said, "settle_delay")),
            ripple_time(said, "expiration"),
            ripple_time(said, "cancel_after"),
            LedgerIndex(uint32(said, "ledger_index")),
        )
    except BadValue as error:
        raise Malformed(str(error)) from None
    return ChannelState(said["state"], channel)


def accepted_json(accepted: Accepted) -> str:
    """An answer as text that `read_accepted` reads again."""
    said: dict[str, Any] = {
        "id": accepted.id,
        "status": "accepted",
        "drops": str(accepted.drops),
        "covers": {"from": str(accepted.covers_from), "to": str(accepted.covers_to)},
        "claim": accepted.claim.as_json(),
        "source_account": accepted.source_account,
        "destination_account": accepted.payee.account,
        "destination_tag": accepted.payee.tag,
        "headroom": str(accepted.headroom),
        "replayed": accepted.replayed,
    }
    if accepted.paid is not None:
        said |= {"channel_state": "closed", "paid": str(accepted.paid)}
    return json.dumps(said, separators=(",", ":"))


def read_accepted(text: str) -> Accepted:
    """An answer that `accepted_json` wrote. Raises `Malformed`."""
    answer = _answer(_json(text.encode()))
    if isinstance(answer, Rejected):
        raise Malformed("status: not accepted")
    return answer


def _json(payload: bytes) -> Any:
    if len(payload) > LARGEST_REPLY:
        raise Malformed(f"an answer may have {LARGEST_REPLY} bytes, this one has {len(payload)}")
    try:
        return json.loads(payload.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}"[:200]) from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands in an object more than once")
    return fields


def _answer(said: Any) -> Accepted | Rejected:
    if not isinstance(said, dict):
        raise Malformed("an answer is a JSON object")
    status = said.get("status")
    if status == "rejected":
        return _rejected(said)
    if status != "accepted":
        raise Malformed("status: neither accepted nor rejected")
    try:
        return _accepted(said)
    except BadValue as error:
        raise Malformed(str(error)) from None


def _accepted(said: Json) -> Accepted:
    covers, claim = inner(said, "covers"), inner(said, "claim")
    account = parse_address(said.get("destination_account"), "destination_account")
    closed = said.get("channel_state")
    if closed not in (None, "closed"):
        raise Malformed("channel_state: neither absent nor closed")
    return Accepted(
        _id(said),
        parse_drops(said.get("drops"), "drops"),
        parse_drops(covers.get("from"), "covers.from"),
        parse_drops(covers.get("to"), "covers.to"),
        Claim(
            parse_channel_id(claim.get("channel_id"), "claim.channel_id"),
            parse_drops(claim.get("amount"), "claim.amount"),
            _hex(claim, "signature"),
            _hex(claim, "public_key"),
        ),
        parse_address(said.get("source_account"), "source_account"),
        Payee(account, optional_uint32(said, "destination_tag")),
        parse_drops(said.get("headroom"), "headroom"),
        _bool(said, "replayed"),
        None if closed is None else parse_drops(said.get("paid"), "paid"),
    )


def _rejected(said: Json) -> Rejected:
    code, reason, wait = said.get("code"), said.get("reason"), said.get("retry_after_ms")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise Malformed("code: not a word")
    if not isinstance(reason, str):
        raise Malformed("reason: not a string")
    if wait is not None and (type(wait) is not int or not 0 <= wait <= MAX_UINT32):
        raise Malformed("retry_after_ms: not a number of milliseconds")
    return Rejected(None if said.get("id") is None else _id(said), code, reason[:1000], wait)


def _id(said: Json) -> str:
    if isinstance(value := said.get("id"), str) and 1 <= len(value) <= 128:
        return value
    raise Malformed("id: not a string of 1 to 128 characters")


def _bool(said: Json, name: str) -> bool:
    if isinstance(value := said.get(name), bool):
        return value
    raise Malformed(f"{name}: neither true nor false")


def _hex(said: Json, name: str) -> str:
    if isinstance(value := said.get(name), str) and _HEX.fullmatch(value):
        return value.upper()
    raise Malformed(f"{name}: not hex")
