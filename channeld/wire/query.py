"""Queries: what a content server may read, and the answers. The only room that knows their JSON.

A query names one thing: a request by its id, its own channels, or its own totals. What may be long comes in pages of
at most `PAGE` entries: where `more` is true the next page is what comes `after` the last entry of this one.

Sources: the contract, section 1, "query".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from channeld.core.errors import BadValue
from channeld.core.records import ChannelRecord
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.units import DAY_S, HOUR_S, MAX_UINT32
from channeld.wire.events import channel_object, channel_state, encode
from channeld.wire.replies import reply
from channeld.wire.requests import BadRequest, RequestId, read_object, request_key
from channeld.wire.strict import readable_id

PAGE: Final = 1000
"""Entries of one answer: 500 bytes each at most, so that an answer stays below 1 MiB."""
LONGEST_SPAN_S: Final = 366 * DAY_S
PAGE_COST: Final = 100
"""What a query that reads more than one request costs, in requests."""
_ONE_REQUEST: Final = re.compile(rb'"request"\s*:\s*"').search
"""Stands in what asks for one request, and else only in what is refused: to ask for more besides is too much."""

_Time = Annotated[int, Meta(ge=0, le=MAX_UINT32 * 4)]
_REMEDY: Final = "an id and one of: request (an id), channels (true), totals (from and to in Unix seconds)"


class Span(Struct, forbid_unknown_fields=True, frozen=True):
    """From Unix second `start`, inclusive, to `to`, exclusive."""

    start: _Time = msgspec.field(name="from")
    to: _Time


class Query(Struct, forbid_unknown_fields=True, frozen=True):
    """A query as it stands in JSON; null means absent. Exactly one of `request`, `channels` and `totals` is there."""

    id: RequestId
    request: RequestId | None = None
    channels: bool | None = None
    totals: Span | None = None
    after: Annotated[str, Meta(max_length=128)] | None = None

    def key(self, server: str, topic: str) -> bytes:
        """What names the request that is asked for, if it was one of this topic: "claim" or "receive"."""
        return request_key(server, topic, self.request or "")


class Total(NamedTuple):
    """How many requests for a payee (None: none was readable) ended with a code, and for how many drops in all."""

    payee: str | None
    code: str
    requests: int
    drops: int


_decode: Final = msgspec.json.Decoder(Query).decode


def weigh_query(payload: bytes) -> int:
    """What a query costs, in requests, without reading it: each KiB counts as one, and a page as `PAGE_COST`."""
    return max(1 if _ONE_REQUEST(payload) else PAGE_COST, len(payload) >> 10)


def read_query(payload: bytes) -> Query | tuple[str | None, Refusal]:
    """A query; or the id, where one can be read, and why it is none. Never raises."""
    try:
        query = read_object(payload, _decode)
        if (query.request is not None) + (query.channels is True) + (query.totals is not None) != 1:
            raise BadValue("query", "asks for nothing, or for more than one thing", _REMEDY)
        if query.totals is not None and not 0 < query.totals.to - query.totals.start <= LONGEST_SPAN_S:
            raise BadValue("totals", "not a span of time", f"`to` after `from`, at most {LONGEST_SPAN_S} s")
    except BadRequest as error:
        return error.request_id, Refusal(Code.BAD_REQUEST, error.reason)
    except BadValue as error:
        return readable_id(payload), Refusal(Code.BAD_REQUEST, str(error))
    return query


# --- answers ---------------------------------------------------------------------------------------------------------


def refused(request_id: str | None, refusal: Refusal) -> bytes:
    """A query that is not answered."""
    return reply(request_id, refusal)


def unknown(query: Query) -> bytes:
    """No request with this id was accepted, or it is longer ago than ids are remembered."""
    said = {
        "id": query.id,
        "status": "unknown",
        "request": query.request,
        "code": "unknown_request",
        "reason": "no request with this id is remembered as accepted: if it was sent within the time for which ids are"
        " remembered it debited nothing, and may be sent again",
    }
    return encode(said)


def decided(query: Query, granted: Granted, record: ChannelRecord, received: dict[str, Any] | None = None) -> bytes:
    """The answer that a replay of the request would get, and what becomes of its claim. `received`: what became of a
    claim that was handed in by the same id.
    """
    said: dict[str, Any] = msgspec.json.decode(reply(query.id, granted))
    said |= {
        "request": query.request,
        "channel_state": channel_state(record),
        "paid": str(record.channel.balance),
        "next": _next(granted, record),
    }
    return encode(said if received is None else {**said, "received": received})


def handed_in(query: Query, received: dict[str, Any]) -> bytes:
    """The answer that a replay of a claim handed in would get, and what becomes of it."""
    about = {"request": query.request, "topic": "receive"}
    return encode({"id": query.id, "status": "accepted", "replayed": True, **about, **received})


def _next(granted: Granted, record: ChannelRecord) -> str:
    """What becomes of what the request bought."""
    if record.channel.balance >= granted.covers_to:
        return "paid"
    if record.closed_at is not None:
        return "forgone"
    return "will_be_paid" if record.channel.expiration is None else "hand_in_before_expiration"


def channels(query: Query, page: Sequence[ChannelRecord], *, more: bool) -> bytes:
    """A page of a server's channels, in the order of their ids."""
    found = [channel_object(record) for record in page]
    return encode({"id": query.id, "status": "ok", "channels": found, "more": more})


def totals(query: Query, page: Sequence[Total], *, more: bool) -> bytes:
    """A page of a server's totals, in the order of payees. Whole hours: `from` is rounded down and `to` up."""
    assert query.totals is not None
    first, end = hours(query.totals)
    found = [{"payee": t.payee, "code": t.code, "requests": t.requests, "drops": str(t.drops)} for t in page]
    span = {"from": first * HOUR_S, "to": end * HOUR_S}
    return encode({"id": query.id, "status": "ok", "totals": {**span, "entries": found}, "more": more})


def hours(span: Span) -> tuple[int, int]:
    """The hours (Unix time / 3600) that a span touches: from the first, inclusive, to the end, exclusive."""
    return span.start // HOUR_S, -(-span.to // HOUR_S)
