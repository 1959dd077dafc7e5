"""The objects a new network begins with.

Sources: rippled Ledger.cpp create_genesis; Application.cpp startGenesisLedger (2.3.0).
"""

from __future__ import annotations

from typing import Final

from channeld.core.units import MAX_DROPS
from channeld.sandbox.ledger import amendments, keylets
from channeld.sandbox.ledger.accounts import new_account
from channeld.sandbox.ledger.state import Fields
from channeld.sandbox.ledger.view import Fees

GENESIS_ACCOUNT: Final = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
"""Holds all XRP at first; its seed is that of `masterpassphrase`."""


def first_objects() -> dict[str, Fields | None]:
    """Ledger 1: one account with all the XRP there is."""
    root = new_account(GENESIS_ACCOUNT, MAX_DROPS, 1)
    root |= {"PreviousTxnID": keylets.ZERO_HASH, "PreviousTxnLgrSeq": 0}
    return {keylets.account(GENESIS_ACCOUNT): root}


def singletons(rules: amendments.Rules, fees: Fees) -> dict[str, Fields | None]:
    """The objects there is one of: Amendments and FeeSettings."""
    return {
        keylets.AMENDMENTS: {
            "Amendments": amendments.enabled_ids(rules),
            "Flags": 0,
            "LedgerEntryType": "Amendments",
        },
        keylets.FEE_SETTINGS: {
            "BaseFeeDrops": str(fees.base),
            "Flags": 0,
            "LedgerEntryType": "FeeSettings",
            "ReserveBaseDrops": str(fees.reserve),
            "ReserveIncrementDrops": str(fees.increment),
        },
    }
