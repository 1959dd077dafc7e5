"""What the store of a daemon that does not run, or pauses, says of it, and how a person reads that."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from engine import Engine
from lives import Site
from worlds import PAYEES

from channeld.app import held
from channeld.core.freezes import Cause, Freeze

Run = Callable[..., tuple[int, str, str]]


def freeze(engine: Engine, scope: str, cause: Cause) -> None:
    engine.store.books.freeze(Freeze(scope, cause, f"seen on {scope}", "eva", 7))


def test_status_without_a_daemon_says_what_is_frozen_as_a_running_one_would(run: Run, engine: Engine) -> None:
    """Everything, a wallet, a content server, a user and a payee: each by cause, with what to do about it."""
    freeze(engine, "", Cause.OLD_STORE)
    freeze(engine, "hot", Cause.OPERATOR)
    freeze(engine, "hot", Cause.FOREIGN_TRANSACTION)
    for scope in ("server:a", "user:a/beef", f"payee:{PAYEES[0]}"):
        freeze(engine, scope, Cause.HELD)
    engine.restart()
    said = json.loads(run("status")[1])
    assert (said["source"], said["ready"], said["reasons"]) == ("store", False, ["no daemon runs"])
    running = held.stopped(engine.mirror.stopped)
    assert {key: said[key] for key in running} == running
    assert list(said["frozen"]) == ["old_store"]
    assert set(said["frozen_wallets"]["hot"]) == {"operator", "foreign_transaction"}
    assert "`channeld thaw` lifts it" in said["frozen_wallets"]["hot"]["operator"]
    assert [list(said[f"held_{who}"]) for who in ("servers", "users", "payees")] == [
        ["a"],
        ["a/beef"],
        [str(PAYEES[0])],
    ]


def test_status_without_a_daemon_has_moments_in_unix_seconds_and_no_counter_of_the_store(
    run: Run, engine: Engine
) -> None:
    engine.store._db.execute("INSERT OR REPLACE INTO meta VALUES ('attended_until', '848647586')")
    said = json.loads(run("status")[1])
    assert (said["name"], said["frozen"], said["frozen_wallets"]) == ("channeld-1", {}, {})
    assert said["ledger"] == {"validated": {"index": engine.ledger.index}}
    assert said["attended_until_unix"] == 1_795_332_386
    assert set(said["store"]) == {"path", "id"}
    assert (said["channels_ever"], said["drops_paid"]) == (1, "0")
    for internal in ("processed", "attended_until", "requests_folded", "data_version", "index_secret"):
        assert internal not in said


def test_a_person_is_told_of_a_freeze_without_a_daemon(terminal: Run, engine: Engine) -> None:
    freeze(engine, "hot", Cause.OPERATOR)
    status, out, _ = terminal("status")
    assert status == 0
    assert "no daemon runs" in out
    assert "frozen_wallets.hot.operator" in out
    assert "…" not in out


# --- in a pause ------------------------------------------------------------------------------------------------------

FULL = "store: the store failed: database or disk is full"
WHY = re.escape(FULL) + r"; the next attempt in (3600|35\d\d) s"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield Site(tmp_path)
    structlog.reset_defaults()


async def test_in_a_pause_status_says_why_and_when_it_ends_and_what_the_store_has(
    run: Run, terminal: Run, site: Site
) -> None:
    """As `/readyz` says it; and without the process it is as where none runs."""
    async with site.life() as daemon:
        daemon.guard.freeze("", "eva", "drill")
    async with site.pause(FULL, 3600):
        status, out, err = await asyncio.to_thread(run, "status")
        said = json.loads(out)
        assert (status, err, said["source"], said["paused"], said["ready"]) == (0, "", "store", True, False)
        assert re.fullmatch(WHY, "; ".join(said["reasons"]))
        assert "operator" in said["frozen"]
        folded = (await asyncio.to_thread(terminal, "status"))[1]
        assert re.search(WHY, re.sub(r"[│\s]+", " ", folded))
        assert json.loads((await asyncio.to_thread(run, "channels"))[1])["source"] == "store"
    said = json.loads((await asyncio.to_thread(run, "status"))[1])
    assert (said["source"], said["reasons"], "paused" in said) == ("store", ["no daemon runs"], False)


@pytest.mark.parametrize("store", ["none", "spoilt"])
async def test_in_a_pause_status_says_why_where_the_store_cannot_be_read(run: Run, site: Site, store: str) -> None:
    """Then most of all. What asks for more than that is told that the daemon pauses, not that none answers."""
    path = site.files.settings.store.path
    if store == "spoilt":
        path.write_bytes(b"no database" * 1000)
    async with site.pause(FULL, 3600):
        status, out, err = await asyncio.to_thread(run, "status")
        said = json.loads(out)
        assert (status, err, said["source"], said["paused"], said["ready"]) == (0, "", "daemon", True, False)
        assert re.fullmatch(WHY, "; ".join(said["reasons"]))
        assert said["store"]["path"] == str(path)
        assert str(path) in said["store"]["problem"]
        status, out, err = await asyncio.to_thread(run, "channels")
        assert (status, out) == (3, "")
        if store == "none":
            assert f"the daemon waits to begin anew ({FULL}" in err
            assert "there is no store yet" in err
    assert (await asyncio.to_thread(run, "status"))[0] == 3
