"""channel_authorize and channel_verify: claims signed and checked without looking at the ledger.

Sources: rippled PayChanClaim.cpp; RPCHelpers.cpp keypairForSignature (2.3.0).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, cast

from channeld.adapters.signer import KeyPair, KeyType, derive, verify
from channeld.core.claim import claim_message
from channeld.core.errors import BadValue
from channeld.sandbox.ledger.api.call import Call, is_hash, is_hex
from channeld.sandbox.ledger.api.errors import RpcError, missing
from channeld.sandbox.ledger.codec import is_known_key
from channeld.xrpl_core import CryptoAlgorithm, addresscodec

_DIGITS: Final = re.compile(r"[0-9]{1,20}", re.ASCII)
_KEY_TYPES: Final = ("secp256k1", "ed25519")


def channel_authorize(call: Call) -> dict[str, Any]:
    """Sign a claim with a key given by seed or passphrase."""
    for name in ("channel_id", "amount"):
        if name not in call.params:
            raise missing(name)
    pair = _key_pair(call)
    message = claim_message(_channel(call), _amount(call))
    return {"signature": pair.signer()(message).hex().upper()}


def _key_pair(call: Call) -> KeyPair:
    key_type = call.params.get("key_type")
    if key_type is not None and key_type not in _KEY_TYPES:
        raise RpcError("badKeyType" if call.api_version > 1 else "invalidParams")
    names = [name for name in ("secret", "seed", "seed_hex", "passphrase") if name in call.params]
    if len(names) != 1:
        raise missing("secret")
    seed, chosen = _seed(str(call.params[names[0]]), names[0], key_type)
    try:
        return derive(seed, cast(KeyType, chosen))
    except BadValue:
        raise RpcError("badSeed") from None


def _seed(value: str, name: str, key_type: str | None) -> tuple[str, str]:
    """The family seed a secret stands for, and the key type to derive with."""
    chosen = key_type or ("ed25519" if value.startswith("sEd") else "secp256k1")
    if name in ("secret", "seed") and value.startswith("s"):
        return value, chosen
    if name == "seed_hex" and not (is_hex(value) and len(value) == 32):
        raise RpcError("badSeed")
    entropy = bytes.fromhex(value) if name == "seed_hex" else hashlib.sha512(value.encode()).digest()[:16]
    return addresscodec.encode_seed(entropy, CryptoAlgorithm(chosen)), chosen


def _channel(call: Call) -> bytes:
    value = call.params["channel_id"]
    if not is_hash(value):
        raise RpcError("channelMalformed")
    return bytes.fromhex(value)


def _amount(call: Call) -> int:
    value = call.params["amount"]
    if not isinstance(value, str) or not _DIGITS.fullmatch(value) or int(value) >= 2**64:
        raise RpcError("channelAmtMalformed")
    return int(value)


def channel_verify(call: Call) -> dict[str, Any]:
    """Whether a claim's signature is one that the ledger would take. Checks nothing about the ledger."""
    for name in ("public_key", "channel_id", "amount", "signature"):
        if name not in call.params:
            raise missing(name)
    key = _public_key(call.params["public_key"])
    channel, amount = _channel(call), _amount(call)
    signature = call.params["signature"]
    if not is_hex(signature) or not signature:
        raise RpcError("invalidParams")
    return {"signature_verified": verify(key, claim_message(channel, amount), bytes.fromhex(signature))}


def _public_key(value: Any) -> bytes:
    if is_hex(value) and is_known_key(str(value).upper()):
        return bytes.fromhex(value)
    try:
        return bytes(addresscodec.decode_account_public_key(value))
    except Exception:  # the codec raises several types
        raise RpcError("publicMalformed") from None
