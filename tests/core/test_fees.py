"""More with every attempt that died, most as a deadline nears, and never above the operator's cap."""

from __future__ import annotations

import pytest

from channeld.core.fees import LAST_ATTEMPTS, LEDGERS_TO_LIVE, URGENT_LEDGERS_TO_LIVE, Urgency, fee, life
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


def test_what_an_account_has_changes_nothing_about_what_waits() -> None:
    """A node that asks more than the operator allows is waited for; more than there is, is tried."""
    asked = OpenFees(Drops(100), Drops(100))
    assert fee(Urgency(0, 1000), GUARDS, base_fee=Drops(10), asked=asked, affordable=50) == 50
