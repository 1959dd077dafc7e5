"""submit and tx.

Sources: rippled Submit.cpp, Tx.cpp (2.3.0).
"""

from __future__ import annotations

from typing import Any, Final

from channeld.sandbox.ledger import codec
from channeld.sandbox.ledger.api.call import Call, is_hash, is_hex
from channeld.sandbox.ledger.api.errors import RpcError
from channeld.sandbox.ledger.api.shapes import found, unvalidated
from channeld.sandbox.ledger.history import Record
from channeld.sandbox.ledger.node import Submitted
from channeld.sandbox.ledger.results import number_of, text_of

_MAX_RANGE: Final = 1000
_CTID_DIGITS: Final = 16


def submit(call: Call) -> dict[str, Any]:
    """Take a signed blob. Any engine_result is a success of the request; only a blob without sense is an error."""
    blob = call.params.get("tx_blob")
    if not is_hex(blob) or not blob:
        raise RpcError("invalidParams")
    try:
        tx = codec.decode(str(blob))
    except codec.Refused as refused:
        raise RpcError("invalidTransaction", error_exception=str(refused)) from None
    try:
        codec.check(tx)
    except codec.Refused as refused:
        raise RpcError("invalidTransaction", error_exception=f"fails local checks: {refused}") from None
    refusal = call.server.faults.take("submit_refuse")
    if refusal is not None:
        return _answer(call, tx, Submitted(refusal.result))
    return _answer(call, tx, call.node.submit(tx, fail_hard=bool(call.params.get("fail_hard"))))


def _answer(call: Call, tx: codec.Transaction, submitted: Submitted) -> dict[str, Any]:
    result: dict[str, Any] = {
        "accepted": submitted.applied or submitted.broadcast or submitted.queued or submitted.kept,
        "applied": submitted.applied,
        "broadcast": submitted.broadcast,
        "engine_result": submitted.result,
        "engine_result_code": number_of(submitted.result),
        "engine_result_message": text_of(submitted.result),
        "kept": submitted.kept,
        "queued": submitted.queued,
        "tx_blob": tx.blob.hex().upper(),
        "tx_json": tx.json | {"hash": tx.hash},
    }
    if submitted.sequence_next is not None:
        result |= {
            "account_sequence_available": submitted.sequence_available,
            "account_sequence_next": submitted.sequence_next,
            "open_ledger_cost": str(submitted.open_ledger_cost),
            "validated_ledger_index": call.validated.index,
        }
    return result


def tx(call: Call) -> dict[str, Any]:
    """Look a transaction up by hash or ctid."""
    binary = bool(call.params.get("binary"))
    low, high = _searched(call)
    if "ctid" in call.params:
        record = _by_ctid(call)
        pending = None
    else:
        tx_hash = call.params.get("transaction")
        if not is_hash(tx_hash):
            raise RpcError("invalidParams" if tx_hash is None else "notImpl")
        record = call.node.history.find(str(tx_hash).upper())
        pending = call.node.history.unvalidated(str(tx_hash).upper())
    if record is not None and record.ledger_index > call.validated.index:
        pending = record.tx  # a lagging node has not seen that ledger
        record = None
    if record is not None and (low is None or (high is not None and low <= record.ledger_index <= high)):
        return found(call.node, record, call.api_version, binary)
    if pending is not None:
        return unvalidated(pending, call.api_version, binary)
    if low is None or high is None:
        raise RpcError("txnNotFound")
    has_all = low >= call.node.first_index and high <= call.validated.index
    raise RpcError("txnNotFound", searched_all=has_all)


def _searched(call: Call) -> tuple[int | None, int | None]:
    low, high = call.params.get("min_ledger"), call.params.get("max_ledger")
    if low is None and high is None:
        return None, None
    if not isinstance(low, int) or not isinstance(high, int) or low > high:
        raise RpcError("invalidLgrRange")
    if high - low > _MAX_RANGE:
        raise RpcError("excessiveLgrRange")
    return low, high


def _by_ctid(call: Call) -> Record | None:
    text = call.params["ctid"]
    if not is_hex(text) or len(text) != _CTID_DIGITS or text[0] not in "cC":
        raise RpcError("invalidParams")
    return call.node.history.at(int(text[1:8], 16), int(text[8:12], 16))
