"""The `claim` topic: requests for signed claims, one or many in a message.

Sources: the contract, section 1, "claim".
"""

from __future__ import annotations

from functools import lru_cache, partial
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from channeld.core.errors import BadValue
from channeld.core.requests import Ask, Code, Held, Refusal
from channeld.core.units import MAX_DROPS, MAX_UINT32, ChannelId, Drops
from channeld.wire.payee import parse_payee
from channeld.wire.requests import (
    HASH,
    LARGEST_OBJECT,
    MOST_ITEMS,
    REMEDY,
    BadRequest,
    ClaimObject,
    NameText,
    Parsed,
    check_repeated,
    decoded,
    hashed,
    is_array,
    items_of,
    scope_of,
)


class _ClaimRequest(Struct, forbid_unknown_fields=True, gc=False):
    """A claim request as it stands in JSON; null means absent.

    What every request has is looked at later: a pattern costs more than all the rest of reading one.
    """

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    drops: Annotated[str, Meta(min_length=1, max_length=18)]
    payee: Annotated[str, Meta(max_length=80)] | None = None
    user: Annotated[str, Meta(max_length=128)] | None = None
    content: Annotated[str, Meta(max_length=256)] | None = None
    tier: NameText | None = None
    region: NameText | None = None
    not_after: Annotated[int, Meta(ge=0, le=MAX_UINT32 * 4)] | None = None
    held: ClaimObject | None = None


_decode_request: Final = msgspec.json.Decoder(_ClaimRequest).decode
_decode_batch: Final = msgspec.json.Decoder(list[_ClaimRequest]).decode
_encode: Final = msgspec.json.Encoder().encode


class ClaimReader:
    """Reads payloads of the `claim` topic for one network."""

    def __init__(self, network_id: int) -> None:
        # what is no payee is not kept: an error holds on to the whole request that it was raised for
        self._payee = lru_cache(maxsize=65_536)(partial(parse_payee, field="payee", network_id=network_id))

    def read(self, server: str, payload: bytes) -> tuple[list[Parsed], bool]:
        """All requests in a payload, and whether it was a batch (then the answer is one array in the same order).

        A batch that is none (empty, too long, not JSON) is a single bad request without an id. Never raises.
        """
        is_batch = is_array(payload)
        try:
            scope = scope_of(server, "claim")
            if not is_batch:
                return [self._item(server, scope, payload)], False
            if (requests := _plain_batch(payload)) is not None:
                return [self._parsed(server, scope, request) for request in requests], True
            return [self._item(server, scope, bytes(raw)) for raw in items_of(payload)], True
        except BadRequest as error:
            return [Parsed(None, Refusal(Code.BAD_REQUEST, error.reason))], False

    def _item(self, server: str, scope: blake2b, raw: bytes) -> Parsed:
        try:
            return self._parsed(server, scope, _read_request(raw))
        except BadRequest as error:
            return Parsed(error.request_id, Refusal(Code.BAD_REQUEST, error.reason))

    def _parsed(self, server: str, scope: blake2b, request: _ClaimRequest) -> Parsed:
        name, said, payee, held = request.id, request.drops, request.payee, request.held
        user, tier, region, not_after = request.user, request.tier, request.region, request.not_after
        try:
            if not (name.isascii() and name.isprintable()):
                raise BadValue("id", "not of the form that is asked for", REMEDY["id"])
            if not (said.isascii() and said.isdecimal() and said >= "1"):
                raise BadValue("drops", "not of the form that is asked for", REMEDY["drops"])
            if (drops := int(said)) > MAX_DROPS:
                raise BadValue("drops", "more than exist", REMEDY["drops"])
            whom = None if payee is None else self._payee(payee)
        except BadValue as error:
            return Parsed(None if error.field == "id" else name, Refusal(Code.BAD_REQUEST, str(error)))
        # everything beside the payee (compared resolved) and `held` (which only advises)
        contents = hashed(HASH, _encode((said, user, request.content, tier, region, not_after)))
        key = hashed(scope, name.encode())
        best = None if held is None else _held(held)
        return Parsed(name, Ask(server, key, contents, whom, drops, not_after, best, user or "", tier, region))


def _held(claim: ClaimObject) -> Held:
    amount = Drops(int(claim.amount))
    return Held(ChannelId(claim.channel_id.upper()), amount, bytes.fromhex(claim.signature))


def _plain_batch(payload: bytes) -> list[_ClaimRequest] | None:
    """A batch read in one step; None where an item needs a look of its own (see `_quotes`), or is bad.

    Every mark too many is one more than an item's own, so none hides behind another item's.
    """
    if len(payload) > LARGEST_OBJECT or b"\\" in payload:
        return None
    try:
        requests = _decode_batch(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    plain = 1 <= len(requests) <= MOST_ITEMS and payload.count(b'"') == sum(map(_quotes, requests))
    return requests if plain else None


def _read_request(raw: bytes) -> _ClaimRequest:
    """The same of a claim request, where repeated names are looked for only if there can be any."""
    request = decoded(raw, _decode_request)
    if raw.count(b'"') != _quotes(request) or b"\\" in raw:
        check_repeated(raw)
    return request


def _quotes(request: _ClaimRequest) -> int:
    """Quotation marks in the JSON of this request if it has no escapes, no nulls and no repeated name.

    Every mark then opens or closes a name or a string, so one name more shows. Where the count differs for another
    reason the slow check decides.
    """
    return (
        8
        + 4 * (request.payee is not None)
        + 4 * (request.user is not None)
        + 4 * (request.content is not None)
        + 4 * (request.tier is not None)
        + 4 * (request.region is not None)
        + 2 * (request.not_after is not None)
        + 18 * (request.held is not None)
    )
