"""A life of the daemon begins: the audit says which policy came into force by it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from configs import ED_SEED, SECP_SEED
from lives import POLICY, Site
from spoil import spoilt
from structlog.testing import CapturingLogger

from channeld.adapters.http import HttpServer
from channeld.adapters.keystore import new_seed
from channeld.app import keyring
from channeld.app.daemon import Daemon
from channeld.app.health import warnings
from channeld.app.life import live
from channeld.app.pause import paused
from channeld.app.reload import Outcome
from channeld.app.run import run
from channeld.core.errors import Refused, StoreError
from channeld.core.freezes import Audit, Cause
from channeld.sandbox.stage import PATIENCE_S

OTHER = spoilt(POLICY, 'settle_delay = "24h"', 'settle_delay = "25h"')


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield Site(tmp_path)
    structlog.reset_defaults()


async def test_a_policy_that_a_start_brings_into_force_is_in_the_audit_once(site: Site) -> None:
    """Not again with the next life, nor with the next process, as long as it is the same."""
    for _ in range(2):
        for _ in range(2):
            async with site.life():
                pass
        site.files = site.read()
    assert site.told == [("(the start)", site.in_force)]


async def test_what_a_reload_took_over_is_not_told_again_and_what_was_changed_meanwhile_is(site: Site) -> None:
    """Also where the policy of before is put back while nothing runs."""
    async with site.life() as daemon:
        daemon.store.books.audit(Audit(1, "eva", "reload: taken", "policy 0123 in force"))
        first = site.in_force
        site.policy.write_text(OTHER)
        assert await site.files.reload() is Outcome.TAKEN
        second = site.in_force
    async with site.life():
        pass
    site.policy.write_text(POLICY)
    site.files = site.read()
    async with site.life():
        pass
    assert first != second
    told = [entry for entry in site.told if entry[0] != "eva"]
    assert told == [("(the start)", first), ("(the files)", second), ("(the start)", first)]


async def test_where_the_store_takes_no_entry_this_life_ends_as_by_any_failed_write(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one writes it."""
    daemon = Daemon(site.files, keyring.load(site.files.settings))

    def full(audit: Audit) -> None:
        raise StoreError("the store failed: disk full")

    monkeypatch.setattr(daemon.store.books, "audit", full)
    with pytest.raises(StoreError):
        http = HttpServer(paused("daemon: it begins", site.files.policy.hash))
        await asyncio.wait_for(live(daemon, http, asyncio.Event()), PATIENCE_S)
    assert site.told == []
    async with site.life():
        pass
    assert site.told == [("(the start)", site.in_force)]


async def test_only_the_end_of_a_doubt_has_all_that_servers_are_shown_looked_at_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes its time where there are many; and no doubt ends before the broker was asked."""
    async with site.life() as daemon:
        looked: list[bool] = []
        monkeypatch.setattr(daemon.herald, "look_again", lambda: looked.append(True))
        daemon.guard.freeze("", "eva", "drill")
        daemon.guard.thaw("", Cause.OPERATOR, "eva", "over")
        for cause in (Cause.MOVED, Cause.OLD_STORE):
            daemon.guard.doubt(cause, "drill")
        with pytest.raises(Refused, match="broker"):
            daemon.guard.thaw("", Cause.MOVED, "eva", "too early")
        monkeypatch.delitem(daemon.mirror.frozen, "witness")
        daemon.guard.thaw("", Cause.MOVED, "eva", "it was asked")
        assert looked == []
        daemon.guard.thaw("", Cause.OLD_STORE, "eva", "it was asked")
        assert looked == [True]


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
async def test_a_seed_that_signs_claims_and_transactions_is_warned_of(
    site: Site, key_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log of a start, and for as long as it is so; it starts all the same. The seed is not told."""

    async def begun() -> tuple[list[str], list[str]]:
        said = CapturingLogger()
        monkeypatch.setattr(sys.modules["channeld.app.run"], "log", said)
        assert run(site.files.settings, site.files.policy) == 0
        log = [call.kwargs["reason"] for call in said.calls if call.args == ("keys_shared",)]
        async with site.life() as daemon:
            return [warning for warning in warnings(daemon) if warning.startswith("keys: ")], log

    def no_life(living: Coroutine[Any, Any, None]) -> None:
        living.close()

    monkeypatch.setattr("uvloop.run", no_life)
    monkeypatch.setattr(sys.modules["channeld.app.run"], "_configure_log", lambda: None)
    secrets = site.config.parent / "secrets"
    seed = SECP_SEED if key_type == "secp256k1" else ED_SEED
    text = site.config.read_text().replace(' "ed25519"', f' "{key_type}"')
    site.config.write_text(text)
    for name in ("hot", "claims"):
        (secrets / f"{name}.seed").write_text(seed)
    site.files = site.read()
    (warning,), (log,) = await begun()
    assert "wallets.hot.claim_seed_file holds the seed of wallets.hot.seed_file" in warning
    assert "retired_claim_seed_files" in warning
    assert warning == f"keys: {log}"
    assert seed not in warning
    (secrets / "claims.seed").write_text(new_seed(key_type).reveal())
    site.files = site.read()
    assert await begun() == ([], [])
