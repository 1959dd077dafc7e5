"""What a claim is: the 44 signed bytes, the id of the channel it is on, and how far a channel may be signed.

A claim is cumulative: signed for X, it lets the payee collect any total up to X. It never expires by itself; it dies
with the channel. So the highest claim supersedes all lower ones, and a channel's authorised amount never falls.

Sources: rippled include/xrpl/protocol/PayChan.h (message), Indexes.cpp (channel id).
"""

from __future__ import annotations

import hashlib
from typing import Final

CLAIM_PREFIX: Final = b"CLM\x00"
_PAYCHAN_SPACE: Final = b"\x00x"


def claim_message(channel_id: bytes, amount: int) -> bytes:
    """The 44 bytes a claim's signature covers: `CLM\\0`, the channel id (32 bytes), the drops as big-endian uint64.

    ed25519 signs these bytes; secp256k1 signs the first half of their SHA-512. `amount` must lie in 0..2^64-1.
    """
    return CLAIM_PREFIX + channel_id + amount.to_bytes(8, "big")


def channel_id_of(source: bytes, destination: bytes, sequence: int) -> str:
    """The id a PaymentChannelCreate gives its channel, known before it is submitted.

    `source` and `destination` are 20-byte account ids; `sequence` is the transaction's Sequence, or its TicketSequence
    where it uses a ticket.
    """
    preimage = _PAYCHAN_SPACE + source + destination + sequence.to_bytes(4, "big")
    return hashlib.sha512(preimage).digest()[:32].hex().upper()
