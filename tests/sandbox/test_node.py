"""How transactions get from submission into a ledger: order, retries, what is held, kept and queued."""

from __future__ import annotations

import itertools

import pytest

from channeld.sandbox.ledger import codec, keylets
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.faults import Order
from channeld.sandbox.ledger.headers import rounded_close_time
from tests.sandbox.rig import XRP, Rig, address, key

LEVEL_CAP = 5000


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.fund("alice", "bob", "eve")
    return rig


@pytest.mark.parametrize(
    ("now", "parent", "close_time"), [(104, 50, 100), (105, 50, 110), (109, 110, 111), (100, 200, 201), (110, 109, 110)]
)
def test_close_time_rounding(now: int, parent: int, close_time: int) -> None:
    """To the nearest ten seconds, half up, and at least one second after the parent."""
    assert rounded_close_time(now, parent) == close_time


def test_a_gap_in_sequences_is_held_until_it_is_filled(rig: Rig) -> None:
    """terPRE_SEQ is no failure: the missing one brings all its successors with it."""
    first, second, third = (
        rig.sign("alice", "AccountSet", Sequence=rig.sign("alice", "AccountSet").sequence + place) for place in range(3)
    )
    assert rig.offer(third).result == "terPRE_SEQ"
    assert rig.offer(second).result == "terPRE_SEQ"
    assert rig.offer(first).result == "tesSUCCESS"
    assert [record.tx for record in rig.close()] == [first, second, third]


def test_a_failed_transaction_is_tried_again_for_five_ledgers(rig: Rig) -> None:
    """Kept: the account it needs comes into being, and it goes in without being submitted again."""
    late = rig.sign("late", "AccountSet", Sequence=rig.node.open.index + 3)
    assert rig.offer(late).result == "terNO_ACCOUNT"
    rig.close(3)
    rig.fund("late")
    assert late.hash in rig.node.open.transactions
    assert [record.tx for record in rig.close()] == [late]


def test_fail_hard_keeps_nothing(rig: Rig) -> None:
    """Then a failure is the end of it."""
    future = rig.sign("alice", "AccountSet", Sequence=rig.sign("alice", "AccountSet").sequence + 1)
    answer = rig.offer(future, fail_hard=True)
    assert (answer.result, answer.kept, answer.broadcast) == ("terPRE_SEQ", False, False)
    assert rig.submit("alice", "AccountSet") == "tesSUCCESS"
    assert future.hash not in rig.node.open.transactions
    before = rig.balance("alice")
    answer = rig.offer(rig.sign("alice", "PaymentChannelClaim", Channel="1" * 64), fail_hard=True)
    assert (answer.result, answer.applied, rig.balance("alice")) == ("tecNO_TARGET", False, before)


def test_kept_ones_are_forgotten_after_five_ledgers(rig: Rig) -> None:
    """And the ticketless, accountless one is never seen again."""
    late = rig.sign("late", "AccountSet", Sequence=rig.node.open.index + 9)
    assert rig.offer(late).result == "terNO_ACCOUNT"
    rig.close(9)
    rig.fund("late")
    rig.close()
    assert rig.node.history.find(late.hash) is None


def test_a_tec_of_the_open_ledger_may_be_a_success_in_the_closed(rig: Rig) -> None:
    """The closed ledger is made anew, with retries: what came too early succeeds there."""
    channel_number = rig.sign("alice", "AccountSet").sequence
    channel = keylets.channel(address("alice"), address("bob"), channel_number)
    claim = rig.sign("bob", "PaymentChannelClaim", Channel=channel)
    assert rig.offer(claim).result == "tecNO_TARGET"
    body = {"Amount": "1000", "SettleDelay": 5, "PublicKey": key("alice").public_key}
    assert rig.submit("alice", "PaymentChannelCreate", Destination=address("bob"), **body) == "tesSUCCESS"
    results = {record.tx.type: record.result for record in rig.close()}
    assert results == {"PaymentChannelCreate": "tesSUCCESS", "PaymentChannelClaim": "tesSUCCESS"}


def test_an_adverse_order_turns_success_into_failure(rig: Rig) -> None:
    """The reorder fault: of two claims on one channel the later submitted one wins."""
    channel = rig.open_channel()
    assert rig.claim("alice", channel, Balance="1000") == "tesSUCCESS"
    assert rig.claim("bob", channel, "alice", Balance="3000") == "tesSUCCESS"
    rig.node.faults.orders["reorder"] = Order(1)
    results = {record.tx.account: record.result for record in rig.close()}
    assert results == {address("bob"): "tesSUCCESS", address("alice"): "tecUNFUNDED_PAYMENT"}


def test_held_back_until_the_last_ledger(rig: Rig) -> None:
    """The delay_validation fault: in the open ledger at once, validated only in LastLedgerSequence."""
    rig.node.faults.orders["delay_validation"] = Order(1)
    last = rig.node.open.index + 2
    tx = rig.sign("alice", "AccountSet", LastLedgerSequence=last)
    assert rig.offer(tx).result == "tesSUCCESS"
    assert rig.close(2) == []
    assert [record.tx for record in rig.close()] == [tx]
    assert rig.node.validated.index == last


def _run_of(rig: Rig, by: str, count: int, **fields: str) -> list[Transaction]:
    first = rig.sign(by, "AccountSet").sequence
    return [rig.sign(by, "AccountSet", Sequence=first + place, **fields) for place in range(count)]


def test_a_full_ledger_queues() -> None:
    """Four go in, the rest waits, ten at most of one account; higher fees go first and can go in at once."""
    rig = Rig(capacity=4)
    rig.fund("alice", "bob")
    txs = _run_of(rig, "alice", 16)
    answers = [rig.offer(tx) for tx in txs]
    assert [answer.result for answer in answers] == ["tesSUCCESS"] * 4 + ["terQUEUED"] * 10 + [
        "telCAN_NOT_QUEUE_FULL"
    ] * 2
    assert (answers[4].queued, answers[4].applied, answers[4].kept, answers[4].broadcast) == (True, False, True, True)
    assert answers[4].sequence_available == txs[5].sequence
    assert answers[4].open_ledger_cost == LEVEL_CAP
    assert rig.submit("bob", "AccountSet", Fee=str(LEVEL_CAP)) == "tesSUCCESS"
    assert [len(rig.close()) for _ in range(4)] == [5, 4, 4, 4]
    assert all(rig.node.history.find(tx.hash) for tx in txs)


def test_replacing_a_queued_transaction() -> None:
    """Takes a fee more than a quarter higher."""
    rig = Rig(capacity=1)
    rig.fund("alice")
    assert rig.submit("alice", "AccountSet") == "tesSUCCESS"
    assert rig.submit("alice", "AccountSet") == "terQUEUED"
    assert rig.submit("alice", "AccountSet", Fee="12") == "telCAN_NOT_QUEUE_FEE"
    assert rig.submit("alice", "AccountSet", Fee="13") == "terQUEUED"
    rig.close()
    assert [record.tx.fee for record in rig.close()] == [13]


def test_what_may_not_wait() -> None:
    """A LastLedgerSequence too near, a gap, and fees beyond the base reserve."""
    rig = Rig(capacity=1)
    rig.fund("alice")
    assert rig.submit("alice", "AccountSet") == "tesSUCCESS"
    index = rig.node.open.index
    assert rig.submit("alice", "AccountSet", LastLedgerSequence=index + 1) == "telCAN_NOT_QUEUE"
    assert rig.submit("alice", "AccountSet", LastLedgerSequence=index + 2) == "terQUEUED"
    first = rig.sign("alice", "AccountSet").sequence
    assert rig.submit("alice", "AccountSet", Sequence=first + 5) == "terPRE_SEQ"
    assert rig.submit("alice", "AccountSet", Sequence=first + 1, Fee="9") == "telINSUF_FEE_P"
    assert rig.submit("alice", "AccountSet", Fee=str(XRP), Sequence=first + 1) == "terQUEUED"
    assert rig.submit("alice", "AccountSet", Sequence=first + 2) == "telCAN_NOT_QUEUE_BALANCE"


def test_queued_ones_expire() -> None:
    """A queued transaction whose LastLedgerSequence is over is dropped."""
    rig = Rig(capacity=2)
    rig.fund("alice", "bob", drops=100 * XRP)
    doomed = rig.sign("alice", "AccountSet", LastLedgerSequence=rig.node.open.index + 2)
    better = [rig.offer(tx).result for tx in _run_of(rig, "bob", 12, Fee="20")]
    assert better == ["tesSUCCESS"] * 2 + ["terQUEUED"] * 10
    assert rig.offer(doomed).result == "terQUEUED"
    assert [len(rig.close()) for _ in range(4)] == [2] * 4
    assert rig.node.history.find(doomed.hash) is None
    assert rig.node.queue.holds(doomed) is None


def test_old_ledgers_answer_within_the_window(rig: Rig) -> None:
    """Objects as of a past ledger; versions out of the window are dropped, tombstones too."""
    channel = rig.open_channel()
    opened = rig.node.validated.index
    assert rig.claim("bob", channel, Flags=0x00020000) == "tesSUCCESS"
    rig.close()
    assert rig.node.state.read_at(channel, opened) is not None
    assert rig.node.state.read_at(channel, opened + 1) is None
    rig.close(255)
    assert rig.node.state.oldest > opened
    rig.close(2)
    assert channel not in rig.node.state._versions


def test_hashes_depend_on_content_only() -> None:
    """Two nodes with the same history agree; another history gives others; each header names its parent."""
    one, two, other = (Rig() for _ in range(3))
    for rig in (one, two):
        rig.fund("alice", "bob")
    other.fund("alice")
    assert one.node.validated == two.node.validated
    assert one.node.validated.account_hash != other.node.validated.account_hash
    headers = list(one.node.headers.values())
    assert all(child.parent_hash == parent.hash for parent, child in itertools.pairwise(headers))


def test_a_held_back_one_keeps_its_successors_waiting(rig: Rig) -> None:
    """They stay in the open ledger behind it, and all are validated together."""
    rig.node.faults.orders["delay_validation"] = Order(1)
    txs = _run_of(rig, "alice", 3)
    first = rig.sign("alice", "AccountSet", LastLedgerSequence=rig.node.open.index + 1)
    assert [rig.offer(tx).result for tx in (first, *txs[1:])] == ["tesSUCCESS"] * 3
    assert rig.close() == []
    assert len(rig.node.open.transactions) == 3
    assert [record.tx for record in rig.close()] == [first, *txs[1:]]


def test_signatures(rig: Rig) -> None:
    """A transaction signed twice over, by no one, or with a long claim signature is judged as rippled does."""
    tx = rig.sign("alice", "AccountSet")
    signer = {"Signer": {"Account": address("eve"), "SigningPubKey": key("eve").public_key, "TxnSignature": "00"}}
    both = codec.Transaction(tx.blob, tx.hash, {**tx.json, "Signers": [signer]})
    with pytest.raises(codec.Refused, match="Cannot both single- and multi-sign"):
        codec.check(both)
    with pytest.raises(codec.Refused, match="Empty SigningPubKey"):
        codec.check(codec.Transaction(tx.blob, tx.hash, {**tx.json, "SigningPubKey": ""}))
    long = {"Signature": "00" * 300, "PublicKey": key("alice").public_key, "Balance": "5"}
    assert rig.submit("alice", "PaymentChannelClaim", Channel="1" * 64, **long) == "temBAD_SIGNATURE"
