"""Whether the ledger would accept a signature: rippled's verdict, at some 40 us each.

PyNaCl and coincurve verify about 200 times faster than xrpl-py, which besides accepts signatures that rippled refuses.
Both libraries are loaded with the first signature, so that importing this costs nothing.

Sources: rippled PublicKey.cpp; RFC 8032 (S < L); SEC 1 with low S ("fully canonical").
"""

from __future__ import annotations

import hashlib
from typing import Final

_ED_PREFIX: Final = 0xED


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether rippled would accept this signature over `message`. Never raises for bytes, however malformed.

    secp256k1 keys (33 bytes, 02/03) sign the first half of SHA-512 of the message, DER, low S only; ed25519 keys
    (0xED and 32 bytes) sign the message itself, S < L only.
    """
    if len(public_key) != 33:
        return False
    if public_key[0] == _ED_PREFIX:
        return _verify_ed25519(public_key[1:], message, signature)
    return public_key[0] in (2, 3) and _verify_secp256k1(public_key, message, signature)


def _verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    import nacl.exceptions
    import nacl.signing

    try:
        nacl.signing.VerifyKey(key).verify(message, signature)
    except (ValueError, nacl.exceptions.CryptoError):
        return False
    return True


def _verify_secp256k1(key: bytes, message: bytes, signature: bytes) -> bool:
    import coincurve

    digest = hashlib.sha512(message).digest()[:32]
    try:
        return coincurve.PublicKey(key).verify(signature, digest, hasher=None)
    except ValueError:
        return False
