"""What daemons retain at the broker: their presence, and what bears witness to their stores.

Sources: the contract, section 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import msgspec

from channeld.core.errors import Malformed
from channeld.core.witness import Witness

_encode: Final = msgspec.json.Encoder().encode


def status_payload(instance: str, version: str, wallets: Sequence[str], *, online: bool) -> bytes:
    """The retained presence of a daemon."""
    status = "online" if online else "offline"
    return _encode({"status": status, "instance": instance, "version": version, "wallets": list(wallets)})


def read_status(payload: bytes) -> tuple[bool, str, frozenset[str]]:
    """What a daemon says of itself: whether it is online, its instance, its wallets. Raises `Malformed`."""
    try:
        said = json.loads(payload)
        status, instance, wallets = said["status"], said["instance"], said["wallets"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("not a status") from None
    texts = (status, instance, *wallets) if isinstance(wallets, list) else (None,)
    if not all(isinstance(text, str) for text in texts):
        raise Malformed("not a status")
    return status == "online", instance[:64], frozenset(wallets)


def witness_payload(witness: Witness) -> bytes:
    """The retained message that bears witness to a store."""
    return _encode({"store_id": witness.store_id, "data_version": witness.data_version})


def marker_payload(marker: str) -> bytes:
    """What is published to the witness topic, not retained, to know when all that was retained there has come."""
    return _encode({"marker": marker})


def read_witness(payload: bytes) -> Witness | str:
    """What came on the witness topic: a witness, or the text of a marker. Raises `Malformed` for anything else."""
    try:
        said = json.loads(payload)
        if isinstance(said, dict) and isinstance(marker := said.get("marker"), str):
            return marker
        store_id, version = said["store_id"], said["data_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("not a witness") from None
    if isinstance(store_id, str) and type(version) is int and version >= 0:
        return Witness(store_id, version)
    raise Malformed("not a witness")
