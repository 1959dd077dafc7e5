"""Requests that are not decided: what they weigh, and how they are refused, without reading more than that takes."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from channeld.core.requests import Refusal
from channeld.wire.requests import LARGEST_OBJECT, MOST_ITEMS, BadRequest, RequestId, is_array, items_of


class _OnlyId(Struct, gc=False):
    """What is read of a request that is not decided."""

    id: RequestId


_decode_id: Final = msgspec.json.Decoder(_OnlyId).decode
_FIRST_ID: Final = re.compile(rb'\{"id":"([ !#-\[\]-~]{1,128})"', re.ASCII)
_encode: Final = msgspec.json.Encoder().encode


def weigh(payload: bytes) -> int:
    """What a payload costs, in requests, without reading it: its objects if it is an array, and each KiB counts as one.

    At least 1 and never less than the items that would be decided; braces within strings make it more. What is no
    object is refused, but that takes a reply as well: 16 of them count as one.
    """
    kib = len(payload) >> 10
    if payload[:1] == b"{":
        return kib or 1
    return max(1, kib, min(MOST_ITEMS, max(payload.count(b"{"), payload.count(b",") >> 4)))


def refuse_unread(payload: bytes, refusal: Refusal) -> bytes:
    """The reply that refuses a whole payload, reading no more of it than the ids: some 2 us for a single request."""
    said = b'"status":"rejected","code":"%b","reason":%b,"retry_after_ms":%d}' % (
        refusal.code.value.encode(),
        _encode(refusal.reason),
        refusal.retry_after_ms or 0,
    )
    if (found := _FIRST_ID.match(payload)) is not None:
        return b'{"id":"%b",%b' % (found[1], said)
    if not is_array(payload):
        return b'{"id":%b,%b' % (_only_id(payload), said)
    try:
        items = items_of(payload)
    except BadRequest:
        return b'{"id":null,' + said
    return b"[" + b",".join(b'{"id":%b,%b' % (_only_id(raw), said) for raw in items) + b"]"


def _only_id(raw: bytes | msgspec.Raw) -> bytes:
    """The id of a request as JSON, `null` where none can be read."""
    if len(raw) > LARGEST_OBJECT:
        return b"null"
    try:
        return _encode(_decode_id(raw).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"null"
