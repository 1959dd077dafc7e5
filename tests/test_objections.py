"""A policy that takes away what live channels stand on is refused: by a running daemon, and by one that starts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from configs import write_config
from engine import Engine, policy
from worlds import KEY, PAYEES, SOURCE, channel

from channeld.adapters.sqlite import SqliteStore
from channeld.app.objections import homeless, objections
from channeld.core.intents import OpenChannel
from channeld.core.policy import Policy
from channeld.core.records import Booked, ChannelRecord, LedgerUpdate
from channeld.core.units import LedgerIndex, RippleTime
from channeld.sandbox.stage import Server, Stage
from channeld.service.holdings import Wallet
from channeld.service.mirror import Mirror
from channeld.settings import Settings, load

GONE = "pools.p: is gone, and a channel of it lives (keep the pool until they are closed; no payee need name it)"
MOVED = "pools.p.wallet: has changed, and a channel of it lives (make a new pool for the other wallet)"
OTHER = PAYEES[3].account
TERMS = policy()
WITHOUT = replace(TERMS, pools={})
ELSEWHERE = replace(TERMS, pools={"p": replace(TERMS.pools["p"], wallet="hot2")})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "s.db")
    made.connect()
    yield made
    made.kill()


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    return load(write_config(tmp_path), {})


def started(engine: Engine, terms: Policy, *wallets: Wallet) -> Mirror:
    """What a daemon knows at its start under other files; by default a second wallet is in them."""
    wallets = wallets or (Wallet("hot", SOURCE, KEY), Wallet("hot2", OTHER, "ED" * 33))
    return Mirror(engine.store.load(), wallets, terms, engine.grants)


@pytest.mark.parametrize(("terms", "said"), [(WITHOUT, GONE), (ELSEWHERE, MOVED), (TERMS, None)])
def test_a_pool_with_a_live_channel_stays_on_its_wallet_over_a_restart(
    engine: Engine, site: Settings, terms: Policy, said: str | None
) -> None:
    """A start says of it what a reload says."""
    engine.opened()
    wanted = [] if said is None else [f"{site.policy_path}: {said}"]
    assert homeless(started(engine, terms), site.policy_path, terms) == wanted
    assert objections(started(engine, TERMS), site, terms) == wanted


@pytest.mark.parametrize(("terms", "said"), [(WITHOUT, GONE), (ELSEWHERE, MOVED), (TERMS, None)])
@pytest.mark.parametrize("signed", [False, True])
def test_so_does_one_of_which_a_channel_is_being_opened(
    engine: Engine, site: Settings, terms: Policy, said: str | None, signed: bool
) -> None:
    if signed:
        engine.answer(engine.ask("first", 5))
        engine.tick(take=False)
    else:
        engine.desk.answer([engine.ask("first", 5)])
    (entry,) = engine.mirror.journal.values()
    assert isinstance(entry.action, OpenChannel)
    assert bool(engine.mirror.live) is signed
    mirror = started(engine, terms)
    assert homeless(mirror, site.policy_path, terms) == ([] if said is None else [f"{site.policy_path}: {said}"])


def test_several_are_counted(engine: Engine, site: Settings) -> None:
    engine.opened()
    engine.desk.answer([engine.ask("second", 5, payee=PAYEES[1])])
    (problem,) = homeless(started(engine, WITHOUT), site.policy_path, WITHOUT)
    assert "pools.p: is gone, and 2 of its channels live" in problem


def test_another_name_for_the_same_account_is_no_other_wallet(engine: Engine, site: Settings) -> None:
    engine.opened()
    mirror = started(engine, ELSEWHERE, Wallet("hot2", SOURCE, KEY))
    assert homeless(mirror, site.policy_path, ELSEWHERE) == []


def test_channels_of_accounts_that_are_not_ours_any_more_need_no_pool(engine: Engine, site: Settings) -> None:
    engine.opened()
    mirror = started(engine, WITHOUT, Wallet("hot2", OTHER, "ED" * 33))
    assert homeless(mirror, site.policy_path, WITHOUT) == []


def test_a_pool_comes_back_by_a_reload_only_on_the_wallet_of_its_channels(engine: Engine, site: Settings) -> None:
    engine.opened()
    mirror = started(engine, WITHOUT)
    assert objections(mirror, site, WITHOUT) == [f"{site.policy_path}: {GONE}"]
    assert objections(mirror, site, ELSEWHERE) == [f"{site.policy_path}: {MOVED}"]
    assert objections(mirror, site, TERMS) == []


@pytest.mark.parametrize(
    ("mine", "pool", "said"),
    [
        (True, "gone", "pools.gone: is gone, and a channel of it lives (keep the pool"),
        (False, "standard", "pools.standard.wallet: has changed, and a channel of it lives (make a new pool"),
    ],
)
def test_the_daemon_ends_with_the_status_of_bad_files(tmp_path: Path, mine: bool, pool: str, said: str) -> None:
    """Before it contacts anything: there is no broker and no node here."""
    stage = Stage(tmp_path, ["ws://127.0.0.1:9"], 9, [Server("a", [PAYEES[0].account], receives=True)])
    assert stage.till is not None
    source = stage.wallet.address if mine else stage.till.address
    stage.store.parent.mkdir()
    now = RippleTime(50)
    record = ChannelRecord(0, replace(channel(), source_account=source), 5, True, pool, "a", now, now, None, None)
    store = SqliteStore(stage.store, network_id=0)
    store.apply(LedgerUpdate(LedgerIndex(5), now, (), (record,), (), (), (), booked=Booked()))
    store.close()
    command = [sys.executable, "-m", "channeld", "run", "--config", str(tmp_path / "channeld.toml")]
    done = asyncio.run(
        asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    )
    assert done.returncode == 2, done.stderr
    assert f"channeld: {tmp_path / 'policy.toml'}" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
