"""Keys and signatures: derive a key pair from a seed, sign transactions, and claims, one by one or many at once."""

from __future__ import annotations

from channeld.adapters.signer import multi_buffer
from channeld.adapters.signer.keys import Ed25519Signer, KeyPair, KeyType, account_id, derive, sign_transaction
from channeld.adapters.signer.multi_buffer import MultiBufferSigning, Unusable
from channeld.adapters.signer.paired import PairedSigning
from channeld.signatures import verify

__all__ = [
    "Ed25519Signer",
    "KeyPair",
    "KeyType",
    "MultiBufferSigning",
    "PairedSigning",
    "Unusable",
    "account_id",
    "derive",
    "multi_buffer",
    "sign_transaction",
    "verify",
]
