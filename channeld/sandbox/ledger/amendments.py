"""Amendments: which rules are on, and how the node speaks about them.

Those of rippled 2.3.0 stand as the recordings have them. Later ones that change payment channels are switches, off
unless asked for; the ledger's behaviour reads them through `Rules`.

Sources: rippled include/xrpl/protocol/detail/features.macro; amendment id = SHA-512Half of the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from channeld.core.errors import BadValue
from channeld.sandbox.ledger.keylets import half_hex

_ENABLED: Final = """
AMM AMMClawback CheckCashMakesTrustLine Checks Clawback Credentials DID DeletableAccounts DepositAuth DepositPreauth
DisallowIncoming ExpandedSignerList Flow FlowCross FlowSortStrands HardenedValidations ImmediateOfferKilled MPTokensV1
MultiSignReserve NFTokenMintOffer NegativeUNL NonFungibleTokensV1_1 PriceOracle RequireFullyCanonicalSig TicketBatch
XRPFees fix1513 fix1515 fix1543 fix1571 fix1578 fix1623 fix1781 fixAMMOverflowOffer fixAMMv1_1 fixAMMv1_2
fixAmendmentMajorityCalc fixCheckThreading fixDisallowIncomingV1 fixEmptyDID fixEnforceNFTokenTrustline fixFillOrKill
fixInnerObjTemplate fixInnerObjTemplate2 fixMasterKeyAsRegularKey fixNFTokenPageLinks fixNFTokenRemint fixNFTokenReserve
fixNonFungibleTokensV1_2 fixPayChanRecipientOwnerDir fixPreviousTxnID fixQualityUpperBound fixReducedOffersV1
fixReducedOffersV2 fixRemoveNFTokenAutoTrustLine fixRmSmallIncreasedQOffers fixSTAmountCanonicalize
fixTakerDryOfferRemoval fixTrustLinesToSelf fixUniversalNumber
"""
_OBSOLETE: Final = """
CryptoConditions
CryptoConditionsSuite EnforceInvariants Escrow FeeEscalation MultiSign NonFungibleTokensV1 PayChan SortedDirectories
TickSize TrustSetAuth fix1201 fix1368 fix1373 fix1512 fix1523 fix1528 fixNFTokenDirV1 fixNFTokenNegOffer
"""
_VETOED: Final = ["XChainBridge", "fixXChainRewardRounding"]
SWITCHES: Final = ("fixPayChanCancelAfter", "fixIncludeKeyletFields", "fixCleanup3_2_0")
"""Amendments that can be turned on or off, in this ledger's own order."""


@dataclass(frozen=True)
class Rules:
    """The switches as the transaction rules read them."""

    cancel_after: bool = False
    """fixPayChanCancelAfter: a Create whose CancelAfter has passed gives tecEXPIRED."""
    keylet_fields: bool = False
    """fixIncludeKeyletFields: the channel object stores the Sequence its id was made from."""
    cleanup: bool = False
    """fixCleanup3_2_0: other result codes, and a channel expires strictly after its time."""
    given: Mapping[str, bool] = field(default_factory=dict)
    """The switches that were set by name."""


def rules_from(amendments: Mapping[str, bool]) -> Rules:
    """Read the switches. Raises `BadValue` naming an amendment that is no switch of this ledger."""
    for name in amendments:
        if name not in SWITCHES:
            raise BadValue("amendment", f"{name!r} can not be switched", "one of " + ", ".join(SWITCHES))
    on = {name: amendments.get(name, False) for name in SWITCHES}
    return Rules(
        on["fixPayChanCancelAfter"], on["fixIncludeKeyletFields"], on["fixCleanup3_2_0"], given=dict(amendments)
    )


def enabled_ids(rules: Rules) -> list[str]:
    """Ids of all amendments that are on, as the ledger's Amendments object lists them."""
    names = [*_ENABLED.split(), *(name for name, on in rules.given.items() if on)]
    return sorted(half_hex(name.encode()) for name in names)


def describe(rules: Rules) -> dict[str, dict[str, Any]]:
    """The `feature` command's table: id -> name, enabled, supported, and why not if not."""
    rows: list[tuple[str, bool, Any]] = [(name, True, None) for name in _ENABLED.split()]
    rows += [(name, False, "Obsolete") for name in _OBSOLETE.split()]
    rows += [(name, False, True) for name in _VETOED]
    rows += [(name, on, None if on else True) for name, on in rules.given.items()]
    table = {half_hex(name.encode()): _row(name, on, veto) for name, on, veto in rows}
    return dict(sorted(table.items()))


def _row(name: str, on: bool, veto: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"enabled": on, "name": name, "supported": True}
    return row if veto is None else {**row, "vetoed": veto}
