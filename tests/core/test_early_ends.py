"""How long a payee that keeps closing its channels waits: doubled, capped, and forgotten with the window."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from one_payee import opens, terms, view, world
from worlds import NOW, channel

from channeld.core.decide import decide
from channeld.core.early_ends import MOST_KEPT, cut_short, waits_until
from channeld.core.policy import EARLY_ENDS, EarlyEnds
from channeld.core.records import ChannelRecord
from channeld.core.units import RippleTime, Seconds
from channeld.core.world import ChannelView, Reason

SMALL = EarlyEnds(free=2, window=Seconds(100), first=Seconds(5), longest=Seconds(30))


def at(*ago: int) -> tuple[RippleTime, ...]:
    return tuple(RippleTime(NOW - a) for a in ago)


def wait(*ago: int, terms: EarlyEnds = SMALL) -> int:
    until = waits_until(at(*ago), terms, RippleTime(NOW))
    return 0 if until is None else until - NOW


def test_it_doubles_from_the_first_that_is_not_free_up_to_the_longest() -> None:
    assert [wait(*[0] * n) for n in range(8)] == [0, 0, 0, 5, 10, 20, 30, 30]
    assert [wait(*[0] * n, terms=EARLY_ENDS) for n in (3, 4, 5, 9, 10, 11, MOST_KEPT)] == [
        *(0, 600, 1200, 19_200, 38_400, 43_200, 43_200)
    ]


@given(st.lists(st.integers(0, 150), max_size=12).map(lambda ends: sorted(ends, reverse=True)), st.integers(0, 40))
def test_whoever_keeps_still_is_let_in_in_time_and_no_later(ends: list[int], later: int) -> None:
    """Time alone only ever shortens a wait, and it is over at the moment that was told, or before."""
    now = wait(*ends)
    assert now <= 30
    assert wait(*(ago + later for ago in ends)) <= max(0, now - later)
    assert wait(*ends) == 0 or len([ago for ago in ends if ago < 100]) > 2
    assert wait(*ends, 0) >= now, "one more never makes it shorter"
    assert not now or wait(*(ago + now - 1 for ago in ends)) == 1, "it is told to the second"


def test_only_the_payee_can_have_ended_it_early() -> None:
    def ended(issuing: bool = True, **facts: int) -> bool:
        known = channel(1, **facts)
        record = ChannelRecord(1, known, 0, issuing, "p", "a", *[RippleTime(0)] * 2, None, None)
        return cut_short(record, RippleTime(NOW)) is not None

    assert ended()
    assert ended(cancel_after=NOW + 1)
    assert not ended(issuing=False), "we closed it, or were about to"
    assert not ended(expiration=NOW + 1), "its end was set already"
    assert not ended(cancel_after=NOW), "it reached its end"


def test_no_channel_is_opened_nor_spare_kept_before_the_wait_is_over() -> None:
    policy = terms(1)
    early = at(*[0] * 4)

    def decided(wanted: int, now: int, *views: ChannelView) -> tuple[int, Reason | None, int | None]:
        shown = world(*views, wanted=wanted)
        group = replace(shown.groups[0], early_ends=early)
        decision = decide(replace(shown, groups=(group,), close_time=RippleTime(now)), policy)
        hold = next((h for h in decision.holds if h.subject == group.subject), None)
        return len(opens(decision)), hold.reason if hold else None, hold.until if hold else None

    assert decided(10, NOW) == (0, Reason.EARLY_ENDS, NOW + 600)
    assert decided(10, NOW + 599) == (0, Reason.EARLY_ENDS, NOW + 600)
    assert decided(10, NOW + 600)[0] == 1
    assert decided(0, NOW, view(1))[:2] == (0, Reason.EARLY_ENDS), "a spare is a channel like any other"
