"""The reply to a claim request, in the contract's words.

It is written as text rather than encoded from an object: this is the last thing before the reply leaves, once for every
claim. Only an id and a reason need JSON's escapes; everything else is digits, hexadecimal or an address.

Sources: the contract, section 1, "claim".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from channeld.core.requests import Answer, Granted, Refusal
from channeld.core.units import Address, ChannelId

_encode = msgspec.json.Encoder().encode


def reply(request_id: str | None, answer: Answer) -> bytes:
    """The reply to one request: a JSON object."""
    if isinstance(answer, Refusal):
        return _rejected(request_id, answer)
    return _accepted(request_id, answer)


def replies(items: Sequence[bytes]) -> bytes:
    """The reply to a batch: the replies to its items, in their order."""
    return b"[" + b",".join(items) + b"]"


def _rejected(request_id: str | None, refusal: Refusal) -> bytes:
    said = {"id": request_id, "status": "rejected", "code": refusal.code.value, "reason": refusal.reason}
    if refusal.retry_after_ms is not None:
        said["retry_after_ms"] = refusal.retry_after_ms  # type: ignore[assignment]
    return _encode(said)


def _accepted(request_id: str | None, granted: Granted) -> bytes:
    (channel_id, covers_from, covers_to, amount, signature, public_key, *parties, headroom, replayed, paid) = granted
    gone = "" if paid is None else f',"channel_state":"closed","paid":"{paid}"'
    return (
        f'{{"id":{_encode(request_id).decode()},"status":"accepted","drops":"{covers_to - covers_from}",'
        f'"covers":{{"from":"{covers_from}","to":"{covers_to}"}},'
        f"{_claim(channel_id, amount, signature, public_key)},{_parties(*parties)},"
        f'"headroom":"{headroom}","replayed":{"true" if replayed else "false"}{gone}}}'
    ).encode("ascii")


@lru_cache(maxsize=64)
def _claim(channel_id: ChannelId, amount: int, signature: bytes, public_key: str) -> str:
    """Word for word what the ledger's `channel_verify` takes. Requests of one group may share a claim."""
    return (
        f'"claim":{{"channel_id":"{channel_id}","amount":"{amount}",'
        f'"signature":"{signature.hex().upper()}","public_key":"{public_key}"}}'
    )


@lru_cache(maxsize=4096)
def _parties(source: Address, destination: Address, tag: int | None) -> str:
    return (
        f'"source_account":"{source}","destination_account":"{destination}",'
        f'"destination_tag":{"null" if tag is None else tag}'
    )
