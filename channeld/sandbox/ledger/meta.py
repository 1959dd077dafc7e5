"""Metadata: what a transaction did, in rippled's words, and whom it concerns.

The difficulty is in what is left out. A created object shows only values that are not the default of their type. A
modified one shows its whole new form, and as PreviousFields only fields that existed before; yet a field that newly
appears leaves an empty PreviousFields behind, because rippled's objects carry a place for every optional field. An
object that is only threaded (a channel's other party) shows nothing but its former last transaction.

Sources: rippled src/libxrpl/ledger/ApplyStateTable.cpp apply, threadItem, threadOwners; TxMeta.cpp getAffectedAccounts.
"""

from __future__ import annotations

from typing import Any, Final

from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.state import Fields
from channeld.sandbox.ledger.view import TxView

_HIDDEN: Final = {"LedgerEntryType", "Indexes"}
"""sMD_Never: not in metadata at all."""
_THREAD: Final = ("PreviousTxnID", "PreviousTxnLgrSeq")
"""Only in a deleted node's FinalFields, and beside the fields of a modified node."""
_ALWAYS: Final = {"RootIndex"}
"""sMD_Always without sMD_ChangeOrig: shown, but never as a previous value."""
_ACCOUNT_FIELDS: Final = ("Account", "Destination", "Owner", "Authorize", "RegularKey", "Unauthorize", "NFTokenMinter")
_UNTHREADED: Final = {"AccountRoot"}


class _Builder:
    """Builds one transaction's AffectedNodes and threads the objects, in one pass over the view."""

    def __init__(self, view: TxView, tx_hash: str) -> None:
        self.view, self.hash = view, tx_hash
        self.nodes: dict[str, tuple[str, dict[str, Any]]] = {}
        self.threaded: dict[str, Fields] = {}

    def run(self) -> list[dict[str, Any]]:
        originals = {key: self.view.parent.read(key) for key in self.view.touched}
        changed = [key for key, fields in self.view.touched.items() if fields != originals[key]]
        erased = [key for key in self.view.erased if key not in changed]
        for key in changed + erased:  # told apart before any threading, which alters objects that were only looked at
            self._affect(key, self.view.touched[key], originals[key])
        for key, fields in self.threaded.items():
            self.view.touched.setdefault(key, fields)
        return [{kind: body} for _, (kind, body) in sorted(self.nodes.items())]

    def _affect(self, key: str, fields: Fields, original: Fields | None) -> None:
        if key in self.view.erased:
            if original is not None:
                self._deleted(key, fields, original)
        elif original is None:
            self._created(key, fields)
        else:
            self._modified(key, fields, original)

    def _node(self, kind: str, key: str, entry_type: str) -> dict[str, Any]:
        _, body = self.nodes.get(key, ("", {"LedgerEntryType": entry_type, "LedgerIndex": key}))
        self.nodes[key] = (kind, body)
        return body

    def _deleted(self, key: str, fields: Fields, original: Fields) -> None:
        node = self._node("DeletedNode", key, original["LedgerEntryType"])
        self._thread_owners(original)
        if previous := _previous(original, fields):
            node["PreviousFields"] = previous
        node["FinalFields"] = {name: value for name, value in fields.items() if name not in _HIDDEN}

    def _modified(self, key: str, fields: Fields, original: Fields) -> None:
        node = self._node("ModifiedNode", key, original["LedgerEntryType"])
        appeared = any(name not in original and name not in _HIDDEN and name not in _THREAD for name in fields)
        previous = _previous(original, fields)
        if previous or appeared:
            node["PreviousFields"] = previous
        node["FinalFields"] = {
            name: value for name, value in fields.items() if name not in _HIDDEN and name not in _THREAD
        }
        self._thread(key, fields)

    def _created(self, key: str, fields: Fields) -> None:
        node = self._node("CreatedNode", key, fields["LedgerEntryType"])
        self._thread_owners(fields)
        node["NewFields"] = {
            name: value
            for name, value in fields.items()
            if name not in _HIDDEN and name not in _THREAD and not _is_default(name, value)
        }
        self._thread(key, fields)

    def _thread_owners(self, fields: Fields) -> None:
        if fields["LedgerEntryType"] in _UNTHREADED:
            return
        for name in ("Account", "Destination"):
            if (address := fields.get(name)) is not None:
                self._thread_account(keylets.account(address))

    def _thread_account(self, key: str) -> None:
        if key in self.view.erased:
            return
        mine = self.view.touched.get(key) or self.threaded.get(key)
        if mine is None:
            original = self.view.parent.read(key)
            if original is None:
                return
            mine = self.threaded[key] = dict(original)
        self._thread(key, mine)

    def _thread(self, key: str, fields: Fields) -> None:
        """Make this transaction the object's last one, and name the former one in its node."""
        former, former_ledger = fields.get(_THREAD[0]), fields.get(_THREAD[1])
        if former == self.hash:
            return
        fields[_THREAD[0]], fields[_THREAD[1]] = self.hash, self.view.context.index
        if former not in (None, keylets.ZERO_HASH):
            body = self._node(self.nodes.get(key, ("ModifiedNode",))[0], key, fields["LedgerEntryType"])
            body.setdefault(_THREAD[0], former)
            body.setdefault(_THREAD[1], former_ledger)


def _previous(original: Fields, fields: Fields) -> Fields:
    return {
        name: value
        for name, value in original.items()
        if name not in _HIDDEN and name not in _THREAD and name not in _ALWAYS and fields.get(name) != value
    }


def _is_default(name: str, value: Any) -> bool:
    if isinstance(value, int):
        return value == 0
    return value in ("", "0", keylets.ZERO_HASH) or (name in _ACCOUNT_FIELDS and value == keylets.ZERO_ACCOUNT)


def build(view: TxView, tx_hash: str, result: str, index: int) -> dict[str, Any]:
    """The metadata of a transaction about to be merged into a closed ledger; threads the objects it touched."""
    nodes = _Builder(view, tx_hash).run()
    return {"AffectedNodes": nodes, "TransactionIndex": index, "TransactionResult": result}


def affected_accounts(meta: dict[str, Any]) -> set[str]:
    """Accounts a validated transaction concerns: those named in its new and final fields.

    An account whose root was only threaded is named by the channel or directory that names it, not by its own node.
    """
    found: set[str] = set()
    for wrapped in meta["AffectedNodes"]:
        for kind, body in wrapped.items():
            inner = body.get("NewFields" if kind == "CreatedNode" else "FinalFields", {})
            found.update(inner[name] for name in _ACCOUNT_FIELDS if name in inner)
    return found
