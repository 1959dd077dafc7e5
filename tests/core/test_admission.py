"""Limits and fairness: no more than configured passes, everybody gets a turn, and what waits is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channeld.core.admission import QUANTUM, SHORTEST_RETRY_MS, Admission, Group
from channeld.core.limits import LONGEST_RETRY_NS, SECOND_NS, Bucket, Limit
from channeld.core.requests import Code

FREE = Limit(1_000_000, 1000)
calls = st.lists(st.tuples(st.integers(0, SECOND_NS), st.integers(1, 1000)), max_size=60)


@given(per_s=st.integers(1, 100_000), steps=calls)
def test_no_span_of_time_lets_more_pass_than_its_rate_a_second_ahead_and_one_call(
    per_s: int, steps: list[tuple[int, int]]
) -> None:
    bucket, now, passed = Bucket(per_s), 0, []
    for step, count in steps:
        now += step
        if bucket.take(now, count):
            passed.append((now, count))
    for n, (start, _) in enumerate(passed):
        total = 0
        for at, count in passed[n:]:
            total += count
            assert (total - count) * SECOND_NS <= per_s * (at - start + SECOND_NS) + SECOND_NS


@given(per_s=st.integers(1, 100_000), count=st.integers(1, 1000))
def test_a_refused_call_that_comes_when_it_was_told_passes(per_s: int, count: int) -> None:
    bucket = Bucket(per_s)
    while bucket.take(0, count):
        pass
    first, second = bucket.promise(0, 1), bucket.promise(0, 1)
    assert first <= second <= LONGEST_RETRY_NS
    assert first == LONGEST_RETRY_NS or bucket.take(first, 1)


def test_one_server_gets_half_of_the_room_and_no_server_less_than_its_share() -> None:
    admission: Admission[int] = Admission(Limit(1_000_000, 100), dict.fromkeys("abcd", FREE))
    took = {name: sum(admission.admit(name, n, 1, 0) is None for n in range(200)) for name in "abcd"}
    assert took == {"a": 50, "b": 25, "c": 20, "d": 20}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1000)), max_size=80), st.integers(1, 2000))
def test_whatever_others_send_a_server_has_its_equal_share_of_the_room(steps: list[tuple[str, int]], most: int) -> None:
    admission: Admission[int] = Admission(Limit(1_000_000, most), dict.fromkeys("abcd", Limit(1_000_000, 100_000)))
    for n, (name, cost) in enumerate(steps):
        admission.admit(name, n, cost, n * SECOND_NS)
    now = len(steps) * SECOND_NS
    assert all(admission.admit("d", n, 1, now) is None for n in range(most // 5))


@given(
    st.lists(st.tuples(st.sampled_from(("abc", "ax", "take")), st.integers(1, 60)), max_size=40), st.integers(1, 100)
)
def test_whatever_they_cost_so_many_messages_wait_and_each_server_has_its_share_of_them(
    steps: list[tuple[str, int]], most: int
) -> None:
    """A broker finds an acknowledged message among all that wait: it is their number that counts there."""
    admission: Admission[int] = Admission(Limit(1_000_000, 10**6), dict.fromkeys("abcd", FREE), most)
    share, waiting = max(1, most // 5), 0
    for names, count in steps:
        if names == "take":
            waiting -= len(admission.take(count))
            continue
        waiting += sum(admission.admit(name, 0, 1, 0) is None for name in names for _ in range(count))
        assert waiting <= most + share * 4
    assert all(admission.admit("d", n, 1, 0) is None for n in range(share))
    admission.take(10**6)
    assert admission.admit("a", 0, 1, 0) is None


@given(st.lists(st.tuples(st.sampled_from("abx"), st.integers(1, 1000)), max_size=80))
def test_what_waits_is_bounded_and_comes_out_once_in_each_servers_order(steps: list[tuple[str, int]]) -> None:
    admission: Admission[tuple[str, int]] = Admission(Limit(1_000_000, 500), dict.fromkeys("ab", FREE))
    waits = [
        (name, n)
        for n, (name, cost) in enumerate(steps)
        if admission.admit(name, (name, n), cost, n * SECOND_NS) is None
    ]
    assert admission.waiting <= 500 + 3 * 1000
    out = []
    while admission.waiting:
        out += admission.take(32)
    assert sorted(out) == sorted(waits)
    for server in "abx":
        assert [n for name, n in out if name == server] == [n for name, n in waits if name == server]


def test_a_lone_request_waits_for_no_more_than_a_quantum_of_a_flood() -> None:
    admission: Admission[str] = Admission(Limit(1_000_000, 2000), dict.fromkeys("ab", FREE))
    for _ in range(900):
        admission.admit("a", "flood", 1, 0)
    admission.admit("b", "lone", 1, 0)
    assert admission.take(32).index("lone") <= QUANTUM


def test_who_sends_batches_gets_no_more_than_who_sends_one_by_one() -> None:
    admission: Admission[str] = Admission(Limit(1_000_000, 30_000), dict.fromkeys("ab", Limit(1_000_000, 9000)))
    for _ in range(2000):
        admission.admit("b", "single", 1, 0)
    for _ in range(20):
        admission.admit("a", "batch", 100, 0)
    taken = [item for _ in range(20) for item in admission.take(64)]
    assert abs(taken.count("batch") * 100 - taken.count("single")) <= 200


def test_codes_say_whether_a_configured_rate_or_the_load_is_the_reason() -> None:
    admission: Admission[int] = Admission(Limit(10, 1000), {"a": Limit(5, 1000), "b": FREE, "c": Limit(1000, 1)})
    codes = [r.code for n in range(9) if (r := admission.admit("a", n, 1, 0))]
    assert set(codes) == {Code.LIMIT_EXCEEDED}
    assert admission.admit("c", 1, 1, 0) is None
    refusal = admission.admit("c", 2, 1, 0)
    assert refusal is not None
    assert (refusal.code, refusal.retry_after_ms) == (Code.BUSY, SHORTEST_RETRY_MS)
    refused = [r.code for n in range(9) if (r := admission.admit("b", n, 1, 0))]
    assert set(refused) == {Code.BUSY}


def test_who_is_refused_for_what_waits_is_told_a_moment_of_its_own() -> None:
    """Where little waits, too: if all came back at once, as few would be let in as now."""
    admission: Admission[int] = Admission(Limit(1_000_000, 1000), {"a": Limit(1_000_000, 5)})
    refused = [refusal for n in range(205) if (refusal := admission.admit("a", n, 1, 0))]
    waits = [refusal.retry_after_ms or 0 for refusal in refused]
    assert len(waits) == 200
    assert waits == sorted(waits)
    assert waits[0] == SHORTEST_RETRY_MS
    assert max(waits.count(wait) for wait in waits) <= 10, "a millisecond is enough for ten"


# --- the overall rate ------------------------------------------------------------------------------------------------

OPEN = Limit(1_000_000, 1_000_000_000)
"""A server whose own limits never bind."""
rates = st.integers(1, 300)
mixed = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from([0, 0, 1, 10**7, 10**8, SECOND_NS]),
        st.sampled_from([1, 1, 2, 20]),
        st.sampled_from([1, 5, 300]),
    ),
    max_size=25,
)
"""Server, pause before, requests in a call, how many such calls at once: often more than any rate."""


def rated(per_s: int) -> Admission[int]:
    return Admission(Limit(per_s, 10**9), dict.fromkeys("abcd", OPEN), 10**9)


def played(admission: Admission[int], steps: list[tuple[str, int, int, int]]) -> list[tuple[int, str, int, bool]]:
    """When, who, how many, and whether they passed."""
    now, seen = 0, []
    for name, pause, count, times in steps:
        now += pause
        seen += [(now, name, count, admission.admit(name, 0, count, now) is None) for _ in range(times)]
    return seen


@given(per_s=rates, steps=mixed)
def test_all_together_never_pass_the_overall_rate(per_s: int, steps: list[tuple[str, int, int, int]]) -> None:
    """But for a second ahead, and what a call is larger than the room it found: one of each server, and one more."""
    passed = [(at, name, count) for at, name, count, yes in played(rated(per_s), steps) if yes]
    first = {at: n for n, (at, _, _) in reversed(list(enumerate(passed)))}
    for start, n in first.items():
        total, largest = 0, dict.fromkeys("abcd", 0)
        for at, name, count in passed[n:]:
            total += count
            largest[name] = max(largest[name], count)
            slack = sum(largest.values()) + max(largest.values())
            assert (total - slack) * SECOND_NS <= per_s * (at - start + SECOND_NS)


@given(per_s=rates, who=st.sampled_from(["a", "ab", "abcd", "dcba"]))
def test_a_long_flood_of_any_passes_at_the_overall_rate(per_s: int, who: str) -> None:
    admission, seconds = rated(per_s), 10
    passed = sum(
        admission.admit(name, 0, 1, now) is None
        for now in range(0, seconds * SECOND_NS, SECOND_NS // 20)
        for name in who
        for _ in range(per_s // 10 + 2)
    )
    assert per_s * (seconds - 1) <= passed <= per_s * (seconds + 1) + 5


@given(per_s=rates, steps=mixed)
def test_within_its_equal_share_of_the_overall_rate_nobody_is_refused_for_others(
    per_s: int, steps: list[tuple[str, int, int, int]]
) -> None:
    """Half a second of it at once, and then at its pace; the strangers' line counts as one."""
    own = Bucket(per_s, among=5, ahead_ns=SECOND_NS // 2)
    admission, now = rated(per_s), 0
    for name, pause, count, times in steps:
        now += pause
        for _ in range(times):
            if name != "d":
                admission.admit(name, 0, count, now)
            elif own.take(now, count):
                assert admission.admit("d", 0, count, now) is None


@given(per_s=rates, seconds=st.integers(1, 5))
def test_what_others_do_not_use_one_can(per_s: int, seconds: int) -> None:
    admission = rated(per_s)
    step = SECOND_NS // 100
    passed = sum(
        admission.admit("a", 0, 1, now) is None
        for now in range(0, seconds * SECOND_NS, step)
        for _ in range(per_s // 50 + 2)
    )
    assert passed >= per_s * seconds - per_s // 100 - 1


@given(per_s=rates, steps=mixed, count=st.integers(1, 40))
def test_who_is_refused_for_the_overall_rate_and_comes_when_it_was_told_passes(
    per_s: int, steps: list[tuple[str, int, int, int]], count: int
) -> None:
    admission = rated(per_s)
    seen = played(admission, steps)
    now = seen[-1][0] if seen else 0
    while (refusal := admission.admit("a", 0, count, now)) is None:
        pass
    assert refusal.code is Code.BUSY
    assert refusal.retry_after_ms is not None
    wait = refusal.retry_after_ms * 1_000_000
    assert wait >= LONGEST_RETRY_NS or admission.admit("a", 0, count, now + wait) is None


def test_a_reload_that_changes_no_rate_forgives_nothing() -> None:
    admission = rated(100)
    while admission.admit("a", 0, 1, 0) is None:
        pass
    admission.reload(Limit(100, 10**9), dict.fromkeys("abcx", OPEN))
    assert admission.admit("a", 0, 1, 0) is not None
    assert admission.admit("x", 0, 1, 0) is None, "a new server has its share"


def test_servers_that_are_not_configured_share_one_line() -> None:
    admission: Admission[int] = Admission(Limit(1_000_000, 2000), {})
    assert sum(admission.admit(f"s{n}", n, 1, 0) is None for n in range(500)) == 100


@given(took=st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 10**10)), max_size=30), ns=st.integers(1, 10**9))
def test_a_group_is_as_large_as_deciding_is_quick_within_its_bounds(took: list[tuple[int, int]], ns: int) -> None:
    admission: Admission[int] = Admission(Limit(1000, 1000), {})
    for count, spent in took:
        admission.decided(count, spent)
    sizes = [admission.size(Group(100, 900, budget)) for budget in (ns, 2 * ns)]
    assert 100 <= sizes[0] <= sizes[1] <= 900
    admission.decided(1, 10**12)
    assert admission.size(Group(100, 900, ns)) <= sizes[0]


def test_a_commit_is_worth_as_many_requests_as_take_as_long() -> None:
    admission: Admission[int] = Admission(Limit(1000, 1000), {})
    assert admission.worth_a_commit == 0
    for _ in range(200):
        admission.decided(32, 32 * 50_000 + 10_000_000, 10_000_000)
    assert 190 <= admission.worth_a_commit <= 200
    for _ in range(200):
        admission.decided(32, 32 * 50_000)
    assert admission.worth_a_commit == 0
