"""The purse for deadlines: nothing else touches it, deadline work is paid from it and goes on beyond it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from lab import TILL, WALLETS, Lab, terms
from sandbox.rig import address
from service.sums import added_up
from service.test_spending import INCREMENT, OWED, RESERVE, spent_in

from channeld.app import budgets
from channeld.core.budgets import Budget, Purse
from channeld.core.policy import Policy
from channeld.core.requests import Taken
from channeld.core.units import Drops, Seconds
from channeld.core.vocabulary import Concern, Mode

CLOSE = 0x00020000
URGENT = 40


def with_purse(purse: int, window: int = 10**6, **more: Any) -> Policy:
    """Terms under which such payouts cost 40 drops at worst, and channels end by themselves after twenty ledgers."""
    policy = terms()
    guards = replace(
        policy.guards, fee_cap=Drops(20), urgent_fee_cap=Drops(URGENT), deadline_purse=Drops(purse),
        deadline_window=Seconds(window), ledger_lag=Seconds(20),
    )  # fmt: skip
    pools = {name: replace(pool, cancel_after=Seconds(200)) for name, pool in policy.pools.items()}
    return replace(policy, guards=guards, pools=pools, **more)


# --- lives of poor wallets --------------------------------------------------------------------------------------------


class Life:
    """Two wallets with hardly more than the reserve of their channels and the purse, by a seed; killed at any step."""

    def __init__(self, path: Path, seed: int, bindings: Counter[str]) -> None:
        self.random, self.bindings, self.asked = Random(seed), bindings, 0
        purse, channels = self.random.choice((40, 120)), self.random.choice((1, 1, 2))
        wealth = RESERVE + channels * INCREMENT + purse + self.random.choice((80, 110, 140))
        policy = with_purse(purse)
        pools = {n: replace(p, settle=replace(p.settle, worth=Drops(5))) for n, p in policy.pools.items()}
        self.lab = Lab(path, replace(policy, pools=pools), wealth=wealth)

    def turn(self) -> None:
        """Something is asked for, and ledgers close; now and then it dies."""
        r, lab = self.random, self.lab
        for payee in r.sample(("bob", "carol", "dave"), r.randint(0, 3)):
            self.asked += 1
            lab.ask(str(self.asked), r.randint(1, 12), payee)
        if r.random() < 0.1:
            at = sum(lab.contacts.values()) + r.randint(0, 25)
            lab.deadly = lambda _where, _count: sum(lab.contacts.values()) == at
        if r.random() < 0.05:
            lab.alive(lab.restart)
        lab.tick(r.choice((1, 1, 2, 4)))

    def nothing_else_touched_it(self) -> None:
        """By the ledger's own history. What gives its wallet more than it costs, and fillers, may use it."""
        lab, spent = self.lab, spent_in(self.lab)
        for wallet, pool in WALLETS.items():
            mine = [s for s in spent if s.pool == pool]
            left = lab.policy.guards.deadline_purse - sum(s.fee for s in mine if s.reason in OWED)
            gaining = sum(
                s.fee
                for s in spent
                if s.pool in (pool, "")
                and (s.kind in ("finalize_close", "filler") or (s.kind == "request_close" and s.reason not in OWED))
            )
            root = lab._ask("account_info", account=address(wallet))["account_data"]
            kept = RESERVE + int(root["OwnerCount"]) * INCREMENT + max(0, left)
            has = int(root["Balance"]) + gaining + max(0, -left)
            assert has >= kept, (wallet, left)
            self.bindings["down to the purse"] += has - kept < URGENT
            self.bindings["beyond it"] += left < 0
            self.bindings["from it"] += 0 < left < lab.policy.guards.deadline_purse
            if not lab.mirror.journal and not lab.mirror.live and lab.mirror.header:
                assert lab.planner.purse.left(wallet) == left

    def everything_signed_is_paid(self) -> None:
        """However poor: what was owed at an end was paid before it."""
        self.lab.deadly = lambda _where, _count: False
        self.lab.restart()
        self.lab.tick(60)
        assert self.lab.channels() == {}
        assert self.lab.on_disk("SELECT * FROM loss") == []
        assert self.lab.on_disk("SELECT channel_id FROM channel WHERE authorized > balance") == []
        self.lab.loop.close()
        self.lab.store._db.close()


def lives(directory: Path, count: int) -> Counter[str]:
    """So many lives, and what bound in them."""
    bindings = Counter[str]()
    for seed in range(count):
        life = Life(directory / f"{seed}.db", seed, bindings)
        for _ in range(20):
            life.turn()
            life.nothing_else_touched_it()
            added_up(life.lab.mirror)
        life.everything_signed_is_paid()
        bindings["deaths"] += len(life.lab.died)
    return bindings


def test_a_poor_wallet_keeps_the_purse_and_pays_all_it_signed(tmp_path: Path) -> None:
    lives(tmp_path, 1)


@pytest.mark.slow
def test_the_purse_binds_in_these_lives_and_nothing_else_touches_it(tmp_path: Path) -> None:
    bindings = lives(tmp_path, max(4, settings().max_examples // 25))
    assert all(bindings[what] for what in ("down to the purse", "from it", "beyond it", "deaths")), bindings


# --- one rule each ----------------------------------------------------------------------------------------------------


def till(path: Path, purse: int, **more: Any) -> Lab:
    lab = Lab(path, with_purse(purse, **more), receives=True)
    lab.rig.fund("alice")
    lab.alive(lab.see)
    return lab


def held(lab: Lab, drops: int, number: str = "1") -> str:
    """A channel that pays us, and what its payer signed."""
    channel_id = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=100)
    lab.alive(lab.see)
    assert lab.hand_in(number, channel_id, drops, "alice") == Taken(drops, drops, replayed=False)
    return channel_id


def poor(lab: Lab, beside: int) -> None:
    """Its owner sweeps the account: beside the reserve so much is left."""
    amount = lab.settled_balance(TILL) - RESERVE - beside - 10
    assert lab.rig.submit(TILL, "Payment", Destination=address("bob"), Amount=str(amount)) == "tesSUCCESS"
    lab.tick()
    assert lab.settled_balance(TILL) == RESERVE + beside


def closed(lab: Lab, *channels: str) -> None:
    for channel_id in channels:
        lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)


def redeemed(lab: Lab) -> int:
    """What came in."""
    return int(lab.on_disk("SELECT coalesce(sum(paid), 0) FROM redeemed")[0][0])


def test_it_is_reserved_at_worst_and_counts_what_it_cost_until_the_window_has_passed(tmp_path: Path) -> None:
    """No budget counts it, and no death changes it."""
    fees = Budget("fees", Purse.FEES, Drops(10**6), Seconds(10**6))
    lab = till(tmp_path / "s.db", 100, window=600, budgets=(fees,))
    closed(lab, held(lab, 3), held(lab, 4, "2"))
    lab.signs(False)
    lab.tick()
    assert lab.planner.spending.purse_used(TILL) == 2 * URGENT
    lab.restart()
    assert lab.planner.spending.purse_used(TILL) == 2 * URGENT
    lab.signs(True)
    lab.tick(3)
    paid = [r.tx.fee for r in lab.rig.node.history.all() if r.tx.account == address(TILL)]
    assert (len(paid), redeemed(lab)) == (2, 7)
    for _ in range(2):
        assert lab.planner.spending.purse_used(TILL) == sum(paid)
        assert lab.planner.spending.used() == {"fees": 0}
        lab.restart()
    shown = budgets.purses(lab.mirror, lab.planner.purse)[TILL]
    assert (shown["used"], shown["left"], shown["covered"]) == (str(sum(paid)), str(100 - sum(paid)), True)
    lab.tick(61)
    assert lab.planner.spending.purse_used(TILL) == 0
    lab.mirror.policy = with_purse(100)
    assert lab.planner.spending.purse_used(TILL) == sum(paid), "a longer window looks further back"


def test_what_can_wait_leaves_the_purse_alone_and_what_earns_more_than_it_costs_does_not_need_to(
    tmp_path: Path,
) -> None:
    lab = till(tmp_path / "s.db", 100)
    poor(lab, 100 + URGENT - 1)
    little = held(lab, 30)  # worth a transaction by the terms, and not its fee at worst
    lab.tick(2)
    lab.restart()
    lab.tick(2)
    assert redeemed(lab) == 0
    held(lab, URGENT, "2")
    lab.tick(2)
    assert redeemed(lab) == URGENT
    closed(lab, little)
    lab.tick(3)
    assert redeemed(lab) == URGENT + 30


@pytest.mark.parametrize("mode", list(Mode))
def test_beyond_the_purse_deadline_work_goes_on_and_people_are_told(
    tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every mode; for a window's length, and once in the log."""
    lab = till(tmp_path / "s.db", URGENT, window=300, modes={Concern.REDEEM: mode})
    channels = [held(lab, 3 + n, str(n)) for n in range(3)]
    assert budgets.warnings(lab.planner.purse) == []
    alarms: list[dict[str, Any]] = []
    heard = SimpleNamespace(error=lambda event, **said: alarms.append({"event": event, **said}))
    monkeypatch.setattr("channeld.service.deadline_purse.log", heard)
    closed(lab, *channels)
    lab.tick(4)
    assert redeemed(lab) == 3 + 4 + 5
    (alarm,) = alarms
    assert (alarm["event"], alarm["wallet"], alarm["count"]) == ("deadline_purse_exhausted", TILL, 2)
    (warning,) = budgets.warnings(lab.planner.purse)
    assert f"wallet {TILL}" in warning
    assert budgets.purses(lab.mirror, lab.planner.purse)[TILL]["passed"] == 2
    gauges = {g.name: g.values for g in budgets.gauges(lab.mirror, lab.planner.spending, lab.planner.purse)}
    assert gauges["deadline_purse_passed"][TILL,] == 2
    assert gauges["deadline_purse_drops"][TILL, "limit"] == URGENT
    lab.tick(31)
    assert budgets.warnings(lab.planner.purse) == []


def test_tickets_are_not_made_from_the_purse(tmp_path: Path) -> None:
    """Each counts against the reserve: as many are made as floor and purse leave room for."""
    policy = with_purse(2 * INCREMENT)
    policy = replace(policy, guards=replace(policy.guards, ticket_stock=5))
    lab = Lab(tmp_path / "s.db", policy, wealth=RESERVE + 5 * INCREMENT + 50)
    lab.tick(3)
    assert len(lab.mirror.tickets) == 2 * 3, "three of each wallet"
