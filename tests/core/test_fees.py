"""More with every attempt that died, most as a deadline nears, and never above the operator's cap."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core.fees import LAST_ATTEMPTS, LEDGERS_TO_LIVE, URGENT_LEDGERS_TO_LIVE, Means, Urgency, fee, life
from channeld.core.ledger import OpenFees
from channeld.core.policy import Guards
from channeld.core.units import Drops, Seconds

GUARDS = Guards(Drops(0), 5, Seconds(20), Drops(500), Seconds(60), Drops(9000))


def offers(ledgers_left: int | None, open_fee: int = 10, least: int = 10) -> list[int | None]:
    asked = OpenFees(Drops(open_fee), Drops(least))
    return [fee(Urgency(tried, ledgers_left), GUARDS, base_fee=Drops(10), asked=asked) for tried in range(12)]


def test_an_ordinary_transaction_doubles_what_is_asked_up_to_its_cap() -> None:
    assert offers(None)[:8] == [10, 20, 40, 80, 160, 320, 500, 500]
    assert offers(None, 10**6) == [500] * 12


def test_a_payout_with_a_deadline_may_go_to_the_urgent_cap() -> None:
    assert offers(1000)[:11] == [10 << n for n in range(10)] + [9000]


def test_with_few_attempts_left_the_cap_is_offered_at_once_and_each_lives_shorter() -> None:
    assert offers(20) == offers(0) == [9000] * 12
    assert offers(21)[0] == 10
    assert life(Urgency(0, 20)) == life(Urgency(0, 0)) == URGENT_LEDGERS_TO_LIVE
    assert life(Urgency(0, 32)) == life(Urgency(0)) == LEDGERS_TO_LIVE


@pytest.mark.parametrize("left", range(61))
def test_however_short_the_time_is_an_ordinary_attempt_takes_none_of_that_for_the_last_ones(left: int) -> None:
    """Each is dead one ledger after its last; whoever began in time gets four attempts at the highest price or more."""
    at_the_cap, began = 0, left
    while left > 0:
        at_the_cap += Urgency(0, left).last_attempts
        left -= life(Urgency(0, left)) + 1
    assert at_the_cap >= min(LAST_ATTEMPTS - 1, -(-began // (URGENT_LEDGERS_TO_LIVE + 1)))


def test_above_its_cap_a_transaction_waits_and_a_last_attempt_does_not() -> None:
    """With the open ledger dear and the queue cheap the cap is offered; with both dear nothing is."""
    assert offers(None, 10**7) == [500] * 12
    assert offers(None, 10**7, least=501) == offers(1000, 10**7, least=9001) == [None] * 12
    assert offers(None, 10**7, least=500) == [500] * 12
    assert offers(1000, 10**7, least=9000) == [9000] * 12
    assert offers(5, 10**7, least=10**7) == [9000] * 12


def test_a_node_that_does_not_tell_its_fee_holds_up_only_what_has_time() -> None:
    for left, offered in ((None, None), (1000, 10), (5, 9000)):
        assert fee(Urgency(0, left), GUARDS, base_fee=Drops(10), asked=None) == offered


def test_a_base_fee_above_the_cap_is_not_paid() -> None:
    """The ledger says it, not a node: less is never taken, so even a last attempt waits."""
    asked = OpenFees(Drops(9001), Drops(9001))
    assert fee(Urgency(0), GUARDS, base_fee=Drops(501), asked=asked) is None
    assert fee(Urgency(0, 3), GUARDS, base_fee=Drops(9001), asked=asked) is None


def test_no_more_is_offered_than_there_is_to_gain() -> None:
    asked = OpenFees(Drops(10), Drops(10))

    def offer(tried: int, left: int, stake: int) -> int | None:
        return fee(Urgency(tried, left, stake), GUARDS, base_fee=Drops(10), asked=asked)

    assert [offer(0, 5, stake) for stake in (3, 10, 700, 10**6)] == [10, 10, 700, 9000]
    assert [offer(tried, 1000, 100) for tried in range(5)] == [10, 20, 40, 80, 100]


def test_no_more_is_offered_before_an_end_than_the_account_has_and_never_less_than_the_base_fee() -> None:
    asked = OpenFees(Drops(10), Drops(10))

    def offer(tried: int, left: int | None, has: int) -> int | None:
        return fee(Urgency(tried, left), GUARDS, base_fee=Drops(10), asked=asked, affordable=has)

    assert [offer(0, 5, has) for has in (-5, 9, 10, 700, 10**6)] == [10, 10, 10, 700, 9000]
    assert [offer(tried, 1000, 35) for tried in range(4)] == [10, 20, 35, 35]
    assert offer(9, None, 35) == 500, "what can wait is bounded by the operator's cap alone"


def test_what_the_account_cannot_pay_waits_until_the_last_attempts_and_is_tried_then() -> None:
    """Until then it would take a number for nothing; and a node that lies about its fee loses nobody anything."""
    asked = OpenFees(Drops(100), Drops(100))
    offers = [fee(Urgency(0, left), GUARDS, base_fee=Drops(10), asked=asked, affordable=50) for left in (1000, 21, 20)]
    assert offers == [None, None, 50]


def test_no_attempt_is_made_where_less_is_at_stake_than_the_node_asks() -> None:
    """It would hold up what is worth more; a node that lies about its fee can lose us no more than that."""
    for left in (1000, 5):
        offers = [
            fee(Urgency(0, left, stake), GUARDS, base_fee=Drops(10), asked=OpenFees(Drops(least), Drops(least)))
            for stake, least in ((1, 10), (1, 11), (700, 700), (700, 701), (8999, 9000), (9000, 9000))
        ]
        assert offers == [10, None, 700, None, None, 9000]
    beyond = OpenFees(Drops(9001), Drops(9001))
    assert fee(Urgency(0, 5, 9000), GUARDS, base_fee=Drops(10), asked=beyond) == 9000
    assert fee(Urgency(0, 5, 1), GUARDS, base_fee=Drops(10), asked=None) == 10, "who tells nothing holds up nothing"


# --- means -----------------------------------------------------------------------------------------------------------

BASE, CAP = 10, 100_000
STAKES = st.lists(st.one_of(st.integers(1, 2 * BASE), st.integers(1, 2 * CAP), st.integers(1, 10**9)), max_size=60)
DROPS = st.one_of(st.integers(0, 3 * CAP), st.integers(0, 60 * CAP))


def given_out(drops: int, stakes: list[int]) -> list[int]:
    """What each may offer where all offer the most they may, the biggest stake first."""
    means, found = Means.of(drops, sum(stakes)), list[int]()
    for stake in sorted(stakes, reverse=True):
        found.append(min(CAP, max(BASE, stake), means.room(stake)))
        means.took(stake, found[-1])
    return found


@given(DROPS, STAKES)
def test_no_more_is_given_out_than_there_is_and_never_more_for_less(drops: int, stakes: list[int]) -> None:
    """So nobody with a lower offer is numbered before one with a higher, but for a drop that is left over."""
    given_each = given_out(drops, stakes)
    assert sum(given_each) <= drops
    assert all(after <= before + 1 for before, after in pairwise(given_each))
    assert min(given_each, default=0) >= 0


@given(DROPS, STAKES)
def test_each_has_its_part_of_one_half_and_the_biggest_all_of_the_other(drops: int, stakes: list[int]) -> None:
    total = sum(stakes)
    for place, (stake, drops_given) in enumerate(
        zip(sorted(stakes, reverse=True), given_out(drops, stakes), strict=True)
    ):
        most = min(CAP, max(BASE, stake))
        assert drops_given >= min(most, drops // 2 * stake // total - 1)
        assert place or drops_given >= min(most, drops - drops // 2)


@given(DROPS, STAKES.filter(bool), st.data())
def test_smaller_stakes_take_no_more_from_the_bigger_than_they_may_offer_themselves(
    drops: int, stakes: list[int], data: st.DataObject
) -> None:
    """So a thousand claims of a drop take a thousand base fees at most, and nothing where there is enough."""
    smaller = data.draw(st.lists(st.integers(1, min(stakes)), max_size=60))
    alone, beside = given_out(drops, stakes), given_out(drops, stakes + smaller)
    kept, taken = beside[: len(stakes)], beside[len(stakes) :]
    assert sum(alone) - sum(kept) <= sum(taken) <= sum(max(BASE, stake) for stake in smaller)
    assert all(after >= before - sum(taken) for before, after in zip(alone, kept, strict=True))
    if drops >= 2 * CAP * len(stakes):
        assert kept == alone


def test_a_drop_beside_forty_xrp_takes_nothing() -> None:
    assert given_out(2 * 10**6, [40 * 10**6] + [1] * 45)[0] == CAP
    assert given_out(CAP, [40 * 10**6] + [1] * 45)[0] == CAP - 1


def test_where_there_is_too_little_for_all_the_first_may_offer_all_they_need() -> None:
    """What they bring pays for the others: shared by all alike nobody might be taken."""
    each = given_out(2 * 10**6, [40 * 10**6] * 46)
    assert [drops == CAP for drops in each].count(True) == 12
    assert each[-1] >= 2 * 10**6 // 2 // 46 - 1


def test_who_has_nothing_is_given_nothing() -> None:
    means = Means.of(-5, 10)
    assert means.room(10) < 0
    means.took(10, 10)
    assert (means.left, means.room(0)) == (-15, means.first)
