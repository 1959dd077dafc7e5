"""The signer agrees with rippled, byte for byte, on recorded vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.adapters import signer
from channeld.core.claim import channel_id_of, claim_message
from channeld.core.errors import BadValue

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "claim-vectors.json").read_text())
SEED = VECTORS["vectors"][0]["seed"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: f"{v['n']}-{v['key_type']}")
def test_a_claim_is_signed_byte_for_byte_as_recorded(vector: dict[str, Any]) -> None:
    key = signer.derive(vector["seed"], vector["key_type"])
    message = claim_message(bytes.fromhex(vector["channel_id"]), int(vector["drops"]))
    assert (key.public_key, key.address) == (vector["public_key"], vector["address"])
    assert message.hex().upper() == vector["message_hex"]
    assert key.signer()(message).hex().upper() == vector["signature"]


@pytest.mark.parametrize("case", VECTORS["signature_edge_cases"], ids=lambda c: c["note"])
def test_the_verdict_on_a_signature_is_rippleds(case: dict[str, Any]) -> None:
    key, message, signature = (bytes.fromhex(case[k]) for k in ("public_key", "message_hex", "signature"))
    assert signer.verify(key, message, signature) is case["rippled_accepts"]


@pytest.mark.parametrize("case", VECTORS["transactions"], ids=lambda c: c["hash"][:8])
def test_a_transaction_is_signed_byte_for_byte_as_recorded(case: dict[str, Any]) -> None:
    unsigned = {k: v for k, v in case["tx_json"].items() if k not in ("TxnSignature", "SigningPubKey")}
    signed = signer.sign_transaction(unsigned, signer.derive(case["seed"], case["key_type"]))
    assert (signed.blob, signed.hash) == (case["tx_blob"], case["hash"])


@given(st.binary(max_size=70), st.binary(max_size=50), st.binary(max_size=80))
def test_verify_never_raises(key: bytes, message: bytes, signature: bytes) -> None:
    assert signer.verify(key, message, signature) is False


def test_an_ed25519_seed_is_refused_for_secp256k1_without_quoting_it() -> None:
    with pytest.raises(BadValue) as caught:
        signer.derive(SEED, "secp256k1")
    assert SEED not in str(caught.value)


def test_a_broken_seed_is_refused_without_quoting_it() -> None:
    with pytest.raises(BadValue) as caught:
        signer.derive(SEED[:-1] + "a", "ed25519")
    assert SEED[:8] not in str(caught.value)


def test_a_key_pair_shows_no_secret() -> None:
    key = signer.derive(SEED, "ed25519")
    assert key.private.hex() not in repr(key).lower()
    assert repr(key.private) not in repr(key)


def test_the_channel_id_is_known_before_submission() -> None:
    source, destination = "8E29E6EF856E317E9AD1F7A7B1D8B44BD0884C9A", "D978EA7E5E93839B30127E44033AB2E9EF41BED3"
    made = channel_id_of(bytes.fromhex(source), bytes.fromhex(destination), 82)
    assert made == "E35708503B3C3143FB522D749AAFCC296E8060F0FB371A9A56FAE0B1ED127366"
