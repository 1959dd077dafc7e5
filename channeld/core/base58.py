"""Base58 with the ledger's alphabet and a checksum: how addresses and seeds are written.

Sources: XRPL addresscodec; XLS-5. The checksum is the first 4 bytes of SHA-256 twice over everything before it.
"""

from __future__ import annotations

import hashlib
from typing import Final

ALPHABET: Final = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
_LONGEST: Final = 128
_VALUE: Final = {character: value for value, character in enumerate(ALPHABET)}


def encode_checked(body: bytes) -> str:
    """Write bytes with their checksum."""
    data = body + _checksum(body)
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    return ALPHABET[0] * (len(data) - len(data.lstrip(b"\0"))) + digits


def decode_checked(text: str) -> bytes | None:
    """The bytes behind a text, without the checksum; None where it is not the one spelling of them, or too long."""
    if len(text) > _LONGEST or any(character not in _VALUE for character in text):
        return None
    number = 0
    for character in text:
        number = number * 58 + _VALUE[character]
    zeros = len(text) - len(text.lstrip(ALPHABET[0]))
    data = b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
    body = data[:-4]
    return body if len(data) > 4 and _checksum(body) == data[-4:] else None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
