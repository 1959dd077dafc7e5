"""What one node swallows reaches the ledger through the others: given to all where it presses, or after two ledgers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import engine as rig
import pytest
from service.several import FakeNode, Several, made_up
from worlds import PAYEES, SOURCE

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.fees import LEDGERS_TO_LIVE
from channeld.core.ledger import SubmitResult
from channeld.core.records import LiveTransaction
from channeld.core.units import Drops, LedgerIndex
from channeld.service.courier import PATIENCE

Submit = Callable[[str], Awaitable[SubmitResult]]
HOW = ["tesSUCCESS", "telCAN_NOT_QUEUE_FULL", "unanswered", "slowDown", "nonsense"]


def swallows(node: FakeNode, how: str) -> list[str]:
    """A node passes nothing on from now on, and answers so. What it was given."""
    given: list[str] = []

    async def submit(blob: str) -> SubmitResult:
        given.append(blob)
        if how == "unanswered":
            raise Unreachable("no answer to submit within 20 s")
        if how == "slowDown":
            raise LedgerError(how)
        if how == "nonsense":
            raise Malformed("engine_result: not a string")
        return SubmitResult(how, False, "")

    node.submit = submit  # type: ignore[method-assign]
    return given


def several(path: Path, monkeypatch: pytest.MonkeyPatch, *, nodes: int = 3, **more: Any) -> Several:
    terms = rig.policy(cancel_after=160)
    monkeypatch.setattr(rig, "policy", lambda: terms)
    made = Several(path / "store.db", nodes=nodes, **more)
    for number in range(nodes):
        made.join(number)
    made.step()
    return made


def want(engine: Several, number: int) -> None:
    """A channel is to be opened: no deadline is near."""
    engine.answer(engine.ask(f"want{number}", 5, payee=PAYEES[number % 2]))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("quorum", [1, 2])
def test_a_payout_before_the_end_comes_through_whatever_the_followed_node_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, quorum: int
) -> None:
    engine = several(tmp_path, monkeypatch, quorum=quorum)
    channel_id = engine.open_one()
    given = swallows(engine.nodes[0], how)
    while channel_id in engine.mirror.channels:
        assert engine.kept.index < 200
        engine.close()
    assert given
    assert engine.kept.closed[channel_id] == 5
    assert engine.on_disk("SELECT * FROM loss") == []
    assert bool(engine.endpoints.all[0].blames) == (how in ("unanswered", "nonsense"))


def test_what_has_a_deadline_is_given_to_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = several(tmp_path, monkeypatch)
    channel_id = engine.open_one()
    given = swallows(engine.nodes[0], "telCAN_NOT_QUEUE_FULL")

    def pressing() -> list[str]:
        left = engine.kept.channels[channel_id].cancel_after - engine.kept.time  # type: ignore[operator]
        return [t.blob for t in engine.mirror.live.values() if left < 4 * 30 and t.first_ledger > engine.kept.index]

    while not pressing():
        assert engine.kept.index < 200
        engine.kept.close(4, take=False)
        engine.all_hear()
    (blob,) = pressing()
    assert [blob in got for got in (given, engine.nodes[1].submitted, engine.nodes[2].submitted)] == [True] * 3


def test_so_is_with_the_next_ledger_what_is_numbered_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = several(tmp_path, monkeypatch)
    monkeypatch.setattr(engine.executor.courier, "_presses", lambda live: live.number == 8)
    given = swallows(engine.nodes[0], "telCAN_NOT_QUEUE_FULL")
    want(engine, 0)
    want(engine, 1)
    assert [engine.kept.blobs[blob][1] for blob in given] == [7, 8]
    assert engine.nodes[1].submitted == given[1:]
    engine.kept.close(4, take=False)
    engine.all_hear()
    assert set(engine.nodes[1].submitted) == set(given)


def test_what_can_wait_is_given_to_the_others_after_two_ledgers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = several(tmp_path, monkeypatch)
    given = swallows(engine.nodes[0], "tesSUCCESS")
    want(engine, 0)
    for _ in range(PATIENCE):
        assert (len(set(given)), engine.nodes[1].submitted, engine.nodes[2].submitted) == (1, [], [])
        engine.close()
    assert set(engine.nodes[1].submitted) == set(engine.nodes[2].submitted) == set(given)
    engine.close()
    assert len(engine.kept.created) == 1


def test_what_a_node_refuses_to_answer_is_given_to_the_others_with_the_next_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked too much, most often, and stays the one that is followed."""
    engine = several(tmp_path, monkeypatch)
    given = swallows(engine.nodes[0], "slowDown")
    want(engine, 0)
    assert engine.nodes[1].submitted == []
    engine.close()
    assert engine.nodes[1].submitted == engine.nodes[2].submitted == given[:1]
    assert (engine.primary, engine.endpoints.all[0].blames) == (0, 0)


@pytest.mark.parametrize(
    ("fates", "blames"),
    [("lll", 1), ("ll", 0), ("llpll", 0), ("llplll", 1), ("ddd", 0), ("lldl", 1)],
    ids=str,
)
def test_who_took_three_in_a_row_that_only_others_passed_on_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fates: str, blames: int
) -> None:
    """`l`: validated once the others had it; `p`: passed on by itself; `d`: dead, though everybody had it."""
    engine = several(tmp_path, monkeypatch)
    courier, mirror, bad = engine.executor.courier, engine.mirror, engine.nodes[0]
    swallows(bad, "tesSUCCESS")
    for node in engine.nodes[1:]:
        swallows(node, "terQUEUED")
    assert mirror.processed is not None

    async def goes(live: LiveTransaction, ledgers: int) -> None:
        mirror.live[live.account, live.number] = live
        for _ in range(ledgers):
            courier.resend(bad)
            await courier.answered()
            mirror.processed = LedgerIndex((mirror.processed or 0) + 1)
        del mirror.live[live.account, live.number]
        courier.resend(bad)

    for number, fate in enumerate(fates, 7):
        span = (LedgerIndex(mirror.processed + 1), LedgerIndex(mirror.processed + 12))
        live = LiveTransaction(None, "hot", SOURCE, number, Drops(10), *span, f"hash{number}", f"blob{number}", None)
        engine.loop.run_until_complete(goes(live, {"l": PATIENCE + 2, "p": PATIENCE, "d": 13}[fate]))
    assert engine.endpoints.all[0].blames == blames


@pytest.mark.parametrize("takes", [True, False])
def test_where_nothing_comes_through_by_anybody_nobody_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    """The network is full: changing nodes would help nothing."""
    engine = several(tmp_path, monkeypatch)
    for node in engine.nodes:
        swallows(node, "tesSUCCESS" if takes else "telCAN_NOT_QUEUE_FULL")
    want(engine, 0)
    for _ in range(45):
        engine.close()
    assert engine.on_disk("SELECT count(*) > 2 FROM tx WHERE ended = 'dead'") == [(1,)]
    assert [e.blames for e in engine.endpoints.all] == [0, 0, 0]


def test_what_others_say_against_a_transaction_is_not_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = several(tmp_path, monkeypatch)
    swallows(engine.nodes[0], "tesSUCCESS")
    for node in engine.nodes[1:]:
        swallows(node, "temMALFORMED")
    want(engine, 0)
    for _ in range(14):
        engine.close()
    assert engine.on_disk("SELECT ended FROM tx WHERE ended IS NOT NULL") == [("dead",)]
    assert engine.on_disk("SELECT status FROM intent") == [("signed",)], "it is tried again, and has not failed"


def test_a_submission_that_hangs_does_not_keep_the_same_blob_from_the_node_followed_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = several(tmp_path, monkeypatch, nodes=2)
    courier = engine.executor.courier

    async def hang(blob: str) -> SubmitResult:
        return await asyncio.get_running_loop().create_future()

    async def others_answer() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    monkeypatch.setattr(courier, "answered", others_answer)
    engine.nodes[0].submit = hang  # type: ignore[method-assign]
    want(engine, 0)
    (live,) = engine.mirror.live.values()
    engine.drop(0)
    engine.step()
    engine.step()
    assert (engine.primary, engine.nodes[1].submitted) == (1, [live.blob])
    courier.stop()


def test_who_loses_the_connection_has_not_left_anything_unanswered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = several(tmp_path, monkeypatch)
    swallows(engine.nodes[0], "unanswered")
    engine.nodes[0].gone = True
    want(engine, 0)
    assert engine.endpoints.all[0].blames == 0
    engine.nodes[0].gone = False
    engine.close()
    assert engine.endpoints.all[0].blames == 1


# --- how long it lives -----------------------------------------------------------------------------------------------


def announced(engine: Several, behind: int) -> None:
    """A ledger closes, of which two nodes tell; one of them is so much behind."""
    engine.kept.close(4)
    engine.pass_time(4)
    engine.nodes[1].tip = max(engine.nodes[1].tip or 100, engine.kept.index - behind)
    engine.hear(0)
    engine.hear(1)
    engine.step()
    engine.step()


@pytest.mark.parametrize("behind", [0, 2, 3, 4, 8])
def test_where_agreement_comes_late_a_last_attempt_is_not_dead_before_anybody_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    terms = rig.policy(cancel_after=400)
    monkeypatch.setattr(rig, "policy", lambda: terms)
    engine = Several(tmp_path / "store.db", nodes=2, quorum=2)
    engine.join(0)
    engine.join(1)
    channel_id = engine.open_one()
    end = engine.kept.channels[channel_id].cancel_after
    assert end is not None
    while end - engine.kept.time > 76:  # nobody is there: an outage that ends in time
        engine.kept.close()
        engine.pass_time(4)
    while channel_id in engine.mirror.channels:
        assert engine.kept.time < end + 400
        announced(engine, behind)
    assert engine.on_disk("SELECT sum(paid) FROM payment") == [(5,)]
    lives = engine.on_disk("SELECT max(last_ledger - first_ledger + 1) FROM tx")
    assert lives <= [(12 + behind,)]


def test_a_node_that_makes_up_ledgers_far_ahead_lets_nothing_live_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = several(tmp_path, monkeypatch, quorum=2)
    engine.hear(0, header=made_up(engine.kept, ahead=10**6))
    want(engine, 0)
    (live,) = engine.mirror.live.values()
    assert live.last_ledger == engine.kept.index + 8 + LEDGERS_TO_LIVE
    assert live.first_ledger == engine.kept.index + 1


def test_a_node_that_is_ahead_is_not_held_to_have_swallowed_what_others_could_not_see_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = several(tmp_path, monkeypatch, nodes=2, quorum=2)
    for _ in range(4):
        announced(engine, 4)
    want(engine, 0)
    for _ in range(4):
        assert engine.nodes[1].submitted == []
        announced(engine, 4)
