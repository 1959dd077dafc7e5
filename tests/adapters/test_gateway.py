"""A message is acknowledged only when what was decided about it is durable and its reply is on its way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import contract
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channeld.adapters.gateway import FAIR_GROUP, FAIR_SHARE, GROUP, Gateway
from channeld.adapters.gateway.refusals import AT_ONCE, Refusals
from channeld.core.admission import MOST_MESSAGES, QUANTUM, Admission
from channeld.core.errors import BadValue
from channeld.core.limits import Limit
from channeld.core.requests import Answer, Ask, Code, HandIn, Refusal, Taken
from channeld.wire.claims import ClaimReader
from channeld.wire.daemons import status_payload
from channeld.wire.topics import Topics

TOPICS = Topics("channeld/v1", "d1")
MINE = "channeld/v1/servers/a"
SHARE = FAIR_GROUP.least // FAIR_SHARE
GOOD = b'{"id":"r1","drops":"5"}'


@dataclass(eq=False)
class Sent:
    """A message from the broker."""

    topic: str = f"{MINE}/claim"
    payload: bytes = GOOD
    retain: bool = False
    response_topic: str | None = None
    bad_response_topic: bool = False
    correlation_data: bytes | None = None
    expires_at: float | None = None
    packet_id: int = 1


@dataclass
class Out:
    """What went to the broker, in order: replies, acknowledgements and decisions."""

    log: list[tuple[str, Any]] = field(default_factory=list)
    queued_out: int = 0
    queued: dict[str, int] = field(default_factory=dict)
    room: bool = True
    each: int = 0
    """How much longer the queue gets with every reply; it takes none at 10 000."""
    largest: int = 1 << 28
    checked: bool = True
    """Whether replies are held against the contract."""
    held_back: list[bool] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    """How many replies there were whenever they were to leave at once."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation_data: bytes | None = None,
        line: str = "",
    ) -> bool:
        if topic != TOPICS.status and self.checked:
            contract.check(topic, payload)
        if len(payload) > self.largest:
            raise BadValue("payload", "larger than the broker takes")
        if not self.room or self.queued_out >= 10_000:
            return False
        self.queued_out += self.each
        self.log.append(("reply", (topic, json.loads(payload), retain, correlation_data)))
        return True

    def ack(self, message: object) -> None:
        self.log.append(("ack", message))

    def queued_in(self, line: str) -> int:
        return self.queued.get(line, 0)

    def hold_back(self, held: bool) -> None:
        self.held_back.append(held)

    def send(self) -> None:
        self.sent.append(sum(kind == "reply" for kind, _ in self.log))


NOT_HIGHER = Refusal(Code.AMOUNT_NOT_HIGHER, "held already")


class Bench:
    """A gateway with a desk that says `busy` to everything, takes `each_ns` for it, and notes what it was asked."""

    def __init__(self, a: Limit = Limit(50_000, 3000), others: str = "b") -> None:  # noqa: B008 - a value
        self.out, self.dropped, self.asked, self.now = Out(), [], [], 100.0  # type: ignore[var-annotated]
        self.refused: list[tuple[str, int]] = []
        self.each_ns, self.spent_ns, self.commit_ns = 100_000, 0, 0
        self.later: list[Callable[[], None]] = []
        self.gateway = Gateway(
            TOPICS,
            ClaimReader(0),
            self.answer,
            self.take_in,
            most_queued=5000,
            status=lambda online: b'{"online":%d}' % online,
            dropped=self.dropped.append,
            loop_time=lambda: self.now,
            admission=Admission(Limit(100_000, 4000), {"a": a, **dict.fromkeys(others, Limit(50_000, 3000))}),
            refused=lambda code, count: self.refused.append((code, count)),
            nanoseconds=lambda: int(self.now * 1e9) + self.spent_ns,
            later=self.later.append,
        )
        self.gateway.outbox = self.out

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        self.asked.append(len(asks))
        self.spent_ns += len(asks) * self.each_ns + self.commit_ns
        self.out.log.append(("decided", len(asks)))
        return [Refusal(Code.BUSY, str(n)) for n in range(len(asks))]

    def take_in(self, claims: Sequence[HandIn]) -> list[Taken | Refusal]:
        self.out.log.append(("judged", len(claims)))
        return [Taken(5, claim.amount, replayed=False) if claim.amount > 10 else NOT_HIGHER for claim in claims]

    def give(self, *messages: Sent) -> list[tuple[str, Any]]:
        self.out.log.clear()
        self.gateway.on_messages(messages)
        self.turn()
        return list(self.out.log)

    def turn(self) -> None:
        """All that was left for later turns of the loop."""
        while self.later:
            self.later.pop()()

    def replies(self, *messages: Sent) -> list[Any]:
        return [what for kind, what in self.give(*messages) if kind == "reply"]

    def reply(self, message: Sent) -> tuple[str, Any]:
        (said,) = [what for kind, what in self.give(message) if kind == "reply"]
        return said[0], said[1]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_deciding_comes_first_then_the_reply_then_the_acknowledgement(bench: Bench) -> None:
    message = Sent()
    assert [kind for kind, _ in bench.give(message)] == ["decided", "reply", "ack"]


def test_what_one_turn_of_the_loop_brought_is_decided_as_one_group(bench: Bench) -> None:
    for _ in range(3):
        bench.gateway.on_messages([Sent() for _ in range(5)])
    assert bench.asked == []
    bench.turn()
    assert bench.asked == [15]


def test_no_group_is_larger_than_it_may_be_by_more_than_one_batch(bench: Bench) -> None:
    batch = json.dumps([{"id": f"r{n}", "drops": "5"} for n in range(1000)]).encode()
    bench.give(*[Sent() for _ in range(GROUP.least)])
    bench.give(Sent(payload=batch), *[Sent() for _ in range(GROUP.least)])
    assert bench.asked == [GROUP.least, 1000, GROUP.least]


def test_when_more_waits_than_a_group_holds_groups_are_small_and_the_socket_is_read_in_between(bench: Bench) -> None:
    flood, lone = [Sent() for _ in range(1000)], Sent(topic="channeld/v1/servers/b/claim")
    bench.gateway.on_messages(flood)
    bench.later.pop()()
    assert bench.asked == [SHARE], "one group in a turn of the loop"
    bench.gateway.on_messages([lone])
    bench.gateway.go_on()
    assert bench.asked == [SHARE], "even where there is room again"
    bench.later.pop()()
    assert bench.asked == [SHARE, SHARE + 1]
    assert ("ack", lone) in bench.out.log, "it does not wait behind the flood"
    bench.give()
    assert sum(bench.asked) == 1001
    assert bench.gateway.waiting == 0


@pytest.mark.parametrize(("commit_ns", "size"), [(300_000, SHARE), (6_000_000, 60), (60_000_000, FAIR_GROUP.least)])
def test_where_a_commit_takes_long_a_flood_shares_it_with_more_of_its_own(commit_ns: int, size: int) -> None:
    """Else a single busy server on a slow disk would be decided in groups that are mostly commits, and stay behind."""
    bench = Bench()
    bench.gateway.commit_ns = lambda: commit_ns
    bench.commit_ns = commit_ns
    for _ in range(200):
        bench.give(*[Sent() for _ in range(GROUP.least)])
    bench.asked.clear()
    bench.gateway.on_messages([Sent() for _ in range(1000)])
    bench.later.pop()()
    assert bench.asked[0] == pytest.approx(size, abs=3)


@pytest.mark.parametrize("verb", ["claim", "receive"])
def test_a_flood_that_asks_for_no_claim_has_no_more_of_a_group_for_the_commit_before_it(verb: str) -> None:
    """No commit is made for what is bad or pays us: the last one's time is no part of its own."""
    bench = Bench()
    bench.commit_ns = 5_000_000
    bench.gateway.commit_ns = lambda: bench.commit_ns
    bench.give(*[Sent() for _ in range(GROUP.least)])
    read_all, sizes = bench.gateway._read_all, list[int]()

    def slowly(taken: list[Any]) -> Any:
        sizes.append(len(taken))
        bench.spent_ns += 20_000 * len(taken)
        return read_all(taken)

    bench.gateway._read_all = slowly  # type: ignore[method-assign]
    for _ in range(60):
        bench.give(*[Sent(f"{MINE}/{verb}", b'{"id":"r1"}') for _ in range(1000)])
    sizes.clear()
    bench.gateway.on_messages([Sent(f"{MINE}/{verb}", b'{"id":"r1"}') for _ in range(1000)])
    bench.later.pop()()
    assert sizes == [pytest.approx(FAIR_GROUP.ns // 20_000 // FAIR_SHARE, abs=3)]
    assert bench.gateway._admission.worth_a_commit == 0


def test_a_refusal_does_not_wait_for_the_end_of_a_flood() -> None:
    """The broker takes so little in a turn that one server's refusals could fill all of it, for ever."""
    said, out = list[str](), Out()
    refusals = Refusals(2000, lambda message, server, reply: not said.append(server), lambda *_: None)
    busy = Refusal(Code.BUSY, "more than its share", 1000)
    out.queued_out = 990
    for turn in range(50):
        for _ in range(12):
            refusals.add(Sent(), "flood", busy)
        if turn == 20:
            refusals.add(Sent(), "modest", busy)
        refusals.answer(out)
    assert "modest" in said[:230]
    assert len(said) == 500


def test_groups_are_as_large_as_they_are_quick(bench: Bench) -> None:
    """What is cheap to decide shares a transaction with more of its kind, and a slow disk makes groups small again."""
    quick = min(FAIR_GROUP.most, FAIR_GROUP.ns // 10_000)
    for each_ns, size, group in ((10_000, quick, GROUP.most), (1_000_000, FAIR_GROUP.least, GROUP.least)):
        bench.each_ns = each_ns
        for _ in range(200):
            bench.give(*[Sent() for _ in range(GROUP.least)])
        bench.asked.clear()
        bench.give(*[Sent() for _ in range(group)])
        assert bench.asked == [group]
        bench.gateway.on_messages([*[Sent() for _ in range(group)], Sent(topic="channeld/v1/servers/b/claim")])
        bench.later.pop()()
        assert bench.asked == [group, size // FAIR_SHARE + 1]
        bench.turn()


@pytest.mark.parametrize(("servers", "group"), [("abc", 3 * SHARE), ("abcdefghijklmnop", FAIR_GROUP.least)])
def test_such_a_group_has_no_more_than_a_share_of_each_who_wait(servers: str, group: int) -> None:
    bench = Bench(others=servers[1:])
    bench.gateway.on_messages([Sent(topic=f"channeld/v1/servers/{s}/claim") for s in servers for _ in range(90)])
    bench.later.pop()()
    assert bench.asked == [group]
    replied = {what[0] for kind, what in bench.out.log if kind == "reply"}
    assert len(replied) == min(len(servers), group // QUANTUM)


def test_what_is_beyond_a_servers_share_is_refused_unread_behind_what_is_decided(bench: Bench) -> None:
    room = MOST_MESSAGES // 2
    flood, lone = [Sent() for _ in range(room + 500)], Sent(topic="channeld/v1/servers/b/claim")
    bench.gateway.on_messages([*flood, lone])
    bench.later.pop()()
    replies = [what for kind, what in bench.out.log if kind == "reply"]
    assert len(replies) == SHARE + 1 + AT_ONCE + 1, "half of the room is the most that one server gets"
    assert "channeld/v1/servers/b/reply" in [topic for topic, *_ in replies[: SHARE + 1]]
    assert bench.out.sent == [SHARE + 1], "who is answered does not wait for others to be refused"
    del bench.out.log[: 2 * (SHARE + 1) + 1]
    bench.gateway.hold()
    bench.turn()
    replies = [what for kind, what in bench.out.log if kind == "reply"]
    assert len(replies) == 500
    assert [what for kind, what in bench.out.log if kind == "ack"] == flood[room:], "each with its answer"
    topic, said, *_ = replies[0]
    assert (topic, said["id"], said["code"], said["status"]) == (f"{MINE}/reply", "r1", "busy", "rejected")
    assert said["retry_after_ms"] >= 100, "a thousand requests wait before it"
    assert sum(count for _, count in bench.refused) == 500


def test_of_those_refused_in_one_read_each_comes_again_when_it_was_told_and_is_let_in() -> None:
    """If all were told the same, nearly all would be refused again, and again."""
    bench = Bench(a=Limit(10, 3000))
    began, flood = bench.now, [Sent(payload=b'{"id":"%d","drops":"5"}' % n) for n in range(200)]
    said = [what for _, what, *_ in bench.replies(*flood)]
    told = {one["id"]: one["retry_after_ms"] for one in said if one.get("retry_after_ms")}
    assert 150 < len(told) < 200
    for request_id, wait in sorted(told.items(), key=lambda item: item[1]):
        bench.now = began + wait / 1000
        ((_, again, *_),) = bench.replies(Sent(payload=b'{"id":"%s","drops":"5"}' % request_id.encode()))
        assert "retry_after_ms" not in again, "the desk of the bench says no such thing"


def test_of_refused_batches_no_more_are_answered_in_a_turn_than_others_can_wait_for(bench: Bench) -> None:
    """Each takes a millisecond, and sixty of them would be a pause for everybody."""
    bench.gateway.hold()
    batch = b"[" + b",".join([b"{}"] * 1000) + b"]"
    bench.gateway.on_messages([Sent(payload=batch) for _ in range(40)])
    answered, turns = 0, 0
    while bench.later:
        bench.out.log.clear()
        bench.later.pop()()
        now = [what for kind, what in bench.out.log if kind == "reply"]
        assert len(now) <= 4
        answered, turns = answered + len(now), turns + 1
    assert answered > 30
    assert turns > 8


@pytest.mark.parametrize("around", [{"correlation_data": b"c" * 65_535}, {"response_topic": "x" * 65_535}], ids=str)
def test_what_stands_around_a_request_counts_as_bytes_that_wait(bench: Bench, around: dict[str, Any]) -> None:
    """64 KiB of it a request would take a hundred times the memory that the bounds allow for."""
    bench.gateway.hold()
    bench.gateway.on_messages([Sent(**around) for _ in range(500)])
    assert bench.gateway.waiting >= 63 * 20, "as what weighs 64 requests"
    assert bench.out.held_back == [True], "what is refused and not answered yet counts, too"


def test_a_refused_batch_is_answered_item_by_item(bench: Bench) -> None:
    bench.gateway.hold()
    bench.gateway.on_messages([Sent() for _ in range(MOST_MESSAGES // 2)])
    bench.out.log.clear()
    bench.give(Sent(payload=b' [{"drops":"5","id":"x\\u0041"},7,{"id":"y","held":{"id":1}}]'))
    said = next(what for kind, what in bench.out.log if kind == "reply")[1]
    assert [(i["id"], i["code"]) for i in said] == [("xA", "busy"), (None, "busy"), ("y", "busy")]


def test_whose_replies_the_broker_does_not_take_gets_no_more_but_busy_and_nobody_else_notices(bench: Bench) -> None:
    bench.out.queued["a"] = bench.out.queued_out = 1700  # half of the 3300 that are free
    log = bench.give(Sent(), Sent(topic="channeld/v1/servers/b/claim"))
    said = {what[0]: what[1]["reason"] for kind, what in log if kind == "reply"}
    assert "more replies are due" in said[f"{MINE}/reply"]
    assert said["channeld/v1/servers/b/reply"] == "0", "the desk was asked"
    assert [kind for kind, _ in log].count("ack") == 2


@example(reads=[("a", 127, 40), ("a", 1, 40)], each=40, taken=41)
@given(
    reads=st.lists(
        st.tuples(st.sampled_from("aab"), st.integers(1, 900), st.sampled_from([40, 40, 9000])), max_size=25
    ),
    each=st.sampled_from([1, 1, 3, 40]),
    taken=st.integers(0, 3000),
)
def test_whatever_the_broker_takes_everything_is_answered_and_what_waits_is_bounded(
    reads: list[tuple[str, int, int]], each: int, taken: int
) -> None:
    """It sends what it likes until it is held back, and takes few replies in a turn, or none."""
    bench, sent = Bench(), []
    out, gateway = bench.out, bench.gateway
    out.each, out.checked = each, False
    for server, count, size in reads:
        if not (out.held_back and out.held_back[-1]):
            sent += (now := [Sent(f"channeld/v1/servers/{server}/claim", GOOD + b" " * size) for _ in range(count)])
            gateway.on_messages(now)
        for _ in range(3):
            if bench.later:
                bench.later.pop()()
        out.queued_out = max(0, out.queued_out - taken)
        gateway.go_on()
        read = 900 * (1 + (9000 >> 11))
        assert out.queued_out < 5000 + each * GROUP.most
        assert gateway._refusals.due < 5000 + read
    while len([kind for kind, _ in out.log if kind == "ack"]) < len(sent):
        out.queued_out = 0
        gateway.go_on()
        bench.turn()
    out.queued_out = 0
    gateway.go_on()
    bench.turn()
    assert {id(what) for kind, what in out.log if kind == "ack"} == set(map(id, sent))
    assert [kind for kind, _ in out.log].count("reply") == len(sent)
    assert out.held_back == [True, False] * (len(out.held_back) // 2), "in the end it may send again"
    assert (bench.dropped, gateway.waiting, gateway._refusals.due) == ([], 0, 0)


def test_a_full_queue_of_refusals_leaves_room_for_what_is_decided(bench: Bench) -> None:
    bench.out.each = 1
    bench.gateway.on_messages([Sent() for _ in range(6000)])
    assert bench.out.held_back == [], "nothing waits for the broker but the queue's half"
    bench.gateway.hold()
    bench.turn()
    assert bench.out.queued_out == 2500
    bench.gateway.release()
    bench.turn()
    lone = Sent(topic="channeld/v1/servers/b/claim")
    bench.give(lone)
    assert ("ack", lone) in bench.out.log


def test_after_its_end_nothing_is_decided(bench: Bench) -> None:
    bench.gateway.close()
    assert bench.give(Sent()) == []


def test_a_batch_is_answered_with_one_array_in_its_order(bench: Bench) -> None:
    payload = b'[{"id":"a","drops":"5"},{"id":"b","drops":"x"},{"id":"c","drops":"5"}]'
    _, said = bench.reply(Sent(payload=payload))
    assert [(i["id"], i["code"]) for i in said] == [("a", "busy"), ("b", "bad_request"), ("c", "busy")]
    assert [said[0]["reason"], said[2]["reason"]] == ["0", "1"]


def test_answers_go_to_those_who_asked(bench: Bench) -> None:
    log = bench.give(Sent(payload=b"[]"), Sent(), Sent(topic="channeld/v1/servers/b/claim"), Sent(payload=b"junk"))
    replies = [what for kind, what in log if kind == "reply"]
    assert [(topic, said["id"], said["code"]) for topic, said, *_ in replies] == [
        (f"{MINE}/reply", None, "bad_request"),
        (f"{MINE}/reply", "r1", "busy"),
        (f"{MINE}/reply", None, "bad_request"),
        ("channeld/v1/servers/b/reply", "r1", "busy"),
    ]
    assert [replies[n][1]["reason"] for n in (1, 3)] == ["0", "1"]


def test_a_response_topic_below_the_servers_own_is_honoured_with_its_correlation_data(bench: Bench) -> None:
    log = bench.give(Sent(response_topic=f"{MINE}/reply/x", correlation_data=b"\0c"))
    assert log[1][1][0] == f"{MINE}/reply/x"
    assert log[1][1][3] == b"\0c"


@pytest.mark.parametrize(
    "message",
    [
        Sent(response_topic="channeld/v1/servers/b/reply"),
        Sent(response_topic=f"{MINE}/reply/+"),
        Sent(response_topic=""),
        Sent(bad_response_topic=True),
    ],
)
def test_a_response_topic_of_somebody_else_is_refused_on_the_servers_own(bench: Bench, message: Sent) -> None:
    topic, said = bench.reply(message)
    assert (topic, said["code"], said["id"]) == (f"{MINE}/reply", "bad_response_topic", "r1")
    assert bench.asked == []


def test_what_is_bad_is_counted_with_all_others_that_were_refused(bench: Bench) -> None:
    """An operator looks in one place for why readers are turned away."""
    bench.give(
        Sent(payload=b"{"), Sent(payload=b"[1,2]"), Sent(response_topic="x"), Sent(topic=f"{MINE}/receive", payload=b"")
    )
    assert sorted(bench.refused) == [*[("bad_request", 1)] * 4, ("bad_response_topic", 1)]
    assert bench.dropped == []


def test_a_retained_request_is_refused_and_not_decided(bench: Bench) -> None:
    assert bench.reply(Sent(retain=True))[1]["code"] == "bad_request"
    assert bench.asked == []


@pytest.mark.parametrize(("late", "asked"), [(-1, [1]), (0, [1]), (1, [])])
def test_an_expired_request_is_dropped_unanswered(bench: Bench, late: int, asked: list[int]) -> None:
    log = bench.give(Sent(expires_at=bench.now - late))
    assert bench.asked == asked
    assert log[-1][0] == "ack"
    assert bench.dropped == ([] if asked else ["expired"])


@pytest.mark.parametrize("size", [65_537, 262_145, 1024 * 1024])
def test_up_to_a_mebibyte_everything_is_answered(bench: Bench, size: int) -> None:
    assert bench.reply(Sent(payload=b"[" * size))[1]["code"] == "bad_request"


def test_beyond_a_mebibyte_it_is_dropped_and_counted(bench: Bench) -> None:
    assert [kind for kind, _ in bench.give(Sent(payload=b" " * (1024 * 1024 + 1)))] == ["ack"]
    assert bench.dropped == ["oversized"]


@pytest.mark.parametrize("topic", ["channeld/v1/servers/a/reply", "x", "channeld/v1/servers/a b/claim", "$SYS/x"])
def test_what_is_no_request_is_dropped_and_acknowledged(bench: Bench, topic: str) -> None:
    assert [kind for kind, _ in bench.give(Sent(topic=topic))] == ["ack"]
    assert bench.dropped == ["topic"]


@pytest.mark.parametrize("payload", [b"[[null]]", b"[[]]", b"[1]", b"\xff", b"[" * 9999, b'{"id":{}}', b'[["id"]]'])
def test_no_payload_stops_the_gateway(bench: Bench, payload: bytes) -> None:
    log = bench.give(Sent(payload=payload), Sent())
    assert [kind for kind, _ in log].count("ack") == 2


def test_with_too_many_replies_waiting_nothing_is_decided_until_some_went(bench: Bench) -> None:
    bench.out.queued_out = 5000
    assert bench.give(Sent(), Sent()) == []
    assert bench.gateway.waiting == 2
    bench.give(Sent())
    bench.out.queued_out = 0
    bench.gateway.go_on()
    bench.turn()
    assert bench.asked == [3]
    assert bench.gateway.waiting == 0


def test_a_reply_that_finds_no_room_is_sent_and_its_request_acknowledged_once_there_is_some(bench: Bench) -> None:
    """Nobody else would try again, and what is never acknowledged takes up our Receive Maximum."""
    bench.out.room = False
    first, second, third = Sent(), Sent(), Sent()
    assert [kind for kind, _ in bench.give(first, second)] == ["decided"]
    assert bench.give(third) == [], "nothing more is decided before"
    bench.gateway.go_on()
    bench.turn()
    assert (bench.gateway.waiting, bench.out.log) == (3, [])
    bench.out.room = True
    bench.gateway.go_on()
    bench.turn()
    assert [kind for kind, _ in bench.out.log] == ["reply", "ack", "reply", "ack", "decided", "reply", "ack"]
    assert [what for kind, what in bench.out.log if kind == "ack"] == [first, second, third]
    assert (bench.gateway.waiting, bench.asked, bench.dropped) == (0, [2, 1], [])


def test_a_reply_that_the_broker_never_takes_holds_up_nobody(bench: Bench) -> None:
    bench.out.largest = 300
    batch, lone = Sent(payload=b"[" + b",".join([GOOD] * 9) + b"]"), Sent()
    assert [kind for kind, _ in bench.give(batch, lone)] == ["decided", "ack", "reply", "ack"]
    assert bench.dropped == ["reply_too_large"]


def test_what_is_answered_at_length_fills_no_group_with_little(bench: Bench) -> None:
    """A thousand items of two bytes, each refused: the replies of a group have to find room."""
    bench.gateway.on_messages([Sent(payload=b"[" + b"1," * 999 + b"1]") for _ in range(200)])
    bench.later.pop()()
    assert 0 < len([kind for kind, _ in bench.out.log if kind == "reply"]) <= 5


# --- presence --------------------------------------------------------------------------------------------------------


def test_presence_is_put_right_when_a_late_will_overwrote_it(bench: Bench) -> None:
    bench.gateway.presence.connected()
    bench.now += 2
    log = bench.give(Sent(topic=TOPICS.status, payload=b'{"online":0}'))
    assert ("reply", (TOPICS.status, {"online": 1}, True, None)) in log
    assert bench.dropped == []


def test_presence_is_put_right_once_the_pause_is_over_when_a_late_will_came_within_it(bench: Bench) -> None:
    """The will of the connection before comes when it likes, and nothing else is heard after it."""
    bench.gateway.presence.connected()
    bench.now += 0.9
    assert [kind for kind, _ in bench.give(Sent(topic=TOPICS.status, payload=b'{"online":0}'))] == ["ack"]
    said = list[float]()
    for _ in range(40):
        bench.out.log.clear()
        bench.gateway.presence.put_right()
        said += [bench.now for kind, _ in bench.out.log if kind == "reply"]
        bench.now += 0.25
    assert len(said) == 1
    assert 101 < said[0] < 102


@pytest.mark.parametrize("ended", ["our own", "offline"])
def test_presence_that_is_right_again_or_over_is_not_put_right(bench: Bench, ended: str) -> None:
    presence = bench.gateway.presence
    presence.connected()
    bench.give(Sent(topic=TOPICS.status, payload=b'{"online":0}'))
    if ended == "offline":
        presence.offline()
    else:
        bench.give(Sent(topic=TOPICS.status, payload=b'{"online":1}'))
    bench.out.log.clear()
    bench.now += 2
    presence.put_right()
    assert bench.out.log == []


def test_our_own_presence_coming_back_is_no_reason_to_say_it_again(bench: Bench) -> None:
    bench.gateway.presence.connected()
    bench.now += 2
    assert [kind for kind, _ in bench.give(Sent(topic=TOPICS.status, payload=b'{"online":1}'))] == ["ack"]


def test_two_daemons_of_one_name_do_not_shout_at_each_other_without_end(bench: Bench) -> None:
    bench.gateway.presence.connected()
    said = sum(
        kind == "reply"
        for _ in range(1000)
        for kind, _ in bench.give(Sent(topic=TOPICS.status, payload=b'{"online":0}'))
    )
    assert said <= 1
    for _ in range(1000):
        bench.now += 0.01
        bench.give(Sent(topic=TOPICS.status, payload=b'{"online":0}'))
        said += [kind for kind, _ in bench.out.log].count("reply")
        bench.out.log.clear()
        bench.gateway.presence.put_right()
        said += len(bench.out.log)
    assert said <= 10, "once a second"


OURS = Sent(topic=TOPICS.status, payload=b'{"online":1}', retain=True)


def status_of(instance: str, *, online: bool) -> Sent:
    """What another daemon, or another life of ours, says under our name; the flag is as it was published."""
    return Sent(topic=TOPICS.status, payload=status_payload(instance, "1", [], online=online), retain=True)


def met(bench: Bench) -> bool:
    return "daemon.name" in (bench.gateway.presence.namesake or "")


@pytest.mark.parametrize("online", [True, False])
def test_another_daemon_of_our_name_was_there_while_we_were_not(bench: Bench, online: bool) -> None:
    theirs = status_of("theirs", online=online)
    bench.gateway.presence.connected()
    bench.give(theirs)
    assert not met(bench), "it may have left before we came"
    bench.give(OURS)
    bench.gateway.presence.connected()
    bench.give(theirs)
    assert met(bench)
    bench.now += 61
    assert not met(bench)


def test_another_daemon_of_our_name_speaks_behind_us(bench: Bench) -> None:
    """With a login of its own it takes no session of ours; its first word is heard all the same, a will is none."""
    bench.gateway.presence.connected()
    bench.give(OURS, status_of("theirs", online=False))
    assert not met(bench)
    bench.give(status_of("theirs", online=True))
    assert met(bench)


def test_another_daemon_of_our_name_took_our_session(bench: Bench) -> None:
    bench.gateway.presence.connected()
    bench.gateway.presence.taken_over()
    assert met(bench)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("connects", [1, 2])
@pytest.mark.parametrize("behind", [True, False])
def test_what_an_earlier_life_of_ours_said_proves_nobody_else(
    bench: Bench, connects: int, online: bool, behind: bool
) -> None:
    """A broker may go back to it, and a will of it may come late; it is put right."""
    presence = bench.gateway.presence
    presence.lives = {"earlier", "this"}
    for _ in range(connects):
        presence.connected()
    if behind:
        bench.give(OURS)
    bench.give(status_of("earlier", online=online))
    assert not met(bench)
    bench.out.log.clear()
    bench.now += 2
    presence.put_right()
    assert [said for kind, said in bench.out.log if kind == "reply"] == [(TOPICS.status, {"online": 1}, True, None)]


@pytest.mark.parametrize("payload", [b"", b"junk", b"{}"])
def test_what_nobody_can_read_is_no_daemon(bench: Bench, payload: bytes) -> None:
    for _ in range(2):
        bench.gateway.presence.connected()
        bench.give(OURS, Sent(topic=TOPICS.status, payload=payload, retain=True))
        assert not met(bench)


# --- claims that payers signed for us --------------------------------------------------------------------------------


def handed(number: str, amount: str) -> bytes:
    claim = {"channel_id": "AB" * 32, "amount": amount, "signature": "00" * 64, "public_key": "ED" + "00" * 32}
    return json.dumps({"id": number, "claim": claim}).encode()


def test_claims_handed_in_are_judged_before_they_are_answered_and_acknowledged(bench: Bench) -> None:
    topic = f"{MINE}/receive"
    messages = [
        Sent(topic=topic, payload=handed("one", "11")),
        Sent(),
        Sent(topic=topic, payload=b"nonsense"),
        Sent(topic=topic, payload=handed("two", "10")),
        Sent(topic=topic, payload=handed("three", "12"), retain=True),
    ]
    log = bench.give(*messages)
    assert [kind for kind, _ in log] == ["decided", "judged", *["reply", "ack"] * 5]
    assert [what for kind, what in log if kind in ("decided", "judged")] == [1, 2]
    said = [what[1] for kind, what in log if kind == "reply"]
    assert said[0] == {"id": "one", "status": "accepted", "drops": "5", "amount": "11", "replayed": False}
    assert [(s["id"], s.get("code")) for s in said[2:]] == [
        (None, "bad_request"),
        ("two", "amount_not_higher"),
        ("three", "bad_request"),
    ]


# --- queries ---------------------------------------------------------------------------------------------------------


def test_a_query_is_answered_behind_the_claims_of_its_group_where_it_wants_it_and_then_acknowledged(
    bench: Bench,
) -> None:
    asked: list[tuple[str, bytes]] = []

    def answer(server: str, payload: bytes, say: Callable[[bytes], None]) -> None:
        asked.append((server, payload))
        say(b'{"id":"q","status":"unknown","request":"r","code":"unknown_request","reason":"x"}')

    bench.gateway.on_query = answer
    query = Sent(f"{MINE}/query", b'{"id":"q","request":"r"}', response_topic=f"{MINE}/reply/x", correlation_data=b"c")
    log = bench.give(query, Sent())
    assert [kind for kind, _ in log] == ["decided", "reply", "ack", "reply", "ack"]
    assert (log[3][1][0], log[3][1][3]) == (f"{MINE}/reply/x", b"c")
    assert log[4][1] is query
    assert asked == [("a", query.payload)]


def test_a_query_whose_answer_goes_elsewhere_or_that_is_retained_is_refused(bench: Bench) -> None:
    bench.gateway.on_query = lambda server, payload, say: pytest.fail("not to be answered")
    for wrong, code in (
        (Sent(f"{MINE}/query", b'{"id":"q"}', response_topic="channeld/v1/servers/b/reply"), "bad_response_topic"),
        (Sent(f"{MINE}/query", b'{"id":"q"}', retain=True), "bad_request"),
    ):
        topic, said = bench.reply(wrong)
        assert (topic, said["id"], said["code"]) == (f"{MINE}/reply", "q", code)
    assert [kind for kind, _ in bench.give(Sent(f"{MINE}/query", expires_at=bench.now - 1))] == ["ack"]


def test_queries_use_up_a_servers_share_faster_than_claims(bench: Bench) -> None:
    """What is beyond it is refused unread; another server's claims are not in its line."""
    bench.gateway.on_query = lambda server, payload, say: say(
        b'{"id":"q","status":"rejected","code":"busy","reason":"x"}'
    )
    flood = [Sent(f"{MINE}/query", b'{"id":"q","channels":true}') for _ in range(100)]
    bench.gateway.hold()
    bench.give(*flood)
    assert sum(count for _, count in bench.refused) > 70
    bench.gateway.release()
    bench.turn()
    log = bench.give(Sent(topic="channeld/v1/servers/b/claim"))
    assert ("decided", 1) in log
    bench.give()
    assert bench.gateway.waiting == 0


ANSWER = b'{"id":"q","status":"unknown","request":"r","code":"unknown_request","reason":"x"}'


@pytest.mark.parametrize("each", [1, 49, 245])
def test_queries_wait_while_half_of_the_queue_is_full_and_none_is_lost(bench: Bench, each: int) -> None:
    """However long the answers are: what asks for little may be answered at length."""
    bench.gateway.on_query = lambda server, payload, say: say(ANSWER)
    bench.out.each = each
    queries = [Sent(f"{MINE}/query", b'{"id":"q","request":"r"}') for _ in range(200)]
    log, turns = bench.give(*queries, Sent()), 1
    assert ("decided", 1) in log
    while bench.gateway.waiting:
        assert 5000 <= bench.out.queued_out < 5000 + each
        bench.out.queued_out, turns = 0, turns + 1
        bench.gateway.go_on()
        bench.turn()
        log = list(bench.out.log)
    assert [what for kind, what in log if kind == "ack"][1:] == queries
    assert [kind for kind, _ in log].count("reply") == 201
    assert (bench.dropped, bench.later) == ([], [])
    assert turns == -(-201 // -(-5000 // each))


def test_a_query_whose_answer_finds_no_room_is_answered_once_there_is_some(bench: Bench) -> None:
    said: list[Callable[[bytes], None]] = []
    bench.gateway.on_query = lambda server, payload, say: said.append(say)
    query = Sent(f"{MINE}/query", b'{"id":"q","totals":{"from":0,"to":3600}}')
    assert bench.give(query) == []
    bench.out.room = False
    said.pop()(ANSWER)
    assert (bench.out.log, bench.gateway.waiting) == ([], 1)
    bench.out.room = True
    bench.gateway.go_on()
    bench.turn()
    assert [kind for kind, _ in bench.out.log] == ["reply", "ack"]
    assert (bench.gateway.waiting, bench.dropped) == (0, [])
