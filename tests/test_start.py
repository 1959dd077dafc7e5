"""A life of the daemon begins: the audit says which policy came into force by it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from lives import POLICY, Site
from spoil import spoilt

from channeld.adapters.http import HttpServer
from channeld.app import keyring
from channeld.app.daemon import Daemon
from channeld.app.life import live
from channeld.app.pause import paused
from channeld.app.reload import Outcome
from channeld.core.errors import StoreError
from channeld.core.freezes import Audit
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
