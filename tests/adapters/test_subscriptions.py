"""What a broker sends is what is wanted, whatever was wanted before and however often the connection was lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channeld.adapters.broker.subscriptions import AT_ONCE, Subscriptions

topics = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3)
steps = st.one_of(
    st.tuples(st.just("want"), topics),
    st.tuples(st.just("leave"), topics),
    st.tuples(st.sampled_from(["reconnected", "session lost", "said one thing"]), st.just(["a"])),
)


class Session:
    """What the broker keeps, and the one packet that it answers at a time."""

    def __init__(self, wanted: Subscriptions) -> None:
        self.has: set[str] = set()
        self.wanted = wanted

    def say(self) -> bool:
        """One packet and its answer; whether there was one to be said."""
        if missing := self.wanted.missing():
            self.has.update(missing)
            self.wanted.confirmed(missing)
            return True
        if left := self.wanted.superfluous():
            self.has.difference_update(left)
            self.wanted.taken_back(left)
            return True
        return False


@given(st.lists(steps, max_size=30))
def test_the_broker_ends_up_with_what_is_wanted(history: list[tuple[str, list[str]]]) -> None:
    subscriptions, want = Subscriptions("a"), {"a"}
    session = Session(subscriptions)
    session.has.update("ef")  # as an earlier process has left it
    subscriptions.leave("ef")
    for step, names in history:
        if step == "want":
            subscriptions.want(names)
            want.update(names)
        elif step == "leave":
            subscriptions.leave(names)
            want.difference_update(names)
        elif step == "said one thing":
            session.say()
        else:
            subscriptions.anew()
            if step == "session lost":
                session.has.clear()
    while session.say():
        pass
    assert session.has == want


def test_many_are_said_in_packets_that_brokers_take_and_each_is_told_once() -> None:
    subscriptions, told, packets = Subscriptions(map(str, range(3 * AT_ONCE))), list[str](), 0
    subscriptions.on_confirmed = told.extend
    while missing := subscriptions.missing():
        assert len(missing) <= AT_ONCE
        subscriptions.confirmed(missing)
        packets += 1
    assert (packets, sorted(map(int, told))) == (3, list(range(3 * AT_ONCE)))
