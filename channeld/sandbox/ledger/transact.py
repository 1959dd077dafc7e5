"""What every transaction type is to the pipeline, and the small moves they share.

A type has three steps, each of which ends by raising `Reject`: `preflight` looks at the transaction alone, `preclaim`
reads the ledger, `apply` changes it after the fee was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from channeld.core.units import MAX_DROPS
from channeld.sandbox.ledger import directory, keylets
from channeld.sandbox.ledger.amendments import Rules
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.results import Reject
from channeld.sandbox.ledger.state import Fields, Reader
from channeld.sandbox.ledger.view import LedgerContext, TxView

UNIVERSAL_FLAGS: Final = 0x80000000
"""tfFullyCanonicalSig, the only flag every type allows. Sources: rippled TxFlags.h."""
REQUIRE_DEST_TAG: Final = 0x00020000
DISABLE_MASTER: Final = 0x00100000
DEPOSIT_AUTH: Final = 0x01000000
DISALLOW_INCOMING_PAY_CHAN: Final = 0x10000000
PASSWORD_SPENT: Final = 0x00010000


@dataclass
class Apply:
    """One transaction being applied. `prior_balance` is the source's balance before the fee was taken."""

    tx: Transaction
    view: TxView
    prior_balance: int

    @property
    def context(self) -> LedgerContext:
        """The ledger it is applied in."""
        return self.view.context

    def source(self) -> Fields:
        """The submitter's AccountRoot, to be changed."""
        return peek_account(self.view, self.tx.account)


def _nothing(_reader: Reader, _context: LedgerContext, _tx: Transaction) -> None:
    return None


@dataclass(frozen=True)
class Kind:
    """A transaction type."""

    flags: int
    """Flags it knows, besides the universal ones."""
    preflight: Callable[[Transaction, Rules], None]
    apply: Callable[[Apply], None]
    preclaim: Callable[[Reader, LedgerContext, Transaction], None] = _nothing
    flags_first: bool = True
    """Whether the flags are tested before all else, or by the type's own preflight."""


def peek_account(view: TxView, address: str) -> Fields:
    """An AccountRoot that must exist, to be changed."""
    root = view.peek(keylets.account(address))
    if root is None:
        raise Reject("tefINTERNAL")
    return root


def read_account(reader: Reader, address: str) -> Fields | None:
    """An AccountRoot, or None."""
    return reader.read(keylets.account(address))


def add_balance(root: Fields, drops: int) -> None:
    """Add drops (or take them, if negative) to an AccountRoot's Balance."""
    root["Balance"] = str(int(root["Balance"]) + drops)


def legal_drops(value: Any) -> int:
    """A positive amount of XRP. Raises temBAD_AMOUNT for anything else.

    Sources: isXRP and `<= beast::zero` in every payment channel transactor.
    """
    if not isinstance(value, str) or int(value) <= 0:
        raise Reject("temBAD_AMOUNT")
    return int(value)


def check_ceiling(tx: Transaction, rules: Rules) -> None:
    """With fixCleanup3_2_0 no Amount or Balance may exceed all the XRP there is. Raises temBAD_AMOUNT."""
    values = (tx.json.get(name) for name in ("Amount", "Balance"))
    if rules.cleanup and any(isinstance(value, str) and int(value) > MAX_DROPS for value in values):
        raise Reject("temBAD_AMOUNT")


def own(applying: Apply, key: str) -> str:
    """Put an object under the submitter: directory page (returned) and owner count."""
    page = directory.add(applying.view, applying.tx.account, key)
    root = applying.source()
    root["OwnerCount"] += 1
    return page


def preauthorized(reader: Reader, owner: str, sender: str) -> bool:
    """Whether `owner` takes deposits from `sender`: it does not ask for authority, is the sender, or gave it.

    Sources: rippled CredentialHelpers.cpp verifyDepositPreauth.
    """
    root = read_account(reader, owner)
    if root is None or not root["Flags"] & DEPOSIT_AUTH or owner == sender:
        return True
    return reader.read(keylets.deposit_preauth(owner, sender)) is not None


def check_credentials(tx: Transaction) -> None:
    """The form of CredentialIDs. Raises temMALFORMED. Sources: rippled CredentialHelpers.cpp checkFields."""
    ids = tx.json.get("CredentialIDs")
    if ids is not None and (not 1 <= len(ids) <= 8 or len(set(ids)) != len(ids)):
        raise Reject("temMALFORMED")


def refuse_credentials(tx: Transaction) -> None:
    """No credential objects exist on this ledger, so naming one is tecBAD_CREDENTIALS."""
    if "CredentialIDs" in tx.json:
        raise Reject("tecBAD_CREDENTIALS")
