"""What a server reads is what was decided: a query of an id is its replay, and totals count every acceptance once."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import contract
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from lab import TILL, Lab
from service.heralds import Heralded
from waiting import soon
from worlds import PAYEES

from channeld.adapters.sqlite.reader import read_request
from channeld.adapters.sqlite.usage import read_usage
from channeld.app.queries import Queries
from channeld.core.requests import Code, Granted, Taken
from channeld.service.tallies import Tallies
from channeld.wire.query import PAGE, PAGE_COST, Query, read_query, weigh_query
from channeld.wire.replies import reply
from channeld.wire.requests import request_key

REPLY = "p/servers/a/reply"


def queries(engine: Heralded | Lab) -> Queries:
    daemon: Any = SimpleNamespace(
        desk=engine.desk,
        mirror=engine.mirror,
        herald=getattr(engine, "herald", None),
        strongbox=getattr(engine, "strongbox", SimpleNamespace(recall=lambda key: None)),
        settings=SimpleNamespace(store=SimpleNamespace(path=getattr(engine, "path", None))),
    )
    return Queries(daemon)


def ask(engine: Heralded | Lab, query: dict[str, Any], server: str = "a") -> dict[str, Any]:
    """The answer to a query; the contract judges both."""
    said: list[bytes] = []

    async def wait() -> None:
        queries(engine).answer(server, json.dumps(query).encode(), said.append)
        await soon(lambda: said, "the answer")

    asyncio.run(wait())
    (payload,) = said
    contract.check(REPLY, payload)
    answer: dict[str, Any] = json.loads(payload)
    assert answer["id"] == query["id"]
    return answer


@pytest.fixture
def engine(tmp_path: Path) -> Heralded:
    return begun(tmp_path / "s.db")


def begun(path: Path) -> Heralded:
    engine = Heralded(path)
    engine.meet()
    engine.connect()
    return engine


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("ab"), st.integers(1, 15)),
        st.tuples(st.just("ledger"), st.just(""), st.sampled_from([4, 4, 30])),
        st.tuples(st.just("fold"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("kill"), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=max(12, settings().max_examples // 8), deadline=None)
@given(STEPS)
def test_a_query_is_the_replay_and_totals_count_every_acceptance_once(steps: list[tuple[str, str, int]]) -> None:
    """Whatever was folded, however often it died, and whether the channel lives or not."""
    with tempfile.TemporaryDirectory() as directory:
        engine = begun(Path(directory) / "s.db")
        accepted: dict[tuple[str, str], int] = {}
        for number, (what, server, amount) in enumerate(steps):
            if what == "ask":
                (answer,) = engine.answer(engine.ask(number, amount, server=server))
                if isinstance(answer, Granted):
                    accepted[server, str(number)] = amount
            elif what == "ledger":
                engine.tick(amount)
            elif what == "fold":
                engine.store.fold(amount)
            else:
                engine.restart()
                engine.meet()
        for (server, number), drops in accepted.items():
            (again,) = engine.answer(engine.ask(number, drops, server=server))
            replay = json.loads(reply("q", again))
            answer = ask(engine, {"id": "q", "request": number}, server)
            extra = {name: answer.pop(name) for name in ("request", "next")}
            for name in ("channel_state", "paid"):
                assert replay.setdefault(name, answer[name]) == answer[name]
            assert answer == replay
            assert extra["request"] == number
            read = read_request(engine.path, request_key(server, "claim", number))
            assert read is not None
            assert (read["covers"], read["amount"]) == (replay["covers"], replay["claim"]["amount"])
        assert ask(engine, {"id": "q", "request": "never"})["status"] == "unknown"
        assert read_request(engine.path, request_key("a", "claim", "never")) is None
        while engine.store.backlog:
            engine.store.fold(5)
        counted = {(s, p): (n, d) for s, p, _, n, d in read_usage(engine.path, (0, 10**9))}
        sums = Counter(server for server, _ in accepted)
        expected = {
            (s, str(PAYEES[0])): (n, sum(d for (o, _), d in accepted.items() if o == s)) for s, n in sums.items()
        }
        assert counted == expected
        engine.kill()


def test_what_becomes_of_a_request_is_told_as_long_as_it_is_remembered(engine: Heralded) -> None:
    engine.opened()
    engine.settle()
    (granted,) = engine.answer(engine.ask("r", 10))
    assert isinstance(granted, Granted)
    assert ask(engine, {"id": "q", "request": "r"})["next"] == "will_be_paid"
    engine.ledger.redeem(granted.claim.channel_id, 10)
    engine.see()
    assert ask(engine, {"id": "q", "request": "r"})["next"] == "paid"
    for _ in range(6):
        engine.tick(60)
    gone = ask(engine, {"id": "q", "request": "r"})
    assert (gone["channel_state"], gone["paid"], gone["next"]) == ("closed", "10", "paid")


@pytest.mark.parametrize("end", ["paid", "forgone"])
def test_what_becomes_of_a_claim_handed_in_is_told_by_its_id(tmp_path: Path, end: str) -> None:
    """As a replay of it is answered; where a claim request has the same id that is told first, by all who are asked."""
    lab = Lab(tmp_path / "s.db", receives=True)
    lab.rig.fund("alice")
    lab.alive(lab.see)
    channel_id = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=100)
    lab.alive(lab.see)
    assert ask(lab, {"id": "q", "request": "a1"})["code"] == "unknown_request"
    assert lab.hand_in("a1", channel_id, 5, "alice") == Taken(5, 5, replayed=False)
    told = ask(lab, {"id": "q", "request": "a1"})
    assert told == {
        "id": "q",
        "status": "accepted",
        "replayed": True,
        "request": "a1",
        "topic": "receive",
        "drops": "5",
        "amount": "5",
        "channel_id": channel_id,
        "channel_state": "open",
        "paid": "0",
        "next": "will_be_collected",
    }
    assert ask(lab, {"id": "q", "request": "a1"}, server="b")["code"] == "unknown_request"
    received = {name: told[name] for name in ("drops", "amount", "channel_id", "channel_state", "paid", "next")}
    lab.ask("a1", 10)
    lab.tick(2)
    assert isinstance(lab.ask("a1", 10), Granted)
    both = ask(lab, {"id": "q", "request": "a1"})
    assert (both["drops"], both["claim"]["amount"]) == ("10", "10")
    assert both["received"] == received
    if end == "paid":
        assert lab.hand_in("a2", channel_id, 30, "alice") == Taken(25, 30, replayed=False)
        lab.tick(3)
        told = ask(lab, {"id": "q", "request": "a1"})["received"]
        assert (told["paid"], told["next"]) == ("30", "paid")
        return
    lab.mirror.vault.channels.clear()
    lab.store._db.execute("UPDATE incoming SET closed_at = 9")
    told = ask(lab, {"id": "q", "request": "a1"})["received"]
    assert (told["channel_state"], told["paid"], told["next"]) == ("closed", "0", "forgone")


def test_channels_are_those_retained_page_by_page_and_nothing_of_another_server(engine: Heralded) -> None:
    engine.opened()
    engine.answer(engine.ask("other", 5, payee=PAYEES[1]))
    for _ in range(3):
        engine.tick()
    engine.settle()
    mine, theirs = (ask(engine, {"id": "q", "channels": True}, server)["channels"] for server in "ab")
    retained = {key: json.loads(payload) for key, payload in engine.board.retained.items()}
    assert {c["channel_id"]: c for c in mine} == {c: said for (s, c), said in retained.items() if s == "a"}
    assert [c["destination_tag"] for c in theirs] == [None]
    assert len(mine) == 2
    rest = ask(engine, {"id": "q", "channels": True, "after": mine[0]["channel_id"]})
    assert (rest["channels"], rest["more"]) == (mine[1:], False)
    assert ask(engine, {"id": "q", "channels": True}, "stranger")["code"] == "unknown_payee"


def test_long_totals_come_in_pages_that_end_with_a_payee(engine: Heralded) -> None:
    hour = int(time.time()) // 3600
    counts = {("a", hour, f"r{n:04}", code): 1 for n in range(700) for code in ("busy", "frozen")}
    engine.store.usage.rejected(counts)
    query = {"id": "q", "totals": {"from": hour * 3600, "to": hour * 3600 + 1}}
    first = ask(engine, query)
    assert first["more"]
    entries = first["totals"]["entries"]
    assert len(entries) <= PAGE
    last = ask(engine, query | {"after": entries[-1]["payee"]})
    assert not last["more"]
    found = [(e["payee"], e["code"]) for e in entries + last["totals"]["entries"]]
    assert found == sorted((payee, code) for _, _, payee, code in counts)


@pytest.mark.parametrize(
    "query",
    [
        {"id": "q"},
        {"id": "q", "channels": False},
        {"id": "q", "channels": True, "request": "r"},
        {"id": "q", "totals": {"from": 5, "to": 5}},
        {"id": "q", "totals": {"from": 0, "to": 2**34 - 5}},
        {"id": "q", "totals": {"from": 5}},
        {"id": "q", "request": "é"},
        {"id": "q", "request": "r", "x": 1},
    ],
)
def test_a_bad_query_is_told_what_is_wrong(engine: Heralded, query: dict[str, Any]) -> None:
    answer = ask(engine, query)
    assert (answer["status"], answer["code"]) == ("rejected", "bad_request")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b'{"id":"q","request":"\\u00e9"}', "request: not of the form that is asked for (the id of a claim request)"),
        (b'{"id":"q","totals":{"from":5}}', "totals: "),
        (b'{"id":"q","totals":{"from":1e400,"to":5}}', "totals: "),
        (b'{"id":"q","x":1}', "x: unknown field"),
        (b'{"id":"q","id":"q","channels":true}', "id: stands in the object more than once"),
        (b"[" * 10_000, "request: "),
        (b"", "not JSON"),
    ],
)
def test_what_is_wrong_with_a_query_begins_with_the_field(query: bytes, field: str) -> None:
    read = read_query(query)
    assert isinstance(read, tuple)
    assert read[1].reason.startswith(field), read[1].reason


def test_what_reads_much_costs_much() -> None:
    assert weigh_query(b'{"id":"q","channels":true}') == weigh_query(b"[]") == 100
    assert weigh_query(b'{"id":"q","request":"r"}') == 1
    assert weigh_query(b'{"id":"\\"request\\"","channels":true}') == 100
    assert weigh_query(b'{"id":"request","channels":true}') == 100
    assert weigh_query(b'{"id":"q","request":null,"channels":true}') == 100
    assert weigh_query(b'{"id":"q" , "request" : "r","channels":null}') == 1
    assert weigh_query(b'{"id":"q","request":"%b"}' % (b"r" * 500_000)) == 488


_WORDS = (
    "request",
    "re\\u0071uest",
    "channels",
    "ch\\u0061nnels",
    "totals",
    "id",
    "after",
    '\\"request',
    '\\"request\\":\\"',
)
_VALUES = ("null", "true", '{"from":0,"to":3600}', *(f'"{word}"' for word in _WORDS))
_MEMBERS = st.tuples(st.sampled_from(_WORDS), st.sampled_from(["", " ", "\n\t"]), st.sampled_from(_VALUES))


_ASKED = ('"channels":true', '"totals":{"from":0,"to":3600}', '"request":"r"', '"after":null')


@given(st.lists(_MEMBERS, max_size=4), st.sampled_from(_VALUES[3:]), st.sampled_from(_ASKED))
def test_nothing_that_reads_much_passes_for_what_reads_little(
    members: list[tuple[str, str, str]], name: str, asked: str
) -> None:
    told = [f'"{key}"{space}:{space}{value}' for key, space, value in members]
    payload = "{" + ",".join([f'"id":{name}', *told, asked]) + "}"
    query = read_query(payload.encode())
    if isinstance(query, Query):
        event(f"asks for one request: {query.request is not None}")
        assert query.request is not None or weigh_query(payload.encode()) == PAGE_COST


def test_rejections_are_counted_for_known_servers_and_their_own_payees_only(engine: Heralded) -> None:
    tallies = Tallies(engine.mirror, lambda: 7200.0)
    tallies.rejected(engine.ask(1, 5), Code.BUSY)
    tallies.rejected(engine.ask(1, 5, payee=PAYEES[3]), Code.UNKNOWN_PAYEE)
    tallies.rejected(engine.ask(1, 5, server="stranger"), Code.UNKNOWN_PAYEE)
    tallies.unread("a", Code.BUSY)
    tallies.unread("stranger", Code.BUSY)
    counted = {("a", 2, str(PAYEES[0]), "busy"): 1, ("a", 2, "", "unknown_payee"): 1, ("a", 2, "", "busy"): 1}
    assert tallies.take() == counted
    assert tallies.take() == {}
