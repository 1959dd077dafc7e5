"""How the API writes a transaction, by command and API version.

Sources: rippled Tx.cpp populateJsonResponse, AccountTx.cpp populateJsonResponse, LedgerToJson.cpp fillJsonTx (2.3.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.headers import iso_time
from channeld.sandbox.ledger.history import Record
from channeld.sandbox.ledger.streams import shown

if TYPE_CHECKING:
    from channeld.sandbox.ledger.node import Node


def ctid(record: Record, network_id: int) -> str:
    """The compact transaction id: C, ledger (28 bits), place, network (16 bits each)."""
    return f"C{record.ledger_index:07X}{record.place:04X}{network_id & 0xFFFF:04X}"


def _dated(record: Record, api_version: int) -> dict[str, Any]:
    fields = shown(record.tx, api_version)
    fields |= {"date": record.close_time, "ledger_index": record.ledger_index}
    return fields if api_version > 1 else fields | {"hash": record.tx.hash, "inLedger": record.ledger_index}


def listed(node: Node, record: Record, api_version: int, binary: bool) -> dict[str, Any]:
    """An entry of account_tx."""
    row: dict[str, Any] = {"validated": True}
    if binary:
        row |= {"tx_blob": record.tx.blob.hex().upper(), "ledger_index": record.ledger_index}
        row["meta_blob" if api_version > 1 else "meta"] = record.meta_blob
        return row
    row |= {"tx_json" if api_version > 1 else "tx": _dated(record, api_version), "meta": record.meta}
    if api_version > 1:
        row |= {
            "hash": record.tx.hash,
            "ledger_index": record.ledger_index,
            "ledger_hash": node.headers[record.ledger_index].hash,
            "close_time_iso": iso_time(record.close_time),
        }
    return row


def found(node: Node, record: Record, api_version: int, binary: bool) -> dict[str, Any]:
    """The `tx` command's answer for a validated transaction."""
    identity = {"validated": True, "ctid": ctid(record, node.settings.network_id)}
    meta: Any = record.meta_blob if binary else record.meta
    if api_version < 2:
        whole = {"tx": record.tx.blob.hex().upper(), "hash": record.tx.hash, "ledger_index": record.ledger_index}
        whole |= {"date": record.close_time, "inLedger": record.ledger_index}
        return (whole if binary else _dated(record, api_version)) | {"meta": meta} | identity
    body = {"tx_blob": record.tx.blob.hex().upper()} if binary else {"tx_json": _dated(record, api_version)}
    return {
        **body,
        **identity,
        "meta_blob" if binary else "meta": meta,
        "hash": record.tx.hash,
        "ledger_hash": node.headers[record.ledger_index].hash,
        "ledger_index": record.ledger_index,
        "close_time_iso": iso_time(record.close_time),
    }


def unvalidated(tx: Transaction, api_version: int, binary: bool) -> dict[str, Any]:
    """The `tx` command's answer for a transaction that is known and in no validated ledger."""
    if api_version < 2:
        body = {"tx": tx.blob.hex().upper()} if binary else shown(tx, api_version)
        return body | {"hash": tx.hash, "validated": False}
    body = {"tx_blob": tx.blob.hex().upper()} if binary else {"tx_json": shown(tx, api_version)}
    return body | {"hash": tx.hash, "validated": False}


def expanded(node: Node, record: Record, api_version: int) -> dict[str, Any]:
    """An entry of the `ledger` command with `expand`."""
    fields = shown(record.tx, api_version)
    if api_version < 2:
        return fields | {"hash": record.tx.hash, "metaData": record.meta}
    return {
        "tx_json": fields,
        "hash": record.tx.hash,
        "meta": record.meta,
        "ledger_hash": node.headers[record.ledger_index].hash,
        "ledger_index": record.ledger_index,
        "close_time_iso": iso_time(record.close_time),
        "validated": True,
    }
