"""What we sign is what the ledger takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core.intents import Claim, Create, Fund, Noop, Number, Transaction
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime, Seconds
from channeld.wire.transactions import transaction_json

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "claim-vectors.json").read_text())[
    "transactions"
]
ALICE, BOB = "rsxZupPvnQbaSQbrTtCnTgGtQwJksr8VL3", "rLFtVprxUEfsH54eCWKsZrEQzMDsx1wqso"
CHANNEL = ChannelId("E35708503B3C3143FB522D749AAFCC296E8060F0FB371A9A56FAE0B1ED127366")
NUMBER = Number(82)


def said(transaction: Transaction, network_id: int = 0, number: Number = NUMBER) -> dict[str, Any]:
    return transaction_json(
        transaction,
        account=Address(ALICE),
        number=number,
        fee=Drops(10),
        last_ledger=LedgerIndex(5000),
        network_id=network_id,
    )


def vector(kind: str, sequence: int) -> dict[str, Any]:
    """A recorded transaction of this account without what signing adds."""
    (found,) = (
        v["tx_json"] for v in VECTORS if v["tx_json"]["Account"] == ALICE and v["tx_json"]["Sequence"] == sequence
    )
    assert found["TransactionType"] == kind
    return {k: v for k, v in found.items() if k not in ("SigningPubKey", "TxnSignature", "Sequence")}


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if k not in names}


def test_an_open_is_said_as_recorded() -> None:
    recorded = vector("PaymentChannelCreate", 82)
    create = Create(Address(BOB), None, Drops(100_000_000), Seconds(3600), recorded["PublicKey"], None)
    assert without(said(create), "Sequence") == recorded | {"Flags": 0}


def test_a_fund_never_carries_an_expiration() -> None:
    recorded = vector("PaymentChannelFund", 84)
    assert without(said(Fund(CHANNEL, Drops(5_000_000))), "Sequence", "Flags") == without(recorded, "Expiration")


def test_a_close_sets_tfclose_and_nothing_sets_tfrenew() -> None:
    recorded = vector("PaymentChannelClaim", 86)
    assert without(said(Claim(CHANNEL, None, close=True)), "Sequence") == recorded
    assert recorded["Flags"] == 0x0002_0000


@given(st.integers(1, 10**17), st.booleans())
def test_a_payout_names_the_balance_to_reach_and_no_amount(balance: int, close: bool) -> None:
    fields = said(Claim(CHANNEL, Drops(balance), close=close))
    assert fields["Balance"] == str(balance)
    assert not {"Amount", "Signature", "PublicKey"} & fields.keys()
    assert fields["Flags"] == (0x0002_0000 if close else 0)


@pytest.mark.parametrize(("network_id", "named"), [(0, False), (1, False), (1024, False), (1025, True), (21_337, True)])
def test_a_network_is_named_only_where_it_must_be(network_id: int, named: bool) -> None:
    fields = said(Noop(), network_id)
    assert fields.get("NetworkID") == (network_id if named else None)
    assert fields["TransactionType"] == "AccountSet"


@given(st.integers(0, 2**32 - 1) | st.none(), st.integers(0, 2**32 - 1) | st.none())
def test_tag_zero_is_a_tag_and_no_tag_is_none(tag: int | None, cancel_after: int | None) -> None:
    end = None if cancel_after is None else RippleTime(cancel_after)
    fields = said(Create(Address(BOB), tag, Drops(1), Seconds(0), "ED" * 33, end))
    assert fields.get("DestinationTag") == tag
    assert fields.get("CancelAfter") == cancel_after
    assert None not in fields.values()
