"""Transactions about accounts: Payment of XRP, AccountSet, SetRegularKey, DepositPreauth, TicketCreate.

Sources: rippled src/xrpld/app/tx/detail/{Payment,SetAccount,SetRegularKey,DepositPreauth,CreateTicket}.cpp (2.3.0).
"""

from __future__ import annotations

from typing import Final

from channeld.sandbox.ledger import directory, keylets
from channeld.sandbox.ledger.amendments import Rules
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.results import Reject, require
from channeld.sandbox.ledger.state import Fields, Reader
from channeld.sandbox.ledger.transact import (
    DEPOSIT_AUTH,
    DISABLE_MASTER,
    PASSWORD_SPENT,
    REQUIRE_DEST_TAG,
    Apply,
    Kind,
    add_balance,
    check_credentials,
    own,
    preauthorized,
    read_account,
    refuse_credentials,
)
from channeld.sandbox.ledger.view import LedgerContext

_PARTIAL, _LIMIT, _NO_DIRECT = 0x00020000, 0x00040000, 0x00010000
MAX_TICKETS: Final = 250


def _payment_preflight(tx: Transaction, _rules: Rules) -> None:
    check_credentials(tx)
    amount = tx.json["Amount"]
    require(isinstance(amount, str), "temDISABLED")  # issued currencies are no part of this ledger
    require(int(amount) > 0, "temBAD_AMOUNT")
    require(tx.json["Destination"] != keylets.ZERO_ACCOUNT, "temDST_NEEDED")
    require(tx.account != tx.json["Destination"], "temREDUNDANT")
    require("SendMax" not in tx.json, "temBAD_SEND_XRP_MAX")
    require("Paths" not in tx.json, "temBAD_SEND_XRP_PATHS")
    require(not tx.flags & _PARTIAL, "temBAD_SEND_XRP_PARTIAL")
    require(not tx.flags & _LIMIT, "temBAD_SEND_XRP_LIMIT")
    require(not tx.flags & _NO_DIRECT, "temBAD_SEND_XRP_NO_DIRECT")
    require("DeliverMin" not in tx.json, "temBAD_AMOUNT")


def _payment_preclaim(reader: Reader, context: LedgerContext, tx: Transaction) -> None:
    destination = read_account(reader, tx.json["Destination"])
    if destination is None:
        require(int(tx.json["Amount"]) >= context.fees.account_reserve(0), "tecNO_DST_INSUF_XRP")
    elif destination["Flags"] & REQUIRE_DEST_TAG:
        require("DestinationTag" in tx.json, "tecDST_TAG_NEEDED")
    refuse_credentials(tx)


def _payment_apply(applying: Apply) -> None:
    tx, view, fees = applying.tx, applying.view, applying.context.fees
    source, amount, receiver = applying.source(), int(tx.json["Amount"]), tx.json["Destination"]
    kept = max(fees.account_reserve(source["OwnerCount"]), tx.fee)
    require(applying.prior_balance >= amount + kept, "tecUNFUNDED_PAYMENT")
    key = keylets.account(receiver)
    destination = view.peek(key)
    if destination is None:
        view.insert(key, new_account(receiver, amount, applying.context.index))
    else:
        small = max(int(destination["Balance"]), amount) <= fees.account_reserve(0)
        require(small or preauthorized(view, receiver, tx.account), "tecNO_PERMISSION")
        add_balance(destination, amount)
        destination["Flags"] &= ~PASSWORD_SPENT
    add_balance(source, -amount)


def new_account(address: str, drops: int, sequence: int) -> Fields:
    """A fresh AccountRoot. Its first Sequence is the index of the ledger that creates it (DeletableAccounts)."""
    return {
        "Account": address,
        "Balance": str(drops),
        "Flags": 0,
        "LedgerEntryType": "AccountRoot",
        "OwnerCount": 0,
        "Sequence": sequence,
    }


_SET_FLAGS: Final = {
    1: REQUIRE_DEST_TAG,
    2: 0x00040000,
    3: 0x00080000,
    4: DISABLE_MASTER,
    6: 0x00200000,
    7: 0x00400000,
    8: 0x00800000,
    9: DEPOSIT_AUTH,
    12: 0x04000000,
    13: 0x08000000,
    14: 0x10000000,
    15: 0x20000000,
    16: 0x80000000,
}
"""asf value -> lsf flag. Sources: rippled TxFlags.h, LedgerFormats.h."""
_TX_SETS: Final = {0x00010000: 1, 0x00040000: 2, 0x00100000: 3}
_TX_CLEARS: Final = {0x00020000: 1, 0x00080000: 2, 0x00200000: 3}
_NO_FREEZE: Final = 6
_ACCOUNT_TXN_ID: Final = 5
_TEXT_FIELDS: Final = ("Domain", "EmailHash", "MessageKey", "WalletLocator")


def _wishes(tx: Transaction) -> tuple[set[int], set[int]]:
    """Flags (asf values) to set and to clear, from SetFlag, ClearFlag and the older transaction flags."""
    sets = {value for flag, value in _TX_SETS.items() if tx.flags & flag} | {tx.json.get("SetFlag", 0)}
    clears = {value for flag, value in _TX_CLEARS.items() if tx.flags & flag} | {tx.json.get("ClearFlag", 0)}
    return sets - {0}, clears - {0}


def _set_preflight(tx: Transaction, _rules: Rules) -> None:
    sets, clears = _wishes(tx)
    require(not sets & clears, "temINVALID_FLAG")
    rate = tx.json.get("TransferRate", 0)
    require(not rate or 10**9 <= rate <= 2 * 10**9, "temBAD_TRANSFER_RATE")
    tick = tx.json.get("TickSize", 0)
    require(not tick or 3 <= tick <= 15, "temBAD_TICK_SIZE")
    require(tx.json.get("SetFlag") != 10 and "NFTokenMinter" not in tx.json, "temDISABLED")


def _set_preclaim(reader: Reader, _context: LedgerContext, tx: Transaction) -> None:
    root = read_account(reader, tx.account)
    if root is None:
        raise Reject("terNO_ACCOUNT")
    asks_auth = 2 in _wishes(tx)[0] and not root["Flags"] & _SET_FLAGS[2]
    require(not asks_auth or directory.is_empty(reader, tx.account), "tecOWNERS")


def _set_apply(applying: Apply) -> None:
    tx, root = applying.tx, applying.source()
    sets, clears = _wishes(tx)
    if 4 in sets and not root["Flags"] & DISABLE_MASTER:
        by_master = keylets.address_of_key(tx.json["SigningPubKey"]) == tx.account
        require(by_master, "tecNEED_MASTER_KEY")
        require("RegularKey" in root, "tecNO_ALTERNATIVE_KEY")
    for value in sets & _SET_FLAGS.keys():
        root["Flags"] |= _SET_FLAGS[value]
    for value in (clears & _SET_FLAGS.keys()) - {_NO_FREEZE, 16}:
        root["Flags"] &= ~_SET_FLAGS[value]
    if _ACCOUNT_TXN_ID in sets:
        root.setdefault("AccountTxnID", keylets.ZERO_HASH)
    if _ACCOUNT_TXN_ID in clears:
        root.pop("AccountTxnID", None)
    _set_fields(tx, root)


def _set_fields(tx: Transaction, root: Fields) -> None:
    """Fields that are stored as given; an empty or zero value removes them."""
    for name in _TEXT_FIELDS:
        if name in tx.json:
            if tx.json[name].strip("0"):
                root[name] = tx.json[name]
            else:
                root.pop(name, None)
    for name, default in (("TransferRate", 10**9), ("TickSize", 15)):
        if name in tx.json:
            if tx.json[name] in (0, default):
                root.pop(name, None)
            else:
                root[name] = tx.json[name]


def is_free_key_change(reader: Reader, tx: Transaction) -> bool:
    """Whether this SetRegularKey may be free: signed by the master key, and not used up since the last payment."""
    if tx.type != "SetRegularKey" or not tx.json["SigningPubKey"]:
        return False
    root = read_account(reader, tx.account)
    by_master = keylets.address_of_key(tx.json["SigningPubKey"]) == tx.account
    return by_master and root is not None and not root["Flags"] & PASSWORD_SPENT


def _regular_preflight(tx: Transaction, _rules: Rules) -> None:
    require(tx.json.get("RegularKey") != tx.account, "temBAD_REGKEY")


def _regular_apply(applying: Apply) -> None:
    tx, root = applying.tx, applying.source()
    if tx.fee < applying.context.fees.base:
        root["Flags"] |= PASSWORD_SPENT
    if "RegularKey" in tx.json:
        root["RegularKey"] = tx.json["RegularKey"]
        return
    require(not root["Flags"] & DISABLE_MASTER, "tecNO_ALTERNATIVE_KEY")
    root.pop("RegularKey", None)


def _preauth_preflight(tx: Transaction, _rules: Rules) -> None:
    names = [name for name in ("Authorize", "Unauthorize") if name in tx.json]
    unknown = [name for name in ("AuthorizeCredentials", "UnauthorizeCredentials") if name in tx.json]
    require(len(names) + len(unknown) == 1, "temMALFORMED")
    require(not unknown, "temDISABLED")  # credentials are no part of this ledger
    require(tx.json[names[0]] != keylets.ZERO_ACCOUNT, "temINVALID_ACCOUNT_ID")
    require("Authorize" not in tx.json or tx.json["Authorize"] != tx.account, "temCANNOT_PREAUTH_SELF")


def _preauth_preclaim(reader: Reader, _context: LedgerContext, tx: Transaction) -> None:
    if (authorize := tx.json.get("Authorize")) is not None:
        require(read_account(reader, authorize) is not None, "tecNO_TARGET")
        require(reader.read(keylets.deposit_preauth(tx.account, authorize)) is None, "tecDUPLICATE")
    else:
        key = keylets.deposit_preauth(tx.account, tx.json["Unauthorize"])
        require(reader.read(key) is not None, "tecNO_ENTRY")


def _preauth_apply(applying: Apply) -> None:
    tx, view, root = applying.tx, applying.view, applying.source()
    if "Authorize" not in tx.json:
        key = keylets.deposit_preauth(tx.account, tx.json["Unauthorize"])
        fields = view.peek(key)
        if fields is None:
            raise Reject("tefINTERNAL")
        directory.remove(view, tx.account, fields["OwnerNode"], key, keep_root=False)
        root["OwnerCount"] -= 1
        return view.erase(key)
    reserve = applying.context.fees.account_reserve(root["OwnerCount"] + 1)
    require(applying.prior_balance >= reserve, "tecINSUFFICIENT_RESERVE")
    key = keylets.deposit_preauth(tx.account, tx.json["Authorize"])
    fields = {"Account": tx.account, "Authorize": tx.json["Authorize"], "Flags": 0}
    fields |= {"LedgerEntryType": "DepositPreauth", "OwnerNode": own(applying, key)}
    view.insert(key, fields)
    return None


def _tickets_preflight(tx: Transaction, _rules: Rules) -> None:
    require(1 <= tx.json["TicketCount"] <= MAX_TICKETS, "temINVALID_COUNT")


def _tickets_preclaim(reader: Reader, _context: LedgerContext, tx: Transaction) -> None:
    root = read_account(reader, tx.account)
    if root is None:
        raise Reject("terNO_ACCOUNT")
    held = root.get("TicketCount", 0) - (tx.ticket is not None)
    require(held + tx.json["TicketCount"] <= MAX_TICKETS, "tecDIR_FULL")


def _tickets_apply(applying: Apply) -> None:
    tx, view, root = applying.tx, applying.view, applying.source()
    count = tx.json["TicketCount"]
    reserve = applying.context.fees.account_reserve(root["OwnerCount"] + count)
    require(applying.prior_balance >= reserve, "tecINSUFFICIENT_RESERVE")
    first = root["Sequence"]
    for sequence in range(first, first + count):
        key = keylets.ticket(tx.account, sequence)
        fields = {"Account": tx.account, "Flags": 0, "LedgerEntryType": "Ticket", "TicketSequence": sequence}
        view.insert(key, fields | {"OwnerNode": own(applying, key)})
    root["TicketCount"] = root.get("TicketCount", 0) + count
    root["Sequence"] = first + count


KINDS: Final = {
    "Payment": Kind(_PARTIAL | _LIMIT | _NO_DIRECT, _payment_preflight, _payment_apply, _payment_preclaim),
    "AccountSet": Kind(0x003F0000, _set_preflight, _set_apply, _set_preclaim),
    "SetRegularKey": Kind(0, _regular_preflight, _regular_apply),
    "DepositPreauth": Kind(0, _preauth_preflight, _preauth_apply, _preauth_preclaim),
    "TicketCreate": Kind(0, _tickets_preflight, _tickets_apply, _tickets_preclaim),
}
