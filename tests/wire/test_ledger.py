"""What a node says becomes core values or `Malformed` and nothing else."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.core.errors import Malformed
from channeld.core.ledger import ValidatedTransaction
from channeld.core.units import Address, LedgerIndex
from channeld.wire import ledger

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "recorded.json").read_text())
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "claim-vectors.json").read_text())[
    "transactions"
]
TRANSACTIONS: dict[str, Any] = RECORDED["transactions"]
ALICE, BOB = "rsxZupPvnQbaSQbrTtCnTgGtQwJksr8VL3", "rLFtVprxUEfsH54eCWKsZrEQzMDsx1wqso"

# name: amount, balance, paid, created, deleted, expiration
WHAT_HAPPENED = {
    "create": (100_000_000, 0, 0, True, False, None),
    "settle": (100_000_000, 3_000_000, 3_000_000, False, False, None),
    "close_when_dry": (100_000_000, 100_000_000, 0, False, True, None),
    "fund": (101_000_000, 0, 0, False, False, None),
    "redeem": (100_000_000, 1_000_000, 1_000_000, False, False, None),
    "request_close": (100_000_000, 0, 0, False, False, 800_003_610),
    "lazy_delete_unpaid": (100_000_000, 0, 0, False, True, 800_003_610),
    "pay_all_and_close": (100_000_000, 100_000_000, 100_000_000, False, True, None),
    "pay_and_request_close": (100_000_000, 5, 5, False, False, 800_003_610),
    "payee_closes_paid": (100_000_000, 7_000_000, 7_000_000, False, True, None),
    "payee_closes_unpaid": (100_000_000, 0, 0, False, True, None),
    "stranger_deletes": (100_000_000, 0, 0, False, True, 800_003_610),
    "renew": (100_000_000, 0, 0, False, False, None),
}


@pytest.mark.parametrize("name", WHAT_HAPPENED)
def test_metadata_tells_what_a_transaction_did_to_a_channel(name: str) -> None:
    transaction = ledger.validated_transaction(TRANSACTIONS[name])
    (change,) = transaction.channels
    c = change.channel
    found = (c.amount, c.balance, change.paid, change.created, change.deleted, c.expiration)
    assert found == WHAT_HAPPENED[name]
    assert (c.source_account, c.destination_account, c.ledger_index) == (ALICE, BOB, transaction.ledger_index)
    assert transaction.succeeded


def test_who_signed_a_transaction_tells_whose_blob_it_was_made_of() -> None:
    def read(signed: dict[str, Any]) -> ValidatedTransaction:
        entry = TRANSACTIONS["redeem"]
        names = ("SigningPubKey", "TxnSignature")
        return ledger.validated_transaction(entry | {"tx_json": entry["tx_json"] | {n: signed[n] for n in names}})

    blobs = [vector["tx_blob"] for vector in VECTORS]
    for place, vector in enumerate(VECTORS):
        found = [read(vector["tx_json"]).altered_from(blob) for blob in blobs]
        assert found == [n == place for n in range(len(blobs))]
    other_key = VECTORS[0]["tx_json"] | {"SigningPubKey": VECTORS[-1]["tx_json"]["SigningPubKey"]}
    several = VECTORS[0]["tx_json"] | {"SigningPubKey": ""}
    assert not any(read(tx).altered_from(blobs[0]) for tx in (other_key, several))


@pytest.mark.parametrize("name", ["settle_again", "fund_refused"])
def test_a_refused_transaction_changes_no_channel_and_still_costs_its_fee(name: str) -> None:
    transaction = ledger.validated_transaction(TRANSACTIONS[name])
    assert transaction.channels == ()
    assert not transaction.succeeded
    assert transaction.fee == 10
    assert [a.address for a in transaction.accounts] == [transaction.account]


def test_the_accounts_a_transaction_changed_are_told_as_they_were_afterwards() -> None:
    accounts = {a.address: a for a in ledger.validated_transaction(TRANSACTIONS["settle"]).accounts}
    assert accounts[Address(ALICE)].balance == 899_999_980
    assert accounts[Address(ALICE)].owner_count == 1
    assert accounts[Address(BOB)].balance == 1_003_000_000


def test_an_account_that_was_only_threaded_is_not_told() -> None:
    assert [a.address for a in ledger.validated_transaction(TRANSACTIONS["create"]).accounts] == [ALICE]


def test_a_stream_message_reads_like_an_answer() -> None:
    assert ledger.validated_transaction(RECORDED["stream_transaction"]).channels[0].created


def test_a_ticket_is_named_as_one() -> None:
    entry = copy.deepcopy(TRANSACTIONS["settle"])
    entry["tx_json"] |= {"Sequence": 0, "TicketSequence": 41}
    transaction = ledger.validated_transaction(entry)
    assert (transaction.number, transaction.ticket) == (41, True)


def test_a_closed_ledger_carries_its_clock_and_its_prices() -> None:
    header = ledger.header(RECORDED["ledgerClosed"])
    assert (header.index, header.close_time, header.fees.base_fee) == (7, 800_000_010, 10)
    assert header.fees.reserve(3) == 1_000_000 + 3 * 200_000


def test_a_listed_channel_equals_the_created_one() -> None:
    item = RECORDED["account_channels"]["channels"][0]
    listed = ledger.listed_channel(item, LedgerIndex(7))
    assert ledger.listed_channel(item | {"source_tag": 0}, LedgerIndex(7)).source_tag == 0
    assert listed == ledger.validated_transaction(TRANSACTIONS["create"]).channels[0].channel


def test_an_account_is_read() -> None:
    state = ledger.account_state(RECORDED["account_info"]["account_data"])
    assert (state.address, state.balance, state.owner_count, state.master_disabled) == (ALICE, 899_999_990, 1, False)
    locked = RECORDED["account_info"]["account_data"] | {"Flags": 0x0010_0000, "RegularKey": BOB}
    state = ledger.account_state(locked)
    assert (state.master_disabled, state.regular_key) == (True, BOB)


# --- broken messages -------------------------------------------------------------------------------------------------

READERS: list[tuple[Callable[[Any], object], Any]] = [
    (ledger.validated_transaction, TRANSACTIONS["pay_and_request_close"]),
    (ledger.validated_transaction, TRANSACTIONS["create"]),
    (ledger.validated_transaction, TRANSACTIONS["lazy_delete_unpaid"]),
    (ledger.header, RECORDED["ledgerClosed"]),
    (lambda m: ledger.listed_channel(m, LedgerIndex(7)), RECORDED["account_channels"]["channels"][0]),
    (ledger.account_state, RECORDED["account_info"]["account_data"]),
    (ledger.node_facts, {"info": {"complete_ledgers": "2-5,7-90", "network_id": 3, "build_version": "3.0.0"}}),
    (ledger.submit_result, {"engine_result": "tesSUCCESS", "queued": True, "engine_result_message": "m"}),
    (ledger.open_fees, {"drops": {"open_ledger_fee": "10", "minimum_fee": "10"}}),
]
STRANGE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**4000)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["-1", "1.5", "１", "1" * 5000, "1-", "-", "5-x", ",", "ED", "E" * 63 + "G", "e" * 64])
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [p for key, item in inner for p in places(item, (*path, key))]


@pytest.mark.parametrize("number", range(len(READERS)))
@given(st.data())
@settings(max_examples=max(150, settings().max_examples))
def test_a_message_broken_anywhere_is_malformed_or_still_readable(number: int, data: st.DataObject) -> None:
    read, good = READERS[number]
    path = data.draw(st.sampled_from(places(good)[1:]))
    broken = copy.deepcopy(good)
    holder = broken
    for key in path[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[path[-1]] = data.draw(STRANGE)
    else:
        del holder[path[-1]]
    with contextlib.suppress(Malformed):
        read(broken)


@pytest.mark.parametrize(("read", "good"), READERS)
def test_the_messages_that_are_broken_here_are_good_to_begin_with(read: Callable[[Any], object], good: Any) -> None:
    read(good)


@pytest.mark.parametrize("bad", ["", "E" * 63, "E" * 65, "G" * 64, 5, None, ["E" * 64]])
def test_a_channel_without_a_readable_id_is_malformed(bad: object) -> None:
    with pytest.raises(Malformed):
        ledger.listed_channel(RECORDED["account_channels"]["channels"][0] | {"channel_id": bad}, LedgerIndex(7))


def test_a_channel_id_is_one_channel_in_either_case() -> None:
    item = RECORDED["account_channels"]["channels"][0]
    lower = ledger.listed_channel(item | {"channel_id": item["channel_id"].lower()}, LedgerIndex(7))
    assert lower.channel_id == item["channel_id"].upper()


def test_balance_that_fell_is_no_payment() -> None:
    entry = copy.deepcopy(TRANSACTIONS["settle"])
    for node in entry["meta"]["AffectedNodes"]:
        if node["ModifiedNode"]["LedgerEntryType"] == "PayChannel":
            node["ModifiedNode"]["PreviousFields"]["Balance"] = "3000001"
    with pytest.raises(Malformed):
        ledger.validated_transaction(entry)


@pytest.mark.parametrize("text", ["empty", "", ",", "abc", "5-", "-5", "1-2-3", "１-２"])
def test_a_node_without_a_range_of_ledgers_is_malformed(text: str) -> None:
    if text == "5-":
        assert ledger.node_facts({"info": {"complete_ledgers": text}}).complete_last == 5
    else:
        with pytest.raises(Malformed):
            ledger.node_facts({"info": {"complete_ledgers": text}})
