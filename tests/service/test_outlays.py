"""What budgets have used is kept small over the years, and no budget says another thing because of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engine import Engine, policy
from hypothesis import event, given, settings
from hypothesis import strategies as st

from channeld.app.housekeeping import sum_outlays
from channeld.core.budgets import GRAINS, Budget, Outlay, Purse
from channeld.core.ledger import LedgerHeader
from channeld.core.records import Booked, LedgerUpdate
from channeld.core.units import Drops, LedgerIndex, RippleTime, Seconds
from channeld.service.spending import Spending

DAY, HOUR = 86_400, 3600
WINDOWS = st.sampled_from([HOUR, 32 * DAY, 40 * DAY, 60 * DAY])
STEPS = st.lists(
    st.tuples(st.sampled_from([700, 7 * HOUR, 3 * DAY, 11 * DAY]), st.sampled_from(["p", "q", ""])),
    min_size=8,
    max_size=30,
)
"""How long after the one before a transaction took something, and for which pool."""


@contextmanager
def spent(steps: list[tuple[int, str]]) -> Iterator[Engine]:
    """An engine whose store has these outlays, at the ledger that showed the last of them."""
    with tempfile.TemporaryDirectory() as name:
        engine = Engine(Path(name) / "s.db")
        engine.connect()
        now, taken = engine.ledger.time, []
        for number, (later, pool) in enumerate(steps):
            now += later
            amounts = (Drops(10 + number), 7 * number, number % 3 == 0, number % 5 == 0)
            whose = (("hot", "cold")[number % 2], number % 4 < 2)
            taken.append(Outlay(f"{number:064X}", RippleTime(now), pool, *amounts, *whose))
        index, booked = LedgerIndex(engine.ledger.index + 1), Booked(outlays=taken)
        engine.store.apply(LedgerUpdate(index, RippleTime(now), [], [], [], [], [], booked=booked))
        at(engine, now)
        yield engine
        engine.kill()


def at(engine: Engine, now: int) -> None:
    """A ledger closed then."""
    header = engine.mirror.header
    assert header is not None
    engine.mirror.header = LedgerHeader(header.index, header.hash, RippleTime(now), header.fees)


def budgets(windows: list[int]) -> tuple[Budget, ...]:
    purses = list(Purse)
    pools = (frozenset[str](), frozenset({"p"}))
    return tuple(
        Budget(f"b{n}", purses[n % 3], Drops(10**9), Seconds(window), pools[n % 2]) for n, window in enumerate(windows)
    )


@settings(max_examples=40)
@given(STEPS, st.lists(WINDOWS, min_size=1, max_size=2), WINDOWS)
def test_no_budget_says_another_thing_for_what_was_summed(
    steps: list[tuple[int, str]], windows: list[int], longer: int
) -> None:
    """Those in force say the same to the drop as with all of it, at any moment later, after a start or without one. One
    that a policy brings afterwards never says less than was spent, and at most an hour's worth more.
    """
    with spent(steps) as engine:
        engine.mirror.policy = replace(policy(), budgets=budgets(windows))
        everything = engine.store.outlays(RippleTime(0))
        running = Spending(engine.mirror, engine.store.outlays)
        running.used()
        while sum_outlays(engine.store, running):
            pass
        left = engine.on_disk("SELECT count(*) FROM outlay")[0][0]
        event("all of it stays" if left == len(steps) else "some of it is summed")
        for moment in leaving(everything, [*windows, HOUR], since=everything[-1].at):
            at(engine, moment)
            wanted = Spending(engine.mirror, lambda after: [o for o in everything if o.at > after])
            again = Spending(engine.mirror, engine.store.outlays)
            assert again.used() == running.used() == wanted.used()
            for wallet in ("hot", "cold"):
                drawn = [s.purse_used(wallet) for s in (again, running, wanted)]
                assert drawn == [drawn[0]] * 3
            assert again.pulses() == running.pulses() == wanted.pulses()
        engine.mirror.policy = replace(policy(), budgets=(Budget("later", Purse.FEES, Drops(10**9), Seconds(longer)),))
        slack = HOUR + longer // GRAINS + 1
        for moment in leaving(everything, [longer], since=everything[-1].at):
            at(engine, moment)
            said = Spending(engine.mirror, engine.store.outlays).used()["later"]
            fees = [(o.at, o.fee) for o in everything if not o.deadline]
            exact, most = (sum(fee for at_, fee in fees if at_ > moment - longer - s) for s in (0, slack))
            assert exact <= said <= most


def leaving(outlays: Sequence[Outlay], windows: Sequence[int], since: int) -> list[int]:
    """Moments around those at which something leaves a window, in order."""
    moments = {
        o.at + window + more for o in outlays for window in windows for more in (-1, 0, window // GRAINS, HOUR - 1)
    }
    return [since, *sorted(moment for moment in moments if moment > since)]


def test_a_slice_is_bounded_and_sums_add_up(tmp_path: Path) -> None:
    with spent([(60, "p")] * 300 + [(40 * DAY, "q")]) as engine:
        books = engine.store.books
        before = RippleTime(engine.ledger.time + 300 * 60 + 1)
        assert [books.sum_outlays(before, 128) for _ in range(4)] == [128, 128, 44, 0]
        assert engine.on_disk("SELECT count(*) FROM outlay") == [(1,)]
        (hours, fee) = engine.on_disk("SELECT count(*), sum(fee) FROM outlay_sum")[0]
        assert hours <= 4 * (300 * 60 // HOUR + 2), "one each of two wallets, deadline work apart"
        assert fee == sum(10 + number for number in range(300))
        assert sum(o.fee for o in books.outlays(RippleTime(0))) == fee + 310
