"""The reply to a claim request, in the contract's words.

It is written as text rather than encoded from an object: this is the last thing before the reply leaves, once for every
claim. Only an id and a reason need JSON's escapes; everything else is digits, hexadecimal or an address.

Sources: the contract, section 1, "claim".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from channeld.core.requests import Answer, Granted, Refusal, SignedClaim

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
    covers_from, covers_to, claim, replayed = granted
    shared, gone = _shared(claim)
    plain = request_id is not None and '"' not in request_id and "\\" not in request_id
    said = f'"{request_id}"' if plain else _encode(request_id).decode()
    return (
        f'{{"id":{said},"status":"accepted","drops":"{covers_to - covers_from}",'
        f'"covers":{{"from":"{covers_from}","to":"{covers_to}"}},{shared}{"true" if replayed else "false"}{gone}'
    ).encode("ascii")


@lru_cache(maxsize=512)
def _shared(claim: SignedClaim) -> tuple[str, str]:
    """What all requests on a claim are told: up to whether it is a replay, and from there on.

    The claim's object is word for word what the ledger's `channel_verify` takes.
    """
    gone = "" if claim.paid is None else f',"channel_state":"closed","paid":"{claim.paid}"'
    return (
        f'"claim":{{"channel_id":"{claim.channel_id}","amount":"{claim.amount}",'
        f'"signature":"{claim.signature.hex().upper()}","public_key":"{claim.public_key}"}},'
        f'"source_account":"{claim.source_account}","destination_account":"{claim.destination_account}",'
        f'"destination_tag":{"null" if claim.destination_tag is None else claim.destination_tag},'
        f'"headroom":"{claim.headroom}","replayed":'
    ), f"{gone}}}"
