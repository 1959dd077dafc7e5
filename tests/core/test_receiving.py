"""Taking in claims and collecting them, as rules: whatever payers sign and sources do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import KEY, NOW, PAYEES, channel

from channeld.core.channel import Channel, Phase
from channeld.core.claim import claim_message
from channeld.core.policy import ReceiveTerms
from channeld.core.receiving import judge_claim, redemption
from channeld.core.records import Incoming
from channeld.core.requests import Code, HandIn, Refusal
from channeld.core.units import Drops, LedgerIndex, RippleTime, Seconds

OURS, STRANGER = PAYEES[0].account, PAYEES[2].account
OTHER_KEY = "ED" + "11" * 32
TERMS = ReceiveTerms(
    min_amount=Drops(10),
    min_settle_delay=Seconds(5),
    min_life=Seconds(20),
    worth=Drops(25),
    max_age=Seconds(30),
    before_end=Seconds(10),
    close_with_last=False,
)


def sign(message: bytes) -> bytes:
    return b"signed " + message


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return key.hex().upper() == KEY and signature == sign(message)


def claim(on: Channel, amount: int, *, key: str = KEY, signed: int | None = None) -> HandIn:
    signature = sign(claim_message(bytes.fromhex(on.channel_id), amount if signed is None else signed))
    return HandIn("a", b"k", b"c", on.channel_id, amount, signature, key)


def judged(handed: HandIn, held: Incoming | None, accounts: frozenset[str] = frozenset({OURS})) -> int | Refusal:
    return judge_claim(handed, held, accounts, TERMS, now=RippleTime(NOW), verify=verify)  # type: ignore[arg-type]


def refused(handed: HandIn, held: Incoming | None, accounts: frozenset[str] = frozenset({OURS})) -> Code:
    answer = judged(handed, held, accounts)
    assert isinstance(answer, Refusal), answer
    return answer.code


def lives(seed: int) -> Iterator[tuple[Incoming, HandIn]]:
    """A channel through its life, and a claim of any kind at every moment of it; amounts are near what matters."""
    r = Random(seed)
    held = Incoming(channel(1, amount=r.randint(8, 60), settle_delay=r.choice([4, 5, 6]), payee=r.choice(PAYEES)))
    for _ in range(25):
        now, best = held.channel, max(held.held, held.channel.balance)
        amount = max(1, r.choice([best - 1, best, best + 1, now.amount, now.amount + 1, r.randint(1, 70)]))
        key = KEY if r.random() < 0.9 else OTHER_KEY
        signed = amount if r.random() < 0.85 else amount + r.choice([-1, 1])
        handed = claim(now, amount, key=key, signed=signed)
        yield held, handed
        answer = judged(handed, held)
        if not isinstance(answer, Refusal):
            held = replace(held, held=amount)
        held = replace(held, channel=_moved(r, held))


def _moved(r: Random, held: Incoming) -> Channel:
    """What the source does next: mostly nothing."""
    now, what = held.channel, r.random()
    if what < 0.15:
        return replace(now, balance=Drops(r.randint(now.balance, min(now.amount, max(held.held, now.balance)))))
    if what < 0.25:
        return replace(now, amount=Drops(now.amount + r.randint(1, 9)))
    if what < 0.32:
        return replace(now, expiration=RippleTime(NOW + r.randint(-1, 9)) if now.expiration is None else None)
    if what < 0.36:
        return replace(now, cancel_after=RippleTime(NOW + r.randint(-2, 40)))
    return now


# --- taking in -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1))
def test_nothing_is_taken_in_that_could_not_be_collected(seed: int) -> None:
    for held, handed in lives(seed):
        answer = judged(handed, held)
        if isinstance(answer, Refusal):
            continue
        now = held.channel
        assert now.destination_account == OURS
        assert handed.public_key == now.public_key
        assert verify(bytes.fromhex(KEY), claim_message(bytes.fromhex(now.channel_id), handed.amount), handed.signature)
        assert now.phase(RippleTime(NOW)) is Phase.OPEN
        assert now.expiration is None
        assert handed.amount <= now.amount
        assert answer == handed.amount - max(held.held, now.balance) > 0
        assert now.amount >= 10
        assert now.settle_delay >= 5
        assert now.cancel_after is None or now.cancel_after - NOW >= 20


@given(st.integers(0, 2**63 - 1))
def test_the_best_only_rises_and_what_was_taken_in_sums_up_to_it(seed: int) -> None:
    """What the source paid beyond the best claim, it paid by itself: nobody was told that a claim added it."""
    before, best, given_away, total = 0, 0, 0, 0
    for held, handed in lives(seed):
        assert held.held >= before
        before = held.held
        given_away += max(0, held.channel.balance - max(best, held.held))
        best = max(best, held.held, held.channel.balance)
        answer = judged(handed, held)
        if not isinstance(answer, Refusal):
            total += answer
            best = handed.amount
        assert total == best - given_away


@given(st.integers(0, 2**63 - 1))
def test_handed_in_twice_it_adds_nothing(seed: int) -> None:
    for held, handed in lives(seed):
        if not isinstance(judged(handed, held), Refusal):
            assert refused(handed, replace(held, held=handed.amount)) is Code.AMOUNT_NOT_HIGHER


def test_the_order_of_refusals_names_what_is_wrong_first() -> None:
    on = channel(1, expiration=NOW + 5, settle_delay=1)
    bad = claim(on, 1000, key=OTHER_KEY)
    assert refused(bad, None) is Code.UNKNOWN_CHANNEL
    assert refused(bad, Incoming(on, closed_at=LedgerIndex(9))) is Code.UNKNOWN_CHANNEL
    assert refused(bad, Incoming(on), frozenset({STRANGER})) is Code.NOT_OURS
    assert refused(bad, Incoming(on)) is Code.BAD_SIGNATURE
    assert refused(claim(on, 1000), Incoming(on)) is Code.AMOUNT_EXCEEDS_CHANNEL
    assert refused(claim(on, 7), Incoming(on, held=7)) is Code.AMOUNT_NOT_HIGHER
    assert refused(claim(on, 7), Incoming(replace(on, balance=Drops(7)))) is Code.AMOUNT_NOT_HIGHER
    assert refused(claim(on, 7), Incoming(on)) is Code.CHANNEL_CLOSING
    assert refused(claim(on, 7), Incoming(replace(on, expiration=None))) is Code.POLICY


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ({"amount": 10}, True),
        ({"amount": 9}, False),
        ({"settle_delay": 5}, True),
        ({"settle_delay": 4}, False),
        ({"cancel_after": NOW + 20}, True),
        ({"cancel_after": NOW + 19}, False),
    ],
)
def test_what_the_policy_asks_for_is_inclusive(fields: dict[str, int], ok: bool) -> None:
    on = channel(1, **fields)  # type: ignore[arg-type]
    answer = judged(claim(on, 5), Incoming(on))
    assert answer == 5 if ok else isinstance(answer, Refusal) and answer.code is Code.POLICY


# --- collecting ------------------------------------------------------------------------------------------------------


def a_holding(seed: int) -> Incoming:
    r = Random(seed)
    amount = r.randint(1, 60)
    near = [NOW - 1, NOW, NOW + 1, NOW + 9, NOW + 10, NOW + 11, NOW + 40]
    ends = {"expiration": r.choice([None, None, *near]), "cancel_after": r.choice([None, None, *near])}
    on = channel(1, amount=amount, balance=r.randint(0, amount), **ends)
    return Incoming(on, r.randint(0, amount), "AB", "a", RippleTime(NOW), lost=r.random() < 0.1)


@given(st.integers(0, 2**63 - 1))
def test_the_transaction_asks_for_no_more_than_is_signed_and_there(seed: int) -> None:
    held = a_holding(seed)
    redeem = redemption(held, TERMS, RippleTime(NOW), halted=False)
    if redeem is None:
        assert not held.collectable or (held.channel.deadline or NOW) < NOW
        return
    assert held.channel.balance < redeem.balance <= redeem.amount == held.held
    assert redeem.balance <= held.channel.amount
    assert not redeem.close, "the channel is not given up unless the policy says so"
    giving_up = replace(TERMS, close_with_last=True)
    last = redemption(held, giving_up, RippleTime(NOW), halted=False)
    assert last is not None
    assert last.close == (held.channel.expiration is not None)
    assert redemption(held, giving_up, RippleTime(NOW), halted=True) == redeem, "more may be signed than is held"


def test_nothing_is_collected_from_a_channel_that_is_not_known() -> None:
    assert redemption(None, TERMS, RippleTime(NOW), halted=False) is None
