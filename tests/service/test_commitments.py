"""What open intents take is summed as they come and go: always right, and never added up again for a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from engine import Engine, policy
from lab import PAYEES as LAB_PAYEES
from lab import Lab
from lab import terms as lab_terms
from service.sums import added_up
from worlds import KEY, PAYEES, SOURCE

from channeld.core.channel import Channel
from channeld.core.fees import LEDGERS_TO_LIVE
from channeld.core.intents import Intent, OpenChannel, RequestClose, Status
from channeld.core.policy import CloseTerms
from channeld.core.units import ChannelId, Drops, LedgerIndex, Payee, Seconds
from channeld.sandbox.ledger.faults import order
from channeld.service.holdings import Group


class Walked(Exception):
    """Somebody looped over all of them."""


class NoLoop(dict[Any, Any]):
    """Look-ups only."""

    def _walked(self, *_: object) -> NoReturn:
        raise Walked

    __iter__ = values = items = keys = _walked  # type: ignore[assignment]


def busy(path: Path, channels: int) -> Engine:
    """So many channels, each of a payee of its own and with a close under way."""
    engine = Engine(path / "store.db", terms=terms())
    for number in range(channels):
        payee = Payee(PAYEES[0].account, number)
        engine.ledger.channels[f"{number + 10**6:064X}"] = Channel(
            ChannelId(f"{number + 10**6:064X}"), SOURCE, payee.account, payee.tag, KEY, Drops(50), Drops(0),
            Seconds(10), None, None, LedgerIndex(engine.ledger.index),
        )  # fmt: skip
    engine.connect()
    with engine.store._db as db:
        db.execute("UPDATE channel SET pool = 'p', server = 'a', issuing = 1")
    engine.restart()
    actions = [RequestClose("hot", state.record.channel.channel_id) for state in engine.mirror.channels.values()]
    entries = engine.store.journal([Intent(action, "idle", "F" * 64) for action in actions], LedgerIndex(1))
    for entry in entries:
        engine.mirror.open_entry(entry)
    return engine


def terms() -> Any:
    known = policy()
    return replace(known, pools={"p": replace(known.pools["p"], close=CloseTerms(Seconds(10**9), Seconds(0)))})


def test_a_decision_does_not_walk_over_open_intents(tmp_path: Path) -> None:
    engine = busy(tmp_path, 50)
    added_up(engine.mirror)
    first = next(iter(engine.mirror.groups.values()))
    engine.mirror.journal, journal = NoLoop(engine.mirror.journal), engine.mirror.journal
    engine.mirror.live = NoLoop(engine.mirror.live)
    engine.mirror.channels = NoLoop(engine.mirror.channels)
    with pytest.raises(Walked):
        list(engine.mirror.journal.values())
    engine.planner.urge(first)
    engine.decide_all()
    assert len(journal) == 50


def test_signing_does_not_walk_over_open_intents(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    opens = [OpenChannel("hot", "p", "a", Payee(PAYEES[0].account, n), Drops(20), Seconds(10), None) for n in range(50)]
    for entry in engine.store.journal([Intent(action, "wanted", "F" * 64) for action in opens], LedgerIndex(1)):
        engine.mirror.open_entry(entry)
    numbers = list(engine.mirror.journal)
    engine.mirror.journal = NoLoop(engine.mirror.journal)
    engine.work()
    signed = [engine.ledger.blobs[blob][1] for blob in engine.session.submitted]
    assert len(signed) == 50
    assert signed == sorted(signed)
    by_number = {tx.number: tx.intent for tx in engine.mirror.live.values()}
    assert [by_number[number] for number in signed] == numbers, "in the order of their intents"


def watched(part: Engine | Lab) -> list[int]:
    """Every decision to come is preceded by adding up; how many intents were planned at each."""
    decide, seen = part.planner._decide, list[int]()

    def decided(groups: Sequence[Group]) -> None:
        added_up(part.mirror)
        seen.append(sum(entry.status is Status.PLANNED for entry in part.mirror.journal.values()))
        decide(groups)

    part.planner._decide = decided  # type: ignore[method-assign]
    return seen


def test_the_sums_are_right_when_opens_by_ticket_die_and_are_signed_again(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "s.db", lab_terms(stock=3))
    lab.tick(4)
    order(lab.rig.node.faults, {"kind": "submit_refuse", "count": 10**6, "engine_result": "telCAN_NOT_QUEUE_FULL"})
    seen = watched(lab)
    for number, payee in enumerate(LAB_PAYEES):
        lab.ask(str(number), 5, payee)
    assert {tx.ticket for tx in lab.mirror.live.values() if tx.intent is not None} == {True}
    lab.tick(LEDGERS_TO_LIVE + 3)
    assert max(seen) >= 2, "nothing was planned again"
    lab.rig.node.faults.clear()
    lab.tick(6)
    assert lab.mirror.journal == {}


def test_the_sums_are_right_at_every_turn_of_a_life(tmp_path: Path) -> None:
    """Opened, funded, paid out, closed and started again, with transactions that die and are signed anew."""
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    watched(engine)
    for number in range(60):
        added_up(engine.mirror)
        engine.answer(engine.ask(number, 3 + number % 9, server="ab"[number % 2], payee=PAYEES[0]))
        added_up(engine.mirror)
        engine.tick(take=number % 7 != 0)
        if number % 20 == 13:
            for _ in range(14):
                engine.tick(take=False)
                added_up(engine.mirror)
            engine.restart()
            watched(engine)
    for _ in range(40):
        added_up(engine.mirror)
        engine.tick()
    kinds = {kind for (kind,) in engine.on_disk("SELECT DISTINCT kind FROM intent")}
    assert kinds >= {"open", "fund", "settle", "request_close"}
