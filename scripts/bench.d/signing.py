"""Signatures a second, one core: the daemon's signer beside xrpl-py, for both key types, and eight at a time where that
can be done here. A table to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from xrpl.core import keypairs

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import KeyType, MultiBufferSigning, Unusable, derive, multi_buffer, verify
from channeld.core.claim import claim_message

_SECONDS: Final = 1.0
_KEY_TYPES: Final[tuple[KeyType, ...]] = ("ed25519", "secp256k1")


def per_second(call: Callable[[], Any]) -> float:
    """How often a call can be made in a second: the best of three tries."""
    best = 0.0
    for _ in range(3):
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < _SECONDS / 3:
            call()
            count += 1
        best = max(best, count / spent)
    return best


def rates(key_type: KeyType) -> dict[str, float]:
    """Operations a second on the 44 bytes of a claim. Raises `AssertionError` if the two libraries disagree."""
    key = derive(new_seed(key_type).reveal(), key_type)
    message = claim_message(os.urandom(32), 46_700)
    private = ("ED" if key_type == "ed25519" else "00") + key.private.hex().upper()
    sign, public = key.signer(), bytes.fromhex(key.public_key)
    signature = sign(message)
    assert keypairs.sign(message, private) == signature.hex().upper()
    return {
        "sign": per_second(lambda: sign(message)),
        "sign, xrpl-py": per_second(lambda: keypairs.sign(message, private)),
        "verify": per_second(lambda: verify(public, message, signature)),
        "verify, xrpl-py": per_second(lambda: keypairs.is_valid_message(message, signature, key.public_key)),
    }


def eight_at_once() -> str:
    """Claims a second that are signed in groups of 256, or why they cannot be."""
    sign = derive(new_seed("ed25519").reveal(), "ed25519").signer()
    claims = [(sign, claim_message(os.urandom(32), 46_700)) for _ in range(256)]
    alone = [sign(message) for sign, message in claims]
    try:
        signing = MultiBufferSigning(multi_buffer.load(), lambda _: [])
    except Unusable as error:
        return f"not here: {error}"
    assert signing(claims) == alone
    return _spaced(256 * per_second(lambda: signing(claims)))


def main() -> int:
    """Measure and print."""
    argparse.ArgumentParser(prog="scripts/bench signing", description=__doc__).parse_args()
    print("| operations a second | " + " | ".join(_KEY_TYPES) + " |\n| --- | --- | --- |")
    columns = [rates(key_type) for key_type in _KEY_TYPES]
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(_spaced(column[name]) for column in columns) + " |")
    print(f"| sign, eight at a time | {eight_at_once()} | |")
    return 0


def _spaced(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


if __name__ == "__main__":
    sys.exit(main())
