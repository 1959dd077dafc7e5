"""Topics and requests of the MQTT contract: with `wire.replies` the only room that knows their JSON.

A request is decoded and validated in one step; what is wrong with it becomes a sentence that names the field. JSON is
read strictly: UTF-8 only, no unknown and no repeated fields, numbers only where the contract has them, and nothing so
deep or so large that it could hurt. An id that can be read is given back even where the rest is bad.

Sources: the contract, section 1; RFC 8259 section 4 (repeated names are left to the reader: here they are refused).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from channeld.core.errors import BadValue, Malformed
from channeld.core.requests import Ask, Code, HandIn, Held, Refusal
from channeld.core.units import MAX_DROPS, MAX_UINT32, ChannelId, Drops
from channeld.core.witness import Witness
from channeld.wire.payee import parse_payee
from channeld.wire.strict import readable_id, refuse_repeated

LARGEST_OBJECT: Final = 64 * 1024
"""Bytes of one request."""
LARGEST_BATCH: Final = 256 * 1024
"""Bytes of an array of requests."""
MOST_ITEMS: Final = 1000
LARGEST_ANSWERED: Final = 1024 * 1024
"""Bytes of a payload that is still answered; what is larger is dropped and counted."""

_LONGEST_SERVER: Final = 64
_SERVER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

RequestId = Annotated[str, Meta(pattern=r"\A[\x20-\x7e]{1,128}\Z")]
"""An idempotency key."""
_Drops = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,17}\Z")]
_Hex64 = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f]{64}\Z")]
_Hex = Annotated[str, Meta(pattern=r"\A(?:[0-9A-Fa-f]{2}){1,80}\Z")]
_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]

_REMEDY: Final = {
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
}


class ClaimObject(Struct, forbid_unknown_fields=True, gc=False):
    """A claim as it stands in JSON, word for word what the ledger's `channel_verify` takes."""

    channel_id: _Hex64
    amount: _Drops
    signature: _Hex
    public_key: _Hex


class _ClaimRequest(Struct, forbid_unknown_fields=True, gc=False):
    """A claim request as it stands in JSON; null means absent."""

    id: RequestId
    drops: _Drops
    payee: Annotated[str, Meta(max_length=80)] | None = None
    user: Annotated[str, Meta(max_length=128)] | None = None
    content: Annotated[str, Meta(max_length=256)] | None = None
    tier: _Name | None = None
    region: _Name | None = None
    not_after: Annotated[int, Meta(ge=0, le=MAX_UINT32 * 4)] | None = None
    held: ClaimObject | None = None


class _OnlyId(Struct, gc=False):
    """What is read of a request that is not decided."""

    id: RequestId


_decode_request: Final = msgspec.json.Decoder(_ClaimRequest).decode
_decode_batch: Final = msgspec.json.Decoder(list[_ClaimRequest]).decode
_decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_id: Final = msgspec.json.Decoder(_OnlyId).decode
_FIRST_ID: Final = re.compile(rb'\{"id":"([ !#-\[\]-~]{1,128})"', re.ASCII)
_encode: Final = msgspec.json.Encoder().encode


_Request = TypeVar("_Request")


class BadRequest(Exception):
    """What is wrong with a request, and its id where that can be read."""

    def __init__(self, reason: str, request_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.request_id = reason, request_id


# --- topics ----------------------------------------------------------------------------------------------------------


class Topics:
    """The topics under one prefix."""

    def __init__(self, prefix: str, daemon: str) -> None:
        self.servers = f"{prefix}/servers/"
        self._longest = len(self.servers) + _LONGEST_SERVER + len("/receive")
        self._known = lru_cache(maxsize=65_536)(self._request)
        self._daemons = f"{prefix}/daemons/"
        self.status = f"{prefix}/daemons/{daemon}/status"
        self.every_status = f"{prefix}/daemons/+/status"
        self.witness = f"{prefix}/daemons/{daemon}/witness"
        self.channels = f"{prefix}/servers/+/channels/+"
        self.requests = tuple(f"{prefix}/servers/+/{verb}" for verb in ("claim", "receive", "query"))

    def request(self, topic: str) -> tuple[str, str] | None:
        """The server and the verb of a request topic; None for any other topic."""
        return self._known(topic) if len(topic) <= self._longest else None

    def _request(self, topic: str) -> tuple[str, str] | None:
        if not topic.startswith(self.servers):
            return None
        server, _, verb = topic[len(self.servers) :].partition("/")
        known = verb in ("claim", "receive", "query") and _SERVER.fullmatch(server) is not None
        return (server, verb) if known else None

    def daemon(self, topic: str) -> str | None:
        """Whose status topic this is; None for any other topic."""
        name, _, rest = topic.removeprefix(self._daemons).partition("/")
        return name if topic.startswith(self._daemons) and rest == "status" else None

    def reply(self, server: str) -> str:
        """Where answers go by default."""
        return f"{self.servers}{server}/reply"

    def allows_response(self, server: str, topic: str) -> bool:
        """Whether a Response Topic is the server's own: its reply topic or below it, and a topic one may publish to."""
        own = self.reply(server)
        if topic == own:
            return True
        plain = "+" not in topic and "#" not in topic and "\0" not in topic
        return plain and len(topic) <= 1024 and topic.startswith(own + "/")


def status_payload(instance: str, version: str, wallets: Sequence[str], *, online: bool) -> bytes:
    """The retained presence of a daemon."""
    status = "online" if online else "offline"
    return _encode({"status": status, "instance": instance, "version": version, "wallets": list(wallets)})


def read_status(payload: bytes) -> tuple[bool, str, frozenset[str]]:
    """What a daemon says of itself: whether it is online, its instance, its wallets. Raises `Malformed`."""
    try:
        said = json.loads(payload)
        status, instance, wallets = said["status"], said["instance"], said["wallets"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("not a status") from None
    texts = (status, instance, *wallets) if isinstance(wallets, list) else (None,)
    if not all(isinstance(text, str) for text in texts):
        raise Malformed("not a status")
    return status == "online", instance[:64], frozenset(wallets)


def witness_payload(witness: Witness) -> bytes:
    """The retained message that bears witness to a store."""
    return _encode({"store_id": witness.store_id, "data_version": witness.data_version})


def marker_payload(marker: str) -> bytes:
    """What is published to the witness topic, not retained, to know when all that was retained there has come."""
    return _encode({"marker": marker})


def read_witness(payload: bytes) -> Witness | str:
    """What came on the witness topic: a witness, or the text of a marker. Raises `Malformed` for anything else."""
    try:
        said = json.loads(payload)
        if isinstance(said, dict) and isinstance(marker := said.get("marker"), str):
            return marker
        store_id, version = said["store_id"], said["data_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("not a witness") from None
    if isinstance(store_id, str) and type(version) is int and version >= 0:
        return Witness(store_id, version)
    raise Malformed("not a witness")


# --- requests --------------------------------------------------------------------------------------------------------


class Parsed(Struct, frozen=True, gc=False):
    """One item of a payload: its id where one could be read, and the request, or why it is none."""

    id: str | None
    ask: Ask | HandIn | Refusal


class ClaimReader:
    """Reads payloads of the `claim` topic for one network."""

    def __init__(self, network_id: int) -> None:
        # what is no payee is not kept: an error holds on to the whole request that it was raised for
        self._payee = lru_cache(maxsize=65_536)(partial(parse_payee, field="payee", network_id=network_id))

    def read(self, server: str, payload: bytes) -> tuple[list[Parsed], bool]:
        """All requests in a payload, and whether it was a batch (then the answer is one array in the same order).

        A batch that is none (empty, too long, not JSON) is a single bad request without an id. Never raises.
        """
        is_batch = payload[:64].lstrip(b" \t\r\n")[:1] == b"["
        try:
            scope = _scope(server, "claim")
            if not is_batch:
                return [self._item(server, scope, payload)], False
            if (requests := _plain_batch(payload)) is not None:
                return [self._parsed(server, scope, request) for request in requests], True
            return [self._item(server, scope, bytes(raw)) for raw in _items(payload)], True
        except BadRequest as error:
            return [Parsed(None, Refusal(Code.BAD_REQUEST, error.reason))], False

    def _item(self, server: str, scope: bytes, raw: bytes) -> Parsed:
        try:
            return self._parsed(server, scope, _read_request(raw))
        except BadRequest as error:
            return Parsed(error.request_id, Refusal(Code.BAD_REQUEST, error.reason))

    def _parsed(self, server: str, scope: bytes, request: _ClaimRequest) -> Parsed:
        try:
            return Parsed(request.id, self._ask(server, scope, request))
        except BadValue as error:
            return Parsed(request.id, Refusal(Code.BAD_REQUEST, str(error)))

    def _ask(self, server: str, scope: bytes, request: _ClaimRequest) -> Ask:
        said, user, tier, region = request.drops, request.user, request.tier, request.region
        payee, held = request.payee, request.held
        if (drops := int(said)) > MAX_DROPS:
            raise BadValue("drops", "more than exist", _REMEDY["drops"])
        # everything beside the payee (compared resolved) and `held` (which only advises)
        contents = _encode((said, user, request.content, tier, region, request.not_after))
        return Ask(
            server,
            _hash16(scope + request.id.encode()),
            _hash16(contents),
            None if payee is None else self._payee(payee),
            drops,
            request.not_after,
            None if held is None else _held(held),
            user or "",
            tier,
            region,
        )


def _held(claim: ClaimObject) -> Held:
    amount = Drops(int(claim.amount))
    return Held(ChannelId(claim.channel_id.upper()), amount, bytes.fromhex(claim.signature))


def request_key(server: str, topic: str, request_id: str) -> bytes:
    """16 bytes that name a request: ids are unique per server and topic. None of the three can contain a NUL."""
    return _hash16(_scope(server, topic) + request_id.encode())


def _scope(server: str, topic: str) -> bytes:
    """What the ids of one server and topic are hashed behind."""
    return f"{server}\0{topic}\0".encode()


def _hash16(said: bytes) -> bytes:
    return blake2b(said, digest_size=16).digest()


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


def _items(payload: bytes) -> list[msgspec.Raw]:
    if len(payload) > LARGEST_BATCH:
        raise BadRequest(f"a batch may have {LARGEST_BATCH} bytes, this one has {len(payload)}")
    try:
        items = _decode_items(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not JSON: {error}"[:300]) from None
    if not 1 <= len(items) <= MOST_ITEMS:
        raise BadRequest(f"a batch has 1 to {MOST_ITEMS} items, this one has {len(items)}")
    return items


def read_object(raw: bytes, decode: Callable[[bytes], _Request]) -> _Request:
    """Decode and validate a request, and refuse repeated names; raises `BadRequest`."""
    request = _decoded(raw, decode)
    _refuse_repeated(raw)
    return request


def _decoded(raw: bytes, decode: Callable[[bytes], _Request]) -> _Request:
    if len(raw) > LARGEST_OBJECT:
        raise BadRequest(f"a request may have {LARGEST_OBJECT} bytes, this one has {len(raw)}")
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise BadRequest(_explain(str(error)), readable_id(raw)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not JSON: {error}"[:300]) from None


def _read_request(raw: bytes) -> _ClaimRequest:
    """The same of a claim request, where repeated names are looked for only if there can be any."""
    request = _decoded(raw, _decode_request)
    if raw.count(b'"') != _quotes(request) or b"\\" in raw:
        _refuse_repeated(raw)
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


def _refuse_repeated(raw: bytes) -> None:
    try:
        refuse_repeated(raw)
    except BadValue as error:
        raise BadRequest(str(error), readable_id(raw)) from None


def _explain(problem: str) -> str:
    """A validation error as a sentence that begins with the field."""
    what, _, path = problem.partition(" - at `$.")
    field = re.split(r"[`.\[]", path, maxsplit=1)[0] if path else ""
    if not field and (missing := re.search(r"(?:missing required|unknown) field `([^`]{0,64})`", problem)):
        known = f" ({_REMEDY[missing[1]]})" if missing[1] in _REMEDY else ""
        return f"{missing[1]}: {'missing' if 'missing' in problem else 'unknown field'}{known}"
    what = "not of the form that is asked for" if "matching regex" in what else what
    remedy = f" ({_REMEDY[field]})" if field in _REMEDY else ""
    return f"{field or 'request'}: {what}{remedy}"[:400]


# --- what is not decided ---------------------------------------------------------------------------------------------


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
    if payload[:64].lstrip(b" \t\r\n")[:1] != b"[":
        return b'{"id":%b,%b' % (_only_id(payload), said)
    try:
        items = _items(payload)
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
