"""The `receive` topic: claims that payers signed for accounts of ours, as content servers hand them over.

One object a message, read as strictly as a claim request. What the claim is worth, nothing here knows.

Sources: the contract, section 1, receive.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from channeld.core.records import Incoming
from channeld.core.requests import Code, HandIn, Refusal, Taken
from channeld.core.units import ChannelId
from channeld.wire.requests import HASH, BadRequest, ClaimObject, Parsed, RequestId, hashed, read_object, request_key


class _Request(Struct, forbid_unknown_fields=True, gc=False):
    id: RequestId
    claim: ClaimObject


_decode: Final = msgspec.json.Decoder(_Request).decode
_encode: Final = msgspec.json.Encoder().encode


def read_hand_in(server: str, payload: bytes) -> Parsed:
    """The claim in a payload of the `receive` topic, or why it is none. Never raises."""
    try:
        request = read_object(payload, _decode)
    except BadRequest as error:
        return Parsed(error.request_id, Refusal(Code.BAD_REQUEST, error.reason))
    claim, key = request.claim, request_key(server, "receive", request.id)
    said = (claim.channel_id.upper(), int(claim.amount), claim.signature.upper(), claim.public_key.upper())
    contents = hashed(HASH, "\0".join(map(str, said)).encode())
    channel_id, amount, signature, public_key = said
    return Parsed(
        request.id, HandIn(server, key, contents, ChannelId(channel_id), amount, bytes.fromhex(signature), public_key)
    )


def taken_in(request_id: str | None, taken: Taken) -> bytes:
    """The reply to a claim that was taken in."""
    return _encode(
        {
            "id": request_id,
            "status": "accepted",
            "drops": str(taken.drops),
            "amount": str(taken.amount),
            "replayed": taken.replayed,
        }
    )


def held_state(held: Incoming) -> str:
    """Where a channel that pays us stands."""
    if held.closed_at is not None:
        return "closed"
    return "open" if held.channel.expiration is None else "closing"


def became(drops: int, amount: int, held: Incoming) -> dict[str, Any]:
    """What a claim that was taken in added and was good for, and what becomes of it."""
    if held.channel.balance >= amount:
        then = "paid"
    else:
        then = "forgone" if held.lost or held.closed_at is not None else "will_be_collected"
    return {
        "drops": str(drops),
        "amount": str(amount),
        "channel_id": held.channel.channel_id,
        "channel_state": held_state(held),
        "paid": str(held.channel.balance),
        "next": then,
    }
