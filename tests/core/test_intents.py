"""What an intent becomes on the ledger, the table it lives by, and how a validated transaction is judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import KEY, NOW, PAYEES, SOURCE, channel

from channeld.core.channel import Channel
from channeld.core.errors import Refused
from channeld.core.intents import (
    OPEN_STATUSES,
    TRANSITIONS,
    Action,
    Claim,
    Create,
    FinalizeClose,
    Fund,
    FundChannel,
    OpenChannel,
    RequestClose,
    SettleChannel,
    Status,
    check_transition,
    transaction_for,
)
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.outcome import judge
from channeld.core.units import ChannelId, Drops, LedgerIndex, RippleTime, Seconds

ID = ChannelId(f"{1:064X}")
FINAL = {Status.DONE, Status.FAILED, Status.MOOT}


@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("new", Status)
def test_only_steps_of_the_table_are_taken_and_an_end_is_an_end(old: Status, new: Status) -> None:
    legal = {
        (Status.PLANNED, Status.SIGNED), (Status.PLANNED, Status.MOOT), (Status.PLANNED, Status.FAILED),
        (Status.SIGNED, Status.PLANNED), (Status.SIGNED, Status.DONE), (Status.SIGNED, Status.FAILED),
    }  # fmt: skip
    if (old, new) in legal:
        check_transition(old, new)
    else:
        with pytest.raises(Refused):
            check_transition(old, new)


def test_every_status_is_either_open_or_final() -> None:
    assert set(TRANSITIONS) == set(Status) == OPEN_STATUSES | FINAL
    assert all(not TRANSITIONS[s] for s in FINAL)
    assert not OPEN_STATUSES & FINAL


# --- the transaction for an action -----------------------------------------------------------------------------------


def made(action: Action, c: Channel | None, authorized: int = 0, now: int = NOW) -> object:
    return transaction_for(action, c, authorized, claim_key=KEY, close_time=RippleTime(now))


@pytest.mark.parametrize("life", [None, 90])
def test_an_open_names_payee_key_and_an_end_counted_from_the_ledgers_clock(life: int | None) -> None:
    length = None if life is None else Seconds(life)
    action = OpenChannel("hot", "p", "a", PAYEES[1], Drops(5), Seconds(60), length)
    end = None if life is None else RippleTime(NOW + life)
    assert made(action, None) == Create(PAYEES[1].account, 7, Drops(5), Seconds(60), KEY, end)


@pytest.mark.parametrize(
    "action",
    [
        FundChannel("hot", ID, Drops(9)),
        SettleChannel("hot", ID, Drops(9)),
        RequestClose("hot", ID),
        FinalizeClose("hot", ID),
    ],
    ids=lambda a: a.kind.value,
)
def test_nothing_is_left_to_do_on_a_channel_that_is_gone(action: Action) -> None:
    assert made(action, None, 100) is None


@given(st.integers(1, 50), st.integers(0, 60))
def test_a_fund_adds_exactly_what_is_missing_to_its_target(amount: int, target: int) -> None:
    found = made(FundChannel("hot", ID, Drops(target)), channel(1, amount=amount))
    assert found == (Fund(ID, Drops(target - amount)) if target > amount else None)


@st.composite
def paid_channels(draw: st.DrawFn) -> tuple[Channel, int]:
    amount = draw(st.integers(1, 30))
    return channel(1, amount=amount, balance=draw(st.integers(0, amount))), draw(st.integers(0, 35))


@given(paid_channels(), st.integers(0, 40))
def test_a_settlement_pays_what_was_signed_and_no_drop_that_was_not(case: tuple[Channel, int], target: int) -> None:
    c, authorized = case
    found = made(SettleChannel("hot", c.channel_id, Drops(target)), c, authorized)
    if found is None:
        assert min(target, authorized, c.amount) <= c.balance
    else:
        assert isinstance(found, Claim)
        assert found.balance is not None
        assert c.balance < found.balance <= min(target, authorized, c.amount)
        assert not found.close


@given(paid_channels())
def test_a_close_request_pays_all_that_was_signed_with_it(case: tuple[Channel, int]) -> None:
    c, authorized = case
    owed = min(authorized, c.amount)
    expected = Claim(c.channel_id, Drops(owed) if owed > c.balance else None, close=True)
    assert made(RequestClose("hot", c.channel_id), c, authorized) == expected


@pytest.mark.parametrize(("offset", "touches"), [(-1, False), (0, False), (1, True)])
def test_a_channel_is_finalized_only_strictly_past_its_deadline_and_then_nothing_is_paid(
    offset: int, touches: bool
) -> None:
    found = made(FinalizeClose("hot", ID), channel(1, expiration=NOW), 50, now=NOW + offset)
    assert found == (Claim(ID, None, close=False) if touches else None)


# --- judging ---------------------------------------------------------------------------------------------------------

OPEN = OpenChannel("hot", "p", "a", PAYEES[0], Drops(5), Seconds(60), None)
FUND = FundChannel("hot", ID, Drops(100))
SETTLE = SettleChannel("hot", ID, Drops(30))
CLOSE = RequestClose("hot", ID)
FINALIZE = FinalizeClose("hot", ID)
AFTER = channel(1, amount=100, balance=30)


def change(c: Channel = AFTER, *, created: bool = False, deleted: bool = False, paid: int = 0) -> ChannelChange:
    return ChannelChange(c, created, deleted, Drops(paid))


def validated(*changes: ChannelChange, result: str = "tesSUCCESS") -> ValidatedTransaction:
    head = ("A" * 64, LedgerIndex(9), 0, SOURCE, 1, False, "PaymentChannelClaim")
    return ValidatedTransaction(*head, result, Drops(10), changes, ())


EXPIRED = change(deleted=True)
JUDGEMENTS = [
    ("opened", OPEN, [change(created=True)], Status.DONE, 0),
    ("changed, not created", OPEN, [change()], Status.FAILED, 0),
    ("another channel was created", OPEN, [change(channel(2), created=True)], Status.FAILED, 0),
    ("funded to the target", FUND, [change()], Status.DONE, 0),
    ("funded a drop short", FUND, [change(channel(1, amount=99))], Status.FAILED, 0),
    ("a fund that met an expired channel", FUND, [EXPIRED], Status.FAILED, 0),
    ("settled", SETTLE, [change(paid=30)], Status.DONE, 30),
    ("settled and gone dry", SETTLE, [change(deleted=True, paid=30)], Status.DONE, 30),
    ("a settlement that met an expired channel", SETTLE, [EXPIRED], Status.FAILED, 0),
    ("a settlement that moved nothing", SETTLE, [change()], Status.FAILED, 0),
    ("a settlement that touched no channel", SETTLE, [], Status.FAILED, 0),
    ("a settlement of another channel", SETTLE, [change(channel(2, balance=30), paid=30)], Status.FAILED, 0),
    ("close requested", CLOSE, [change(channel(1, expiration=NOW), paid=30)], Status.DONE, 30),
    ("a dry channel closed at once", CLOSE, [change(deleted=True, paid=30)], Status.DONE, 30),
    ("a close request that set no end", CLOSE, [change(paid=30)], Status.FAILED, 30),
    ("finalized", FINALIZE, [EXPIRED], Status.DONE, 0),
    ("a finalize that deleted nothing", FINALIZE, [change()], Status.FAILED, 0),
]


@pytest.mark.parametrize(
    ("action", "changes", "status", "paid"), [j[1:] for j in JUDGEMENTS], ids=[j[0] for j in JUDGEMENTS]
)
def test_an_intent_is_judged_by_what_the_ledger_shows(
    action: Action, changes: list[ChannelChange], status: Status, paid: int
) -> None:
    outcome = judge(action, ID, validated(*changes))
    assert (outcome.status, outcome.paid) == (status, paid)


@pytest.mark.parametrize("action", [OPEN, FUND, SETTLE, CLOSE, FINALIZE], ids=lambda a: a.kind.value)
@pytest.mark.parametrize("result", ["tecNO_TARGET", "tecUNFUNDED_PAYMENT", "tecNO_ENTRY", "tesSUCCESS "])
def test_a_code_other_than_success_is_a_failure_that_names_the_code(action: Action, result: str) -> None:
    outcome = judge(action, ID, validated(change(created=True), result=result))
    assert (outcome.status, outcome.note) == (Status.FAILED, result)
