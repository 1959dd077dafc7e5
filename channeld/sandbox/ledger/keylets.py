"""Where ledger objects live: the index of each kind of object, and the account ids behind addresses.

Every index is the first half of SHA-512 over a 16-bit space letter and what identifies the object.
Sources: rippled src/libxrpl/protocol/Indexes.cpp.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from channeld.core.claim import channel_id_of
from channeld.xrpl_core import addresscodec

_CACHE: Final = 1 << 17
ZERO_HASH: Final = "0" * 64
ZERO_ACCOUNT: Final = "rrrrrrrrrrrrrrrrrrrrrhoLvTp"
"""The address of the all-zero account id."""


def half_digest(data: bytes) -> bytes:
    """SHA-512Half: the first 32 bytes of SHA-512."""
    return hashlib.sha512(data).digest()[:32]


def half_hex(data: bytes) -> str:
    """SHA-512Half as 64 upper-case hex digits, the form every index and hash has in the API."""
    return half_digest(data).hex().upper()


@lru_cache(maxsize=_CACHE)
def account_id(address: str) -> bytes:
    """The 20 bytes behind a classic address. Raises ValueError for anything else."""
    try:
        return bytes(addresscodec.decode_classic_address(address))
    except Exception as error:  # the codec raises several unrelated types
        raise ValueError("not a classic address") from error


@lru_cache(maxsize=_CACHE)
def account(address: str) -> str:
    """Index of an AccountRoot."""
    return half_hex(b"\0a" + account_id(address))


@lru_cache(maxsize=_CACHE)
def owner_directory(address: str) -> str:
    """Index of the root page of an account's owner directory."""
    return half_hex(b"\0O" + account_id(address))


@lru_cache(maxsize=_CACHE)
def page(root: str, number: int) -> str:
    """Index of a directory page; page 0 is the root itself."""
    return half_hex(b"\0d" + bytes.fromhex(root) + number.to_bytes(8, "big")) if number else root


def ticket(address: str, sequence: int) -> str:
    """Index of a Ticket."""
    return half_hex(b"\0T" + account_id(address) + sequence.to_bytes(4, "big"))


def deposit_preauth(owner: str, authorized: str) -> str:
    """Index of a DepositPreauth object."""
    return half_hex(b"\0p" + account_id(owner) + account_id(authorized))


def channel(source: str, destination: str, sequence: int) -> str:
    """Index of a PayChannel: its channel id."""
    return channel_id_of(account_id(source), account_id(destination), sequence)


@lru_cache(maxsize=_CACHE)
def address_of_key(public_key: str) -> str:
    """The address a public key (66 hex digits) controls by itself."""
    digest = hashlib.new("ripemd160", hashlib.sha256(bytes.fromhex(public_key)).digest()).digest()
    return str(addresscodec.encode_classic_address(digest))


AMENDMENTS: Final = half_hex(b"\0f")
FEE_SETTINGS: Final = half_hex(b"\0e")
