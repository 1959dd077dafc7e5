"""A store that was put back signs on nothing that it knew, whatever was lost with it, unless it is the newest."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from configs import changed, write_config
from engine import Engine, Session
from service.test_truth import HOME, Topic

from channeld.adapters.sqlite.backup import copy_store, draft_beside
from channeld.adapters.witness_file import WitnessFile, path_beside
from channeld.app import recovery
from channeld.core.errors import Refused, StoreError
from channeld.core.freezes import Cause
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.witness import Witness
from channeld.service.guard import Guard
from channeld.service.witness_watch import WitnessWatch
from channeld.settings import load


class Host:
    """A daemon's store, the witness beside it and a broker, each of which can be lost."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.copy = engine, folder / "copy.db"
        text = changed("network_id = 1", "network_id = 0").replace("data/channeld.db", engine.path.name)
        self.settings = load(write_config(folder, text), {})
        self.file = path_beside(engine.path)
        self.start(Topic())

    def start(self, topic: Topic, home: str = HOME, *, connect: bool = True) -> None:
        mirror, books = self.engine.mirror, self.engine.store.books
        self.guard = Guard(mirror, books, lambda: 1.0)
        self.topic, file = topic, WitnessFile(self.file)
        self.watch = WitnessWatch(
            mirror, books, self.guard, topic, file, home=home, monotonic=lambda: self.engine.clock
        )
        self.guard.objects, self.guard.on_thawed = self.watch.objects, self.watch.thawed
        if connect:
            self.watch.connected()
            topic.deliver(self.watch)

    def back_up(self) -> None:
        """As the daemon does."""
        self.watch.bear()
        copy_store(self.engine.path, self.copy)
        self.watch.bear()
        self.topic.deliver(self.watch)

    def restore(self, **said: Any) -> dict[str, Any]:
        """No daemon runs; then one is built, and connected to its node only."""
        self.engine.kill()
        answer = recovery.restore(self.settings, self.copy, "eva", "drill", **said)
        self.engine.session = Session(self.engine.ledger)
        self.engine.build()
        self.engine.connect()
        return answer

    @property
    def causes(self) -> set[Cause]:
        return {Cause(cause) for (cause,) in self.engine.on_disk("SELECT cause FROM freeze")}

    def thaw(self) -> None:
        """An operator who knows of nothing that is newer and can be had lifts whatever there is."""
        for cause in self.causes:
            self.guard.thaw("", cause, "eva", "all else is lost")
        self.topic.deliver(self.watch)

    def sold(self, name: str) -> Granted:
        """Ask until it is accepted."""
        for _ in range(20):
            (answer,) = self.engine.answer(self.engine.ask(name, 7))
            if isinstance(answer, Granted):
                return answer
            self.engine.tick()
        raise AssertionError(answer)

    def refused(self, name: str) -> Code | None:
        (answer,) = self.engine.answer(self.engine.ask(name, 7))
        return answer.code if isinstance(answer, Refusal) else None


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Host:
    engine.opened()
    return Host(engine, tmp_path)


@pytest.mark.parametrize("file", ["lost", "as old as the copy", "there"])
@pytest.mark.parametrize("broker", ["lost", "another", "there"])
def test_what_is_put_back_never_sells_a_slice_twice(host: Host, file: str, broker: str) -> None:
    """Whoever thaws all that is frozen, as told: with both witnesses gone nothing but the restoring itself tells."""
    host.back_up()
    with closing(sqlite3.connect(host.copy)) as db:
        facts = dict(db.execute("SELECT key, value FROM meta"))
    before = host.sold("before")
    host.watch.bear()
    if file != "there":
        host.file.unlink()
    if file == "as old as the copy":
        WitnessFile(host.file).write(Witness(facts["store_id"], int(facts["data_version"])))
    answer = host.restore()
    assert Cause.OLD_STORE in host.causes, "before anybody asked a witness"
    assert ("--newest" in answer["doubt"]) is (file != "there"), "what is proven to be old is not said to be newest"
    assert "old_store" in answer["next"]
    host.start(host.topic if broker == "there" else Topic(), HOME if broker != "another" else "d on another")
    assert host.refused("again") is Code.FROZEN
    host.thaw()
    again = host.sold("again")
    assert again.claim.channel_id != before.claim.channel_id
    assert host.engine.on_disk("SELECT issuing, adopted FROM channel ORDER BY rowid") == [(0, 1), (1, 0)]


@pytest.mark.parametrize("along", [False, True])
def test_a_store_that_moved_goes_on_where_an_operator_says_that_it_is_the_newest(host: Host, along: bool) -> None:
    """Backed up after the daemon had stopped, put back where no witness of it is, or where that came along."""
    before = host.sold("before")
    host.engine.store.close()
    recovery.backup(host.settings, host.copy, "eva", "to move")
    if not along:
        host.engine.path.rename(host.copy.with_name("of the old host"))
        host.file.unlink()
    answer = host.restore(newest=True)
    assert (answer["doubt"], host.causes) == (None, set())
    told = host.engine.on_disk("SELECT who, what FROM audit ORDER BY seq")
    assert told[-1] == ("eva", f"restore {host.copy} as the newest")
    host.start(Topic(), "d on the new host's broker")
    assert host.causes == {Cause.MOVED}
    host.thaw()
    (after,) = host.engine.answer(host.engine.ask("after", 7))
    assert isinstance(after, Granted)
    assert (after.claim.channel_id, after.covers_from) == (before.claim.channel_id, before.covers_to)


def test_what_is_put_back_is_not_thawed_before_the_broker_was_asked(host: Host) -> None:
    """What it holds of the newest store would be overwritten, or freeze all again that was just thawed."""
    host.back_up()
    before = host.sold("before")
    for _ in range(3):
        host.watch.bear()
        host.topic.deliver(host.watch)
    kept = host.topic.retained
    host.file.unlink()
    host.restore()
    host.start(host.topic, connect=False)
    with pytest.raises(Refused, match=r"not asked yet .* lift old_store after that"):
        host.guard.thaw("", Cause.OLD_STORE, "eva", "too early")
    host.watch.connected()
    with pytest.raises(Refused, match=r"being asked .* lift old_store after that"):
        host.guard.thaw("", Cause.OLD_STORE, "eva", "too early")
    assert host.engine.on_disk("SELECT DISTINCT adopted FROM channel") == [(0,)]
    host.guard.freeze("", "eva", "drill")
    host.guard.thaw("", Cause.OPERATOR, "eva", "over")
    assert host.topic.retained == kept
    host.topic.deliver(host.watch)
    assert host.causes == {Cause.OLD_STORE}
    host.thaw()
    assert host.causes == set()
    assert kept is not None
    assert host.topic.retained is not None
    assert host.topic.retained.data_version > kept.data_version
    assert host.sold("again").claim.channel_id != before.claim.channel_id


def test_nobodys_word_counts_more_than_a_witness(host: Host) -> None:
    host.back_up()
    host.sold("before")
    answer = host.restore(newest=True)
    assert "the file beside it" in answer["doubt"]
    assert host.causes == {Cause.OLD_STORE}


def test_it_is_frozen_before_it_is_in_its_place(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A death in between leaves the store that was there, or one that does not sign."""
    host.back_up()
    put_back, found = recovery.put_back, []

    def look(draft: Path, store: Path, suffix: str) -> Path | None:
        assert not draft.with_name(draft.name + "-wal").exists()
        with closing(sqlite3.connect(draft)) as db:
            found.extend(db.execute("SELECT cause FROM freeze").fetchall())
        return put_back(draft, store, suffix)

    monkeypatch.setattr(recovery, "put_back", look)
    host.restore()
    assert found == [("old_store",)]


def test_a_store_with_a_log_beside_it_is_put_back_whole(host: Host) -> None:
    """As one that was set aside after a kill, or copied as a file: what is in its log only was signed, too."""
    before = host.sold("before")
    log = host.engine.path.with_name(host.engine.path.name + "-wal")
    assert log.stat().st_size
    shutil.copy(host.engine.path, host.copy)
    shutil.copy(log, host.copy.with_name(host.copy.name + "-wal"))
    host.restore(newest=True)
    host.start(host.topic)
    assert host.causes == set()
    assert host.sold("after").covers_from == before.covers_to


def test_a_backup_that_was_copied_into_place_by_hand_can_be_restored_from_there(host: Host) -> None:
    """What a store says that finds no witness: a backup must come back by `restore`."""
    host.back_up()
    before = host.sold("before")
    host.engine.store.close()
    shutil.copy(host.copy, host.engine.path)
    host.file.unlink()
    host.engine.build()
    host.start(Topic())
    assert host.causes == {Cause.WITNESS_MISSING}
    assert "`channeld restore`" in host.engine.mirror.frozen["witness_missing"]
    host.copy = host.engine.path
    host.restore()
    host.start(Topic())
    assert host.causes == {Cause.OLD_STORE, Cause.WITNESS_MISSING}
    host.thaw()
    assert host.sold("again").claim.channel_id != before.claim.channel_id


def test_what_an_earlier_restore_left_and_cannot_be_taken_away_is_said(host: Host) -> None:
    """No defect: the command ends as with any store that cannot be written."""
    host.back_up()
    left = host.engine.path.with_name(host.engine.path.name + ".restoring")
    left.mkdir()
    with pytest.raises(StoreError, match=left.name):
        draft_beside(host.copy, host.engine.path)


def test_a_backup_of_an_old_store_leaves_what_is_witnessed_of_it(host: Host) -> None:
    """Made while no daemon runs, so that nobody asks the broker."""
    host.back_up()
    host.sold("before")
    host.engine.store.close()
    shutil.copy(host.copy, host.engine.path)
    witness = host.file.read_text()
    for number in range(2):
        recovery.backup(host.settings, host.copy.with_name(f"another{number}.db"), "eva", "daily")
    assert host.file.read_text() == witness
    host.file.unlink()
    host.engine.build()
    host.start(host.topic)
    assert host.causes == {Cause.OLD_STORE}
