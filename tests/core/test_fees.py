"""More with every attempt that died, most as a deadline nears, and never above the operator's cap."""

from __future__ import annotations

from channeld.core.fees import LEDGERS_TO_LIVE, URGENT_LEDGERS_TO_LIVE, Urgency, fee, life
from channeld.core.policy import Guards
from channeld.core.units import Drops, Seconds

GUARDS = Guards(Drops(0), 5, Seconds(20), Drops(500), Seconds(60), Drops(9000))


def offers(ledgers_left: int | None, open_fee: int = 10) -> list[int]:
    return [
        fee(Urgency(tried, ledgers_left), GUARDS, base_fee=Drops(10), open_fee=Drops(open_fee)) for tried in range(12)
    ]


def test_an_ordinary_transaction_doubles_what_is_asked_up_to_its_cap() -> None:
    assert offers(None)[:8] == [10, 20, 40, 80, 160, 320, 500, 500]
    assert offers(None, 10**6) == [500] * 12


def test_a_payout_with_a_deadline_may_go_to_the_urgent_cap() -> None:
    assert offers(1000)[:11] == [10 << n for n in range(10)] + [9000]


def test_with_few_attempts_left_the_cap_is_offered_at_once_and_each_lives_shorter() -> None:
    assert offers(20) == offers(0) == [9000] * 12
    assert offers(21)[0] == 10
    assert life(Urgency(0, 20)) == URGENT_LEDGERS_TO_LIVE
    assert life(Urgency(0, 21)) == life(Urgency(0)) == LEDGERS_TO_LIVE


def test_the_cap_yields_only_to_the_base_fee() -> None:
    assert fee(Urgency(0), GUARDS, base_fee=Drops(700), open_fee=Drops(700)) == 700
