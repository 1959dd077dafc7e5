"""The encrypted key file: a seed under a passphrase, in a format of our own, version 1.

JSON with a clear head (what key it is, how it is sealed) and the sealed seed. The head is authenticated with the
seed, so neither its address nor its cost figures can be changed unnoticed. scrypt makes the key, AES-256-GCM seals.

Sources: RFC 7914 (scrypt), NIST SP 800-38D (GCM, 96-bit nonce).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from channeld.core.errors import BadValue

FORMAT: Final = "channeld-key"
VERSION: Final = 1
COST_LOG2: Final = 16
"""scrypt's N as a power of two when a file is written: 64 MiB and some 0.3 s a try with r = 8, p = 2."""
_MAX_COST_LOG2: Final = 20
_MIN_PASSPHRASE_BYTES: Final = 8


class PublicHalf(NamedTuple):
    """What a seed makes public: which key it is."""

    key_type: str
    public_key: str
    address: str


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The clear part: whose key it is, and how it is sealed. `salt` and `nonce` are hex; readers check bounds."""

    format: str = FORMAT
    version: int = VERSION
    key_type: str
    public_key: str
    address: str
    kdf: str = "scrypt"
    cost_log2: int = COST_LOG2
    block_size: int = 8
    parallelism: int = 2
    cipher: str = "aes-256-gcm"
    salt: str
    nonce: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file: `sealed` is the seed's ciphertext and tag, in hex."""

    head: Head
    sealed: str


def is_sealed(text: str) -> bool:
    """Whether a file's text looks like an encrypted key file; only `unseal` tells whether it is a sound one."""
    return text.lstrip().startswith("{")


def seal(seed: str, passphrase: bytes, public: PublicHalf, *, cost_log2: int = COST_LOG2) -> str:
    """The text of a new encrypted key file. Raises `BadValue` for a passphrase under 8 bytes."""
    if len(passphrase) < _MIN_PASSPHRASE_BYTES:
        raise BadValue("passphrase", "too short", "8 characters or more")
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    head = Head(
        key_type=public.key_type,
        public_key=public.public_key,
        address=public.address,
        cost_log2=cost_log2,
        salt=salt.hex(),
        nonce=nonce.hex(),
    )
    sealed = AESGCM(_key(head, passphrase)).encrypt(nonce, seed.encode("ascii"), _authenticated(head))
    return msgspec.json.format(msgspec.json.encode(_File(head, sealed.hex())), indent=2).decode() + "\n"


def read_head(text: str, field: str) -> Head:
    """The clear part of a file, for showing. It is authentic only once `unseal` has succeeded."""
    return _parse(text, field).head


def unseal(text: str, passphrase: bytes, field: str) -> str:
    """The seed in an encrypted key file. Raises `BadValue` for a wrong passphrase or a damaged or foreign file."""
    file = _parse(text, field)
    try:
        nonce, sealed = bytes.fromhex(file.head.nonce), bytes.fromhex(file.sealed)
        clear = AESGCM(_key(file.head, passphrase)).decrypt(nonce, sealed, _authenticated(file.head))
        return clear.decode("ascii")
    except (InvalidTag, ValueError):
        raise BadValue(field, "wrong passphrase, or the key file was changed", "check the passphrase file") from None


def _parse(text: str, field: str) -> _File:
    try:
        file = msgspec.json.decode(text.encode("utf-8"), type=_File)
    except (msgspec.MsgspecError, RecursionError):
        raise BadValue(field, "not a channeld key file", "make one with `keys new` or `keys import`") from None
    head = file.head
    if (head.format, head.kdf, head.cipher) != (FORMAT, "scrypt", "aes-256-gcm") or head.version != VERSION:
        raise BadValue(
            field, "a key file of a kind or version unknown here", "use the channeld that wrote it, or a newer"
        )
    if not (1 <= head.cost_log2 <= _MAX_COST_LOG2 and 1 <= head.block_size <= 8 and 1 <= head.parallelism <= 16):
        raise BadValue(field, "the key file asks for an unreasonable amount of work", "make it anew")
    return file


def _key(head: Head, passphrase: bytes) -> bytes:
    """The AES key. Takes 128 * block_size * 2^cost_log2 bytes of memory while it works."""
    memory = 128 * head.block_size * 2**head.cost_log2
    return hashlib.scrypt(
        passphrase,
        salt=bytes.fromhex(head.salt),
        n=2**head.cost_log2,
        r=head.block_size,
        p=head.parallelism,
        maxmem=memory + 128 * head.block_size * (head.parallelism + 2) + 65_536,
        dklen=32,
    )


def _authenticated(head: Head) -> bytes:
    """The head's canonical bytes, which the seal covers."""
    return msgspec.json.encode(head, order="deterministic")
