"""Key pairs from seeds, and what one key signs: claims and transactions.

xrpl-py derives (once, slowly) and encodes; PyNaCl and coincurve sign, some 200 times faster than xrpl-py and
byte-identical to it. What verifies is in `channeld.signatures`, which content servers use as well.

Sources: rippled SecretKey.cpp, PublicKey.cpp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import coincurve
import nacl.bindings

from channeld.core.errors import BadValue
from channeld.core.records import Signed
from channeld.xrpl_core import CryptoAlgorithm, addresscodec, binarycodec, keypairs

KeyType = Literal["ed25519", "secp256k1"]
_TXN_ID_PREFIX: Final = b"TXN\x00"


class Ed25519Signer:
    """Signs messages with one ed25519 key: 64 bytes, always the same for the same message. Its repr shows no secret.

    `secret` is the key as libraries take it: 32 secret bytes and the 32 public ones.
    """

    __slots__ = ("secret",)

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def __call__(self, message: bytes, _sign: Any = nacl.bindings.crypto_sign) -> bytes:
        return bytes(_sign(message, self.secret)[:64])


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A signing key and what it makes public. Its repr shows no secret.

    `public_key` is 66 upper-case hex digits as the ledger writes it; `private` is the 32 secret bytes.
    """

    key_type: KeyType
    public_key: str
    address: str
    private: bytes = field(repr=False)

    def signer(self) -> Callable[[bytes], bytes]:
        """A function that signs a message: 64 bytes for ed25519, DER with low S (70-72 bytes) for secp256k1."""
        if self.key_type == "ed25519":
            return Ed25519Signer(self.private + bytes.fromhex(self.public_key)[1:])
        key = coincurve.PrivateKey(self.private)

        def sign_secp256k1(message: bytes) -> bytes:
            return key.sign(hashlib.sha512(message).digest()[:32], hasher=None)

        return sign_secp256k1


def derive(seed: str, key_type: KeyType) -> KeyPair:
    """Derive the key pair of a family seed, as the ledger's own tools do. Takes about 10 ms.

    An `sEd...` seed names ed25519 itself and is refused with secp256k1; an `s...` seed gives different accounts under
    the two key types, which is why the caller must say which. Raises `BadValue`, whose text holds no part of the seed.
    """
    try:
        _, own_type = addresscodec.decode_seed(seed)
    except Exception:  # xrpl-py raises half a dozen types here, and their texts quote the seed
        raise BadValue(
            "seed", "not a family seed", "one line beginning with 's', as `channeld keys new` makes it"
        ) from None
    if own_type is CryptoAlgorithm.ED25519 and key_type != "ed25519":
        raise BadValue("seed", "an sEd... seed is of key type ed25519", 'set key_type = "ed25519" or take another seed')
    public, private = keypairs.derive_keypair(seed, algorithm=CryptoAlgorithm(key_type))
    secret = bytes.fromhex(private)[-32:]
    return KeyPair(key_type, public.upper(), keypairs.derive_classic_address(public), secret)


def sign_transaction(transaction: Mapping[str, Any], key: KeyPair) -> Signed:
    """Sign a transaction in the ledger's JSON form. `SigningPubKey` is set from the key; about 0.5 ms.

    Raises `BadValue` where a field cannot be encoded.
    """
    fields = {**transaction, "SigningPubKey": key.public_key}
    try:
        signature = key.signer()(bytes.fromhex(binarycodec.encode_for_signing(fields)))
        blob = binarycodec.encode({**fields, "TxnSignature": signature.hex().upper()})
    except Exception as error:  # the codec raises many types; none of its input here is secret
        raise BadValue("transaction", f"cannot be encoded: {error}") from error
    digest = hashlib.sha512(_TXN_ID_PREFIX + bytes.fromhex(blob)).digest()[:32]
    return Signed(blob.upper(), digest.hex().upper())


def account_id(address: str) -> bytes:
    """The 20 bytes behind a classic address whose checksum was verified before."""
    return addresscodec.decode_classic_address(address)
