"""From a checked transaction to a result: preflight, preclaim, apply, in rippled's order.

The order decides which of several faults is named. Applying either merges the transaction's view into the ledger's
overlay (tesSUCCESS, or a tec that takes only fee and sequence), or leaves no trace.

Sources: rippled src/xrpld/app/tx/detail/{Transactor,applySteps,apply}.cpp (2.3.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from channeld.core.units import MAX_DROPS
from channeld.sandbox.ledger import accounts, channels, directory, keylets, meta
from channeld.sandbox.ledger.amendments import Rules
from channeld.sandbox.ledger.codec import Transaction, is_known_key
from channeld.sandbox.ledger.results import Reject, is_claimed, require
from channeld.sandbox.ledger.state import Fields, Reader
from channeld.sandbox.ledger.transact import DISABLE_MASTER, UNIVERSAL_FLAGS, Apply, Kind, add_balance, read_account
from channeld.sandbox.ledger.view import LedgerContext, Overlay, TxView

KINDS: Final[dict[str, Kind]] = {**channels.KINDS, **accounts.KINDS}
_LARGEST_PUBLIC_NETWORK: Final = 1024
"""Up to this network id a transaction must not carry NetworkID, above it it must."""


@dataclass(frozen=True)
class Outcome:
    """What applying gave. `meta` only in a closed ledger, and only if applied."""

    result: str
    applied: bool
    meta: dict[str, Any] | None = None


def preflight(tx: Transaction, context: LedgerContext) -> None:
    """Judge the transaction by itself. Raises `Reject`."""
    kind = KINDS.get(tx.type)
    if kind is None:
        raise Reject("temDISABLED")
    flags_are_known = not tx.flags & ~(UNIVERSAL_FLAGS | kind.flags)
    require(flags_are_known or not kind.flags_first, "temINVALID_FLAG")
    _check_network(tx, context.network_id)
    require(tx.account != keylets.ZERO_ACCOUNT, "temBAD_SRC_ACCOUNT")
    require(0 <= tx.fee <= MAX_DROPS, "temBAD_FEE")
    key = tx.json["SigningPubKey"]
    require(not key or is_known_key(key), "temBAD_SIGNATURE")
    require(tx.ticket is None or "AccountTxnID" not in tx.json, "temINVALID")
    kind.preflight(tx, context.rules)


def _check_network(tx: Transaction, network_id: int) -> None:
    given = tx.json.get("NetworkID")
    if network_id <= _LARGEST_PUBLIC_NETWORK:
        require(given is None, "telNETWORK_ID_MAKES_TX_NON_CANONICAL")
    else:
        require(given is not None, "telREQUIRES_NETWORK_ID")
        require(given == network_id, "telWRONG_NETWORK")


def check_sequence(reader: Reader, tx: Transaction) -> None:
    """The account's sequence, or the ticket, must be this transaction's. Raises `Reject`."""
    root = read_account(reader, tx.account)
    if root is None:
        raise Reject("terNO_ACCOUNT")
    if tx.ticket is None:
        require(tx.sequence == 0 or "TicketSequence" not in tx.json, "temSEQ_AND_TICKET")
        require(tx.sequence <= root["Sequence"], "terPRE_SEQ")
        require(tx.sequence == root["Sequence"], "tefPAST_SEQ")
        return
    require(tx.ticket < root["Sequence"], "terPRE_TICKET")
    require(reader.read(keylets.ticket(tx.account, tx.ticket)) is not None, "tefNO_TICKET")


def preclaim(reader: Reader, context: LedgerContext, tx: Transaction, in_sequence: bool = True) -> None:
    """Judge the transaction against the ledger. Raises `Reject`.

    `in_sequence` False leaves the sequence out, for the queue, where earlier transactions wait to use it up.
    """
    if in_sequence:
        check_sequence(reader, tx)
    root = read_account(reader, tx.account)
    if root is None:
        raise Reject("terNO_ACCOUNT")
    prior = tx.json.get("AccountTxnID")
    require(prior is None or root.get("AccountTxnID") == prior, "tefWRONG_PRIOR")
    require(tx.last_ledger is None or context.index <= tx.last_ledger, "tefMAX_LEDGER")
    _check_fee(reader, context, tx, int(root["Balance"]))
    _check_authority(tx, root)
    KINDS[tx.type].preclaim(reader, context, tx)


def base_fee(reader: Reader, context: LedgerContext, tx: Transaction) -> int:
    """What this transaction costs without load, in drops."""
    if accounts.is_free_key_change(reader, tx):
        return 0
    return context.fees.base * (1 + len(tx.json.get("Signers", [])))


def _check_fee(reader: Reader, context: LedgerContext, tx: Transaction, balance: int) -> None:
    if context.is_open:
        require(tx.fee >= base_fee(reader, context, tx), "telINSUF_FEE_P")
    if balance < tx.fee:
        raise Reject("tecINSUFF_FEE" if balance > 0 and not context.is_open else "terINSUF_FEE_B")


def _check_authority(tx: Transaction, root: Fields) -> None:
    key = tx.json["SigningPubKey"]
    require(bool(key), "tefNOT_MULTI_SIGNING")
    signer = keylets.address_of_key(key)
    if root.get("RegularKey") == signer:
        return
    require(signer == tx.account, "tefBAD_AUTH")
    require(not root["Flags"] & DISABLE_MASTER, "tefMASTER_DISABLED")


def apply(ledger: Overlay, tx: Transaction, index: int, retry: bool = False, fail_hard: bool = False) -> Outcome:
    """Apply to a ledger in the making; `index` is the place it would take there.

    `retry` is a pass before the last of a closing ledger: a tec is not claimed then, for a later pass may do better.
    tecEXPIRED out of apply is claimed at once, as in rippled. `fail_hard` claims no tec at all.
    """
    view = TxView(ledger)
    try:
        preflight(tx, ledger.context)
        preclaim(ledger, ledger.context, tx)
    except Reject as reject:
        if not is_claimed(reject.result) or retry or fail_hard:
            return Outcome(reject.result, applied=False)
        return _claim_fee(view, tx, reject.result, index)
    try:
        prior = ledger.balance_of(tx.account)
        _take_sequence_and_fee(view, tx)
        _remember(view, tx)
        KINDS[tx.type].apply(Apply(tx, view, prior))
    except Reject as reject:
        claims = is_claimed(reject.result) and not fail_hard and (not retry or reject.result == "tecEXPIRED")
        return _claim_fee(view, tx, reject.result, index) if claims else Outcome(reject.result, applied=False)
    return _finish(view, tx, "tesSUCCESS", index)


def _claim_fee(view: TxView, tx: Transaction, result: str, index: int) -> Outcome:
    """A tec: all effects are thrown away, then sequence and fee are taken (at most what is there)."""
    view.discard()
    _take_sequence_and_fee(view, tx)
    return _finish(view, tx, result, index)


def _take_sequence_and_fee(view: TxView, tx: Transaction) -> None:
    root = view.peek(keylets.account(tx.account))
    if root is None:
        raise Reject("terNO_ACCOUNT")
    if tx.ticket is None:
        root["Sequence"] = tx.sequence + 1
    else:
        _use_ticket(view, tx.account, tx.ticket, root)
    view.fee = min(tx.fee, int(root["Balance"]))
    add_balance(root, -view.fee)


def _remember(view: TxView, tx: Transaction) -> None:
    """Note the transaction in an account that asked for it (AccountTxnID). A tec undoes this, not the fee."""
    root = view.peek(keylets.account(tx.account))
    if root is not None and "AccountTxnID" in root:
        root["AccountTxnID"] = tx.hash


def _use_ticket(view: TxView, account: str, number: int, root: Fields) -> None:
    key = keylets.ticket(account, number)
    fields = view.peek(key)
    if fields is None:
        raise Reject("tefBAD_LEDGER")
    directory.remove(view, account, fields["OwnerNode"], key, keep_root=True)
    view.erase(key)
    root["OwnerCount"] -= 1
    root["TicketCount"] -= 1
    if not root["TicketCount"]:
        del root["TicketCount"]


def _finish(view: TxView, tx: Transaction, result: str, index: int) -> Outcome:
    record = None
    if not view.context.is_open:
        record = meta.build(view, tx.hash, result, index)
        if tx.type == "Payment" and result == "tesSUCCESS":
            record["delivered_amount"] = tx.json["Amount"]
    view.merge()
    return Outcome(result, applied=True, meta=record)


__all__ = ["KINDS", "Outcome", "Rules", "apply", "base_fee", "check_sequence", "preclaim", "preflight"]
