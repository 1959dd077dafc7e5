"""What content servers asked for, as the command line sums it up and shows it of a single request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from configs import CONFIG, write_config
from engine import Engine
from worlds import PAYEES, channel

from channeld.adapters.sqlite.usage import KEPT_HOURS
from channeld.core.records import Incoming, IncomingUpdate, LedgerUpdate, TakenIn
from channeld.core.requests import Granted
from channeld.core.units import ChannelId, LedgerIndex, RippleTime
from channeld.wire.requests import request_key

Run = Callable[..., tuple[int, str, str]]
FIRST, SECOND = (str(payee) for payee in PAYEES[:2])


def buy(engine: Engine, number: str, drops: int, **more: Any) -> Granted:
    (answer,) = engine.answer(engine.ask(number, drops, **more))
    assert isinstance(answer, Granted)
    return answer


def rows(run: Run, *more: str) -> list[dict[str, Any]]:
    status, out, err = run("usage", *more)
    assert (status, err) == (0, "")
    found: list[dict[str, Any]] = json.loads(out)["usage"]
    return found


def test_usage_sums_up_by_server_payee_and_code(run: Run, engine: Engine) -> None:
    for number, server in (("r1", "a"), ("r2", "a"), ("r3", "b")):
        buy(engine, number, 2, server=server)
    while engine.store.backlog:
        engine.store.fold(100)
    hour = int(engine.unix) // 3600
    engine.store.usage.rejected({("a", hour, FIRST, "busy"): 3, ("a", hour - 30, SECOND, "frozen"): 4})
    accepted = {"payee": FIRST, "code": "accepted"}
    recent = [
        {"server": "a", **accepted, "requests": 2, "drops": "4"},
        {"server": "a", "payee": FIRST, "code": "busy", "requests": 3, "drops": "0"},
        {"server": "b", **accepted, "requests": 1, "drops": "2"},
    ]
    assert rows(run) == recent
    assert rows(run, "--server", "b") == recent[2:]
    assert rows(run, "--server", "nobody") == []
    older = {"server": "a", "payee": SECOND, "code": "frozen", "requests": 4, "drops": "0"}
    assert sorted(map(str, rows(run, "--hours", "40"))) == sorted(map(str, [*recent, older]))
    said = json.loads(run("usage", "--hours", "40")[1])
    assert said["to"] - said["from"] == 41 * 3600
    assert said["from"] % 3600 == 0
    assert said["from"] <= engine.unix - 40 * 3600, "so many hours are all in it"
    assert engine.unix < said["to"], "the hour that is not over counts"


def test_usage_reaches_back_so_many_hours_and_more(run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """At four past the hour, what was asked for just before the hour is the last hour's still."""
    hour = int(engine.unix) // 3600
    monkeypatch.setattr("channeld.cli.usage.time", SimpleNamespace(time=lambda: hour * 3600 + 240.5))
    engine.store.usage.rejected({("a", hour - back, FIRST, "busy"): 10**back for back in range(4)})
    assert [row["requests"] for row in rows(run, "--hours", "1")] == [11]
    assert [row["requests"] for row in rows(run, "--hours", "2")] == [111]


def test_what_is_older_than_anybody_may_ask_for_is_dropped_in_slices(run: Run, engine: Engine) -> None:
    hour = int(engine.unix) // 3600
    old = {("a", hour - KEPT_HOURS - n, payee, "busy"): 1 for n in range(3) for payee in (FIRST, SECOND)}
    engine.store.usage.rejected(old | {("b", hour - KEPT_HOURS - 1, FIRST, "busy"): 1, ("a", hour, FIRST, "busy"): 1})
    more = [engine.store.usage.forget(["a", "b"], hour, 2) for _ in range(3)]
    left = engine.store._db.execute("SELECT server, hour FROM usage ORDER BY hour").fetchall()
    assert left == [("a", hour - KEPT_HOURS)] * 2 + [("a", hour)]
    assert more == [True, True, False]


@pytest.mark.parametrize("hours", ["0", "-1", "9601", "x"])
def test_hours_that_are_none_are_bad_usage(run: Run, hours: str) -> None:
    status, _, err = run("usage", "--hours", hours)
    assert status == 2
    assert "--hours" in err


@pytest.mark.parametrize("folded", [False, True])
def test_a_request_is_shown_as_it_was_accepted(run: Run, engine: Engine, folded: bool) -> None:
    """Whether it is in the tables already or still in a group."""
    before = buy(engine, "r1", 2)
    granted = buy(engine, "an id of its own", 3)
    if folded:
        engine.store.fold(100)
    status, out, err = run("requests", "a", "an id of its own")
    assert (status, err) == (0, "")
    shown = json.loads(out)
    assert shown.pop("accepted_at_unix") == int(engine.unix)
    assert shown == {
        "server": "a",
        "id": "an id of its own",
        "drops": "3",
        "covers": {"from": str(before.covers_to), "to": str(before.covers_to + 3)},
        "amount": str(granted.claim.amount),
        "channel_id": granted.claim.channel_id,
        "payee": FIRST,
        "channel_state": "open",
        "paid": "0",
    }


def test_a_claim_that_was_handed_in_is_shown_by_its_id(run: Run, engine: Engine) -> None:
    """Beside the claim request where that has the same id."""
    channel_id = ChannelId("AB" * 32)
    paid = Incoming(replace(channel(), channel_id=channel_id), held=70, signature="AA", server="a")
    news = IncomingUpdate((paid,))
    engine.store.apply(LedgerUpdate(LedgerIndex(99), RippleTime(99), (), (), (), (), (), incoming=news))
    taken = [
        TakenIn(request_key("a", "receive", number), b"c" * 16, channel_id, "a", 30, amount)
        for number, amount in (("a1", 70), ("r1", 80))
    ]
    best = replace(paid, held=80)
    engine.store.claims.take_in(5, taken, [best])
    status, out, _ = run("requests", "a", "a1")
    received = {
        "topic": "receive",
        "accepted_at_unix": 5,
        "drops": "30",
        "amount": "70",
        "channel_id": channel_id,
        "channel_state": "open",
        "paid": "0",
        "next": "will_be_collected",
        "payee": str(paid.channel.payee),
    }
    assert (status, json.loads(out)) == (0, {"server": "a", "id": "a1", **received})
    buy(engine, "r1", 2)
    for command in (("requests", "a", "r1"), ("explain", "a/r1")):
        status, out, _ = run(*command)
        told = json.loads(out)
        assert (status, told["drops"], told["channel_state"]) == (0, "2", "open"), command
        assert told["received"] == {**received, "amount": "80"}


def test_a_request_that_is_not_remembered_is_exit_1(run: Run, engine: Engine) -> None:
    """Also the one that was rejected, and another server's."""
    buy(engine, "r1", 2)
    for server, number in (("a", "first"), ("b", "r1"), ("a", "R1")):
        status, out, err = run("requests", server, number)
        assert (status, out) == (1, "")
        assert f"{server} has no request {number!r}" in err


@pytest.mark.parametrize("number", ["", "x" * 129, "\u00e4", "a\tb"])
def test_an_id_that_is_none_is_bad_usage(run: Run, tmp_path: Path, number: str) -> None:
    write_config(tmp_path, CONFIG)
    status, _, err = run("requests", "a", number)
    assert status == 2
    assert "1 to 128 printable ASCII characters" in err


@pytest.mark.parametrize("command", [("usage",), ("requests", "a", "r1")])
def test_without_a_store_it_is_exit_3_and_with_a_broken_one_said_so(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    write_config(tmp_path, CONFIG)
    status, out, err = run(*command)
    assert (status, out) == (3, "")
    assert "there is no store yet" in err
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "channeld.db").write_text("no database at all, and longer than a page" * 200)
    status, out, err = run(*command)
    assert status != 0
    assert "cannot read the store" in err
    assert "Traceback" not in err
