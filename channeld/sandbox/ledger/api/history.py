"""account_tx.

Sources: rippled AccountTx.cpp (2.3.0).
"""

from __future__ import annotations

from typing import Any

from channeld.core.units import MAX_UINT32
from channeld.sandbox.ledger.api.call import Call
from channeld.sandbox.ledger.api.errors import RpcError, expected, invalid
from channeld.sandbox.ledger.api.shapes import listed


def account_tx(call: Call) -> dict[str, Any]:
    """An account's transactions in a range of ledgers; version 1 clips it to what this node has."""
    for name in ("binary", "forward"):
        if call.api_version > 1 and not isinstance(call.params.get(name, False), bool):
            raise invalid(name)
    address = call.address()
    low, high = _range(call)
    limit = call.params.get("limit", 0)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise expected("limit", "unsigned integer")
    binary, forward = bool(call.params.get("binary")), bool(call.params.get("forward"))
    page = 500 if binary else 200
    size = page if limit == 0 or (limit > page and not call.is_admin) else limit
    rows: list[dict[str, Any]] = []
    marker = None
    for record in call.node.history.of_account(address, low, high, forward, _tx_marker(call)):
        if len(rows) == size:
            marker = {"ledger": record.ledger_index, "seq": record.place}
            break
        rows.append(listed(call.node, record, call.api_version, binary))
    result = {"account": address, "ledger_index_min": low, "ledger_index_max": high, "limit": limit}
    result |= {"transactions": rows, "validated": True}
    return result | ({} if marker is None else {"marker": marker})


def _range(call: Call) -> tuple[int, int]:
    ranged = "ledger_index_min" in call.params or "ledger_index_max" in call.params
    single = "ledger_index" in call.params or "ledger_hash" in call.params
    if ranged and single and call.api_version > 1:
        raise RpcError("invalidParams")
    if single and not ranged:
        header = call.ledger().header
        if header is None:
            raise RpcError("lgrNotValidated")
        return header.index, header.index
    low, high = (_bound(call, name) for name in ("ledger_index_min", "ledger_index_max"))
    if call.api_version > 1:
        _refuse_beyond(call, low, high)
    low = max(low, call.node.first_index) if low >= 0 else call.node.first_index
    high = min(high, call.validated.index) if high >= 0 else call.validated.index
    if high < low:
        raise RpcError("invalidLgrRange" if call.api_version > 1 else "lgrIdxsInvalid")
    return low, high


def _refuse_beyond(call: Call, low: int, high: int) -> None:
    """Version 2 does not clip: a bound outside of what this node has is an error. -1, and a lower bound of 0, are open.

    Sources: rippled AccountTx.cpp getLedgerRange.
    """
    if high > call.validated.index or 0 < low < call.node.first_index:
        raise RpcError("lgrIdxMalformed")


def _bound(call: Call, name: str) -> int:
    value = call.params.get(name, -1)
    if isinstance(value, bool) or not isinstance(value, int) or value > MAX_UINT32:
        raise RpcError("invalidParams")
    return value


def _tx_marker(call: Call) -> tuple[int, int] | None:
    marker = call.params.get("marker")
    if marker is None:
        return None
    parts = (marker.get("ledger"), marker.get("seq")) if isinstance(marker, dict) else (None, None)
    if not all(isinstance(part, int) and not isinstance(part, bool) for part in parts):
        text = "invalid marker. Provide ledger index via ledger field, and transaction sequence number via seq field"
        raise RpcError("invalidParams", text)
    return parts  # type: ignore[return-value]
