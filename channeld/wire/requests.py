"""What all requests have in common: their bounds, their ids, and how they are read.

A request is decoded and validated in one step; what is wrong with it becomes a sentence that names the field. JSON is
read strictly: UTF-8 only, no unknown and no repeated fields, numbers only where the contract has them, and nothing so
deep or so large that it could hurt. An id that can be read is given back even where the rest is bad.

Sources: the contract, section 1; RFC 8259 section 4 (repeated names are left to the reader: here they are refused).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from channeld.core.errors import BadValue
from channeld.core.requests import Ask, HandIn, Refusal
from channeld.core.units import MAX_DROPS
from channeld.wire.strict import ID, readable_id, refuse_repeated

LARGEST_OBJECT: Final = 64 * 1024
"""Bytes of one request."""
LARGEST_BATCH: Final = 256 * 1024
"""Bytes of an array of requests."""
MOST_ITEMS: Final = 1000
LARGEST_ANSWERED: Final = 1024 * 1024
"""Bytes of a payload that is still answered; what is larger is dropped and counted."""

RequestId = Annotated[str, Meta(pattern=ID.pattern)]
"""An idempotency key."""
AmountText = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,17}\Z")]
"""Drops, 1 or more; whether there are as many is for the reader to say."""
_ALL_DROPS: Final = str(MAX_DROPS)
_Hex64 = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f]{64}\Z")]
_Hex = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f]{2,160}\Z")]
NameText = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]
"""A tier or a region."""

REMEDY: Final = {
    "id": "1 to 128 printable ASCII characters",
    "payee": "an address, address:tag or X-address",
    "drops": 'a string of digits, at least "1" and at most "100000000000000000", such as "1500"',
    "user": "a string of up to 128 characters",
    "content": "a string of up to 256 characters",
    "tier": "a name of up to 64 letters, digits, _ . -",
    "region": "a name of up to 64 letters, digits, _ . -",
    "not_after": "a whole number of Unix seconds",
    "held": "a claim object: channel_id, amount, signature and public_key",
    "claim": "a claim object: channel_id, amount, signature and public_key",
    "request": "the id of a claim request",
    "channels": "true",
    "totals": "from and to in Unix seconds",
    "after": "a string of up to 128 characters",
}
"""What each field must be, for who gets one wrong."""

_decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MANY_COMMAS: Final = 16 * MOST_ITEMS
"""More than stand in `MOST_ITEMS` claim requests, but for those in texts."""
_FLAT: Final = (
    rb'(?:[^][{}",\\]++|\s*+(?:"[^"\\]*+"|\[[^][{}",\\]*+\]|\{[^][{}"\\]*+(?:"[^"\\]*+"[^][{}"\\]*+)*+\})\s*+)'
)
_TOO_MANY: Final = re.compile(rb"\s*+\[(?:" + _FLAT + rb",){%d}" % MOST_ITEMS).match
"""The beginning of an array of more than `MOST_ITEMS` items, if those are small: looked for where reading all of them
would take longer than refusing a thousand."""
_HALF_A_PAIR: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
).search
_Request = TypeVar("_Request")


class ClaimObject(Struct, forbid_unknown_fields=True, gc=False):
    """A claim as it stands in JSON, word for word what the ledger's `channel_verify` takes."""

    channel_id: _Hex64
    amount: AmountText
    signature: _Hex
    public_key: _Hex

    def __post_init__(self) -> None:
        if (len(self.signature) | len(self.public_key)) & 1:  # a pattern that counts pairs takes five times as long
            raise ValueError("half of a byte in signature or public_key")
        if len(self.amount) == len(_ALL_DROPS) and self.amount > _ALL_DROPS:
            raise ValueError(f"amount: more drops than exist, at most {_ALL_DROPS}")


class BadRequest(Exception):
    """What is wrong with a request, and its id where that can be read."""

    def __init__(self, reason: str, request_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.request_id = reason, request_id


class Parsed(Struct, frozen=True, gc=False):
    """One item of a payload: its id where one could be read, and the request, or why it is none."""

    id: str | None
    ask: Ask | HandIn | Refusal


HASH: Final = blake2b(digest_size=16)
"""Keys and contents are kept as such digests. To be copied, which takes half as long as making one."""

# --- ids -------------------------------------------------------------------------------------------------------------


def request_key(server: str, topic: str, request_id: str) -> bytes:
    """16 bytes that name a request: ids are unique per server and topic. None of the three can contain a NUL."""
    return hashed(scope_of(server, topic), request_id.encode())


@lru_cache(maxsize=1024)
def scope_of(server: str, topic: str) -> blake2b:
    """What the ids of one server and topic are hashed behind; not to be changed, but copied."""
    scope = HASH.copy()
    scope.update(f"{server}\0{topic}\0".encode())
    return scope


def hashed(start: blake2b, said: bytes) -> bytes:
    """The digest of what was said so far and this."""
    copy = start.copy()
    copy.update(said)
    return copy.digest()


# --- reading ---------------------------------------------------------------------------------------------------------


def is_array(payload: bytes) -> bool:
    """Whether a payload is an array, if it is JSON at all."""
    first = payload[:1]
    return first == b"[" or (first != b"{" and payload.lstrip(b" \t\r\n")[:1] == b"[")


def items_of(payload: bytes) -> list[msgspec.Raw]:
    """The items of an array of requests, unread. Raises `BadRequest`."""
    if len(payload) > LARGEST_BATCH:
        raise BadRequest(f"a batch may have {LARGEST_BATCH} bytes, this one has {len(payload)}")
    if payload.count(b",") > _MANY_COMMAS and _TOO_MANY(payload):
        raise BadRequest(f"a batch has 1 to {MOST_ITEMS} items, this one has more")
    try:
        items = _decode_items(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(_not_json(payload, error)) from None
    if not 1 <= len(items) <= MOST_ITEMS:
        raise BadRequest(f"a batch has 1 to {MOST_ITEMS} items, this one has {len(items)}")
    return items


def read_object(raw: bytes, decode: Callable[[bytes], _Request]) -> _Request:
    """Decode and validate a request, and refuse repeated names; raises `BadRequest`."""
    request = decoded(raw, decode)
    check_repeated(raw)
    return request


def decoded(raw: bytes, decode: Callable[[bytes], _Request]) -> _Request:
    """Decode and validate a request; raises `BadRequest`. A repeated name is for the caller to look for."""
    if len(raw) > LARGEST_OBJECT:
        raise BadRequest(f"a request may have {LARGEST_OBJECT} bytes, this one has {len(raw)}")
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise BadRequest(_explain(str(error)), readable_id(raw)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(_not_json(raw, error)) from None


def check_repeated(raw: bytes) -> None:
    """Refuse JSON in which a name is repeated; raises `BadRequest`."""
    try:
        refuse_repeated(raw)
    except BadValue as error:
        raise BadRequest(str(error), readable_id(raw)) from None


def _not_json(raw: bytes, error: Exception) -> str:
    """Why it cannot be read. Of half a surrogate pair the decoder says something else."""
    if isinstance(error, RecursionError):
        return "not JSON that is read here: nested too deep"
    if _HALF_A_PAIR(raw):
        return "not JSON: half of a surrogate pair"
    why = _not_utf8(raw) if isinstance(error, UnicodeDecodeError) else None
    return f"not JSON: {why or error}"[:300]


def _not_utf8(raw: bytes) -> str | None:
    """What is wrong with the whole: the decoder counts from the beginning of the string that it is in.

    Not the error itself: with what it holds of the callers it would keep all of `raw` until garbage is collected.
    """
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return str(error)
    return None


def _explain(problem: str) -> str:
    """A validation error as a sentence that begins with the field."""
    what, _, path = problem.partition(" - at `$.")
    field = re.split(r"[`.\[]", path, maxsplit=1)[0] if path else ""
    if not field and (missing := re.search(r"(?:missing required|unknown) field `([^`]{0,64})`", problem)):
        known = f" ({REMEDY[missing[1]]})" if missing[1] in REMEDY else ""
        return f"{missing[1]}: {'missing' if 'missing' in problem else 'unknown field'}{known}"
    what = "not of the form that is asked for" if "matching regex" in what else what
    remedy = f" ({REMEDY[field]})" if field in REMEDY else ""
    return f"{field or 'request'}: {what}{remedy}"[:400]
