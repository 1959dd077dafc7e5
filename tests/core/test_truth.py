"""Money is accounted for to the drop, and a store that is not the newest is told by its witnesses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import PAYEES, SOURCE, channel

from channeld.core.conservation import LossKind, Moved, explained, loss_of
from channeld.core.freezes import INSTRUCTIONS, Cause
from channeld.core.intents import FundChannel, OpenChannel
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.units import Address, Drops, LedgerIndex, RippleTime, Seconds
from channeld.core.witness import REBUILT, Identity, Witness, doubt_broker, doubt_file, opened_by, source_tag

HOME = "channeld-1 on broker:1883 channeld/v1"
STRANGER = Address("rDx69ebzbowuqztksVDmZXjizTd12BVr4x")


def transaction(by: Address = SOURCE, fee: int = 10) -> ValidatedTransaction:
    head = ("A" * 64, LedgerIndex(7), 0, by, 1, False, "Any", "tesSUCCESS")
    return ValidatedTransaction(*head, Drops(fee), (), ())


@given(st.integers(1, 100), st.integers(0, 50), st.integers(0, 50), st.booleans(), st.booleans())
def test_the_books_of_source_and_destination_add_up(
    amount: int, added: int, paid: int, deleted: bool, ours: bool
) -> None:
    """Whatever happens to a channel, what its two ends gain and it loses is the fee and nothing else."""
    before = channel(amount=amount + 50)
    after = replace(before, amount=Drops(before.amount + added), balance=Drops(paid))
    tx = transaction(SOURCE if ours else PAYEES[0].account)
    moves = [Moved(before, ChannelChange(after, False, deleted, Drops(paid)))]
    both = explained(tx, SOURCE, moves) + explained(tx, PAYEES[0].account, moves)
    held_before, held_after = before.remaining, 0 if deleted else after.remaining
    assert both + held_after - held_before == -tx.fee


def test_a_new_channel_takes_its_whole_amount() -> None:
    made = Moved(None, ChannelChange(channel(amount=100), True, False, Drops(0)))
    assert explained(transaction(), SOURCE, [made]) == -110
    assert explained(transaction(STRANGER), STRANGER, [made]) == -10


@pytest.mark.parametrize(
    ("by", "now", "kind"),
    [
        (PAYEES[0].account, 50, LossKind.FORGONE),
        (PAYEES[0].account, 60, LossKind.UNPAID),
        (SOURCE, 50, LossKind.UNPAID),
        (STRANGER, 60, LossKind.UNPAID),
        (None, 50, LossKind.UNSEEN),
    ],
)
def test_whose_doing_a_lost_payout_is(by: Address | None, now: int, kind: LossKind) -> None:
    gone = channel(amount=100, balance=40, expiration=60)
    tx = None if by is None else transaction(by)
    assert loss_of(gone, 41, tx, RippleTime(now)) is kind
    assert loss_of(gone, 40, tx, RippleTime(now)) is None


def judged(
    version: int, file: int | None, broker: int | None, *, home: str = HOME, other: bool = False
) -> Cause | None:
    store = Identity("mine", version, home)
    seen = [None if v is None else Witness("other" if other else "mine", v) for v in (file, broker)]
    doubt = doubt_file(store, seen[0]) or doubt_broker(store, seen[0], seen[1], HOME)
    return doubt.cause if doubt else None


@given(st.integers(0, 9), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))
def test_a_store_is_believed_only_if_no_witness_is_above_it(version: int, file: int | None, broker: int | None) -> None:
    above = max(file or 0, broker or 0) > version
    lonely = version > 0 and file is None and broker is None
    wanted = Cause.OLD_STORE if above else Cause.WITNESS_MISSING if lonely else None
    assert judged(version, file, broker) is wanted


def test_a_store_of_another_name_or_another_id_is_not_believed() -> None:
    assert judged(5, 5, None, home="channeld-2 on broker:1883 channeld/v1") is Cause.MOVED
    assert judged(5, None, 1, other=True) is Cause.OTHER_STORE
    assert judged(0, None, None, home="") is None, "the first start ever"
    assert judged(0, None, 9, home=REBUILT, other=True) is None, "an operator said that no other store counts"
    assert judged(0, None, 9, home="", other=True) is Cause.OTHER_STORE, "a new store where another one was"


def test_two_stores_never_leave_the_same_mark() -> None:
    marks = {source_tag(f"{n:032x}", SOURCE) for n in range(1000)}
    assert len(marks) == 1000
    assert all(0 <= mark < 2**32 for mark in marks)


def test_a_channel_proves_that_a_store_opened_it_by_its_mark_its_terms_and_that_it_is_untouched() -> None:
    made = replace(channel(amount=20), source_tag=source_tag("mine", SOURCE))
    action = OpenChannel("hot", "p", "a", made.payee, Drops(20), Seconds(10), None)
    assert opened_by(action, made, "mine")
    assert not opened_by(action, made, "another store")
    assert not opened_by(FundChannel("hot", made.channel_id, Drops(20)), made, "mine")
    off = (
        {"source_tag": None}, {"amount": Drops(21)}, {"balance": Drops(1)}, {"settle_delay": Seconds(9)},
        {"expiration": RippleTime(5)}, {"cancel_after": RippleTime(5)}, {"destination_tag": 0},
    )  # fmt: skip
    assert not any(opened_by(action, replace(made, **other), "mine") for other in off)  # type: ignore[arg-type]
    ends = replace(made, cancel_after=RippleTime(5))
    assert opened_by(replace(action, life=Seconds(60)), ends, "mine")


def test_every_freeze_says_what_to_do() -> None:
    assert set(INSTRUCTIONS) == set(Cause)
