"""ledger, ledger_current, ledger_closed, ledger_entry, ledger_accept.

Sources: rippled LedgerHandler.cpp, LedgerEntry.cpp, LedgerAccept.cpp (2.3.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.api.call import Call, Chosen, is_address, is_hash, with_index
from channeld.sandbox.ledger.api.errors import RpcError
from channeld.sandbox.ledger.api.shapes import expanded
from channeld.xrpl_core import binarycodec


def ledger(call: Call) -> dict[str, Any]:
    """A ledger's header, and its transactions if asked for; without a selector the newest closed and the open one."""
    if not any(name in call.params for name in ("ledger", "ledger_index", "ledger_hash")):
        closed = call.closed(call.validated.index)
        return {"closed": {"ledger": _header(call, closed)}, "open": {"ledger": _open_header(call)}}
    chosen = call.ledger()
    return {"ledger": _header(call, chosen), **chosen.fields}


def _open_header(call: Call) -> dict[str, Any]:
    index = call.node.open.index
    shown = index if call.api_version > 1 else str(index)
    return {"closed": False, "ledger_index": shown, "parent_hash": call.node.validated.hash}


def _header(call: Call, chosen: Chosen) -> dict[str, Any]:
    fields = _open_header(call) if chosen.header is None else chosen.header.json(call.api_version)
    if not call.params.get("transactions"):
        return fields
    expand = bool(call.params.get("expand"))
    if chosen.header is None:
        txs = call.node.open.transactions
        return fields | {"transactions": [tx.json | {"hash": key} if expand else key for key, tx in txs.items()]}
    records = call.node.history.in_ledger(chosen.header.index)
    rows = [expanded(call.node, record, call.api_version) if expand else record.tx.hash for record in records]
    return fields | {"transactions": rows}


def ledger_current(call: Call) -> dict[str, Any]:
    """The open ledger's number."""
    return {"ledger_current_index": call.node.open.index}


def ledger_closed(call: Call) -> dict[str, Any]:
    """The newest closed ledger."""
    return {"ledger_hash": call.validated.hash, "ledger_index": call.validated.index}


def ledger_accept(call: Call) -> dict[str, Any]:
    """Close the open ledger now."""
    if not call.is_admin:
        raise RpcError("forbidden")
    call.server.close_ledger()
    return {"ledger_current_index": call.node.open.index}


def _by_index(call: Call, value: Any) -> str:
    return _hash_or_malformed(call, value)


def _hash_or_malformed(call: Call, value: Any) -> str:
    if not is_hash(value):
        raise _malformed(call)
    return str(value).upper()


def _malformed(call: Call, error: str = "malformedRequest") -> RpcError:
    return RpcError(error, **(call.chosen.fields if call.chosen else {}))


def _account_root(call: Call, value: Any) -> str:
    if not is_address(value):
        raise _malformed(call, "malformedAddress")
    return keylets.account(value)


def _ticket(call: Call, value: Any) -> str:
    if isinstance(value, str):
        return _hash_or_malformed(call, value)
    if not isinstance(value, dict) or not isinstance(value.get("ticket_seq"), int):
        raise _malformed(call)
    if not is_address(value.get("account")):
        raise _malformed(call, "malformedAddress")
    return keylets.ticket(value["account"], value["ticket_seq"])


def _deposit_preauth(call: Call, value: Any) -> str:
    if isinstance(value, str):
        return _hash_or_malformed(call, value)
    if not isinstance(value, dict):
        raise _malformed(call)
    if not is_address(value.get("owner")):
        raise _malformed(call, "malformedOwner")
    if not is_address(value.get("authorized")):
        raise _malformed(call, "malformedAuthorized")
    return keylets.deposit_preauth(value["owner"], value["authorized"])


def _directory(call: Call, value: Any) -> str:
    if isinstance(value, str):
        return _hash_or_malformed(call, value)
    if not isinstance(value, dict):
        raise _malformed(call)
    number = value.get("sub_index", 0)
    if "owner" in value:
        if not is_address(value["owner"]):
            raise _malformed(call, "malformedAddress")
        return keylets.page(keylets.owner_directory(value["owner"]), number)
    return keylets.page(_hash_or_malformed(call, value.get("dir_root")), number)


_SELECTORS: Final[dict[str, tuple[str | None, Callable[[Call, Any], str]]]] = {
    "index": (None, _by_index),
    "payment_channel": ("PayChannel", _hash_or_malformed),
    "account_root": ("AccountRoot", _account_root),
    "ticket": ("Ticket", _ticket),
    "deposit_preauth": ("DepositPreauth", _deposit_preauth),
    "directory": ("DirectoryNode", _directory),
}


def ledger_entry(call: Call) -> dict[str, Any]:
    """One object, the cheapest exact read."""
    chosen = call.objects()
    given = [name for name in _SELECTORS if name in call.params]
    if not given:
        if call.api_version < 2:
            raise _malformed(call, "unknownOption")
        raise RpcError("invalidParams", "No ledger_entry params provided.")
    if len(given) > 1:
        raise RpcError("invalidParams", "Too many fields provided.")
    entry_type, locate = _SELECTORS[given[0]]
    key = locate(call, call.params[given[0]])
    fields = chosen.reader.read(key)
    if fields is None:
        raise _malformed(call, "entryNotFound")
    if entry_type is not None and fields["LedgerEntryType"] != entry_type:
        raise _malformed(call, "unexpectedLedgerType")
    if call.params.get("binary"):
        return {"index": key, "node_binary": binarycodec.encode(fields), **chosen.fields}
    return {"index": key, "node": with_index(key, fields), **chosen.fields}
