"""Budgets, the floor and the cap on closes bind over time, whatever dies: told apart from the ledger's own history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from lab import LEDGER_S, PAYEES, WALLETS, WEALTH, Lab, Where, terms
from sandbox.rig import address
from service.machine import ANSWERS, AT_ONCE
from service.sums import added_up

from channeld.core.budgets import Budget, Purse
from channeld.core.intents import FREE_CLOSES
from channeld.core.policy import Cap, Policy
from channeld.core.units import Drops, Seconds
from channeld.sandbox.ledger.faults import order
from channeld.sandbox.ledger.history import Record
from channeld.service.steps import Step

INCREMENT = 200_000
"""What the sandbox's ledger asks for an owned object."""
RESERVE = 1_000_000
OWED = ("owed_before_close", "owed_before_end")


@dataclass(frozen=True)
class Spent:
    """What one validated transaction of a wallet took, by the ledger's own metadata."""

    at: int
    pool: str
    fee: int
    locked: int
    opened: int
    kind: str
    reason: str
    closed: bool

    @property
    def deadline_work(self) -> bool:
        """What no budget holds back: payouts before an end, and what fills a gap in a wallet's numbers."""
        return self.reason in OWED or self.kind == "filler"

    def of(self, purse: Purse) -> int:
        return {
            Purse.FEES: 0 if self.reason in OWED else self.fee,
            Purse.CAPITAL: self.locked,
            Purse.RESERVE: self.opened * INCREMENT,
        }[purse]


def spent_in(lab: Lab) -> list[Spent]:
    """Everything that the wallets ever spent, in order. The wallet tells the pool; the journal only why it was done."""
    why = {
        tx: (kind or ("tickets" if makes else "filler"), reason or "")
        for tx, makes, kind, reason in lab.on_disk(
            "SELECT t.hash, t.makes, i.kind, i.reason FROM tx t LEFT JOIN intent i ON i.number = t.intent"
        )
    }
    return [_spent(record, why) for record in lab.history()]


def _spent(record: Record, why: dict[str, tuple[str, str]]) -> Spent:
    pool = next(p for w, p in WALLETS.items() if address(w) == record.tx.account)
    locked = opened = 0
    closed = False
    for node in record.meta["AffectedNodes"]:
        ((change, body),) = node.items()
        fields: dict[str, Any] = body.get("NewFields") or body.get("FinalFields", {})
        if body["LedgerEntryType"] != "PayChannel" or fields.get("Account") != record.tx.account:
            continue
        opened += change == "CreatedNode"
        closed |= change == "DeletedNode" or "Expiration" in fields
        before = 0 if change == "CreatedNode" else int(body.get("PreviousFields", {}).get("Amount", fields["Amount"]))
        locked += int(fields["Amount"]) - before
    kind, reason = why[record.tx.hash]
    freely = kind == "request_close" and closed
    # tickets and fillers are for no pool
    pool = "" if kind in ("tickets", "filler") else pool
    return Spent(record.close_time, pool, record.tx.fee, locked, opened, kind, reason, freely)


def spans(spent: Iterable[Spent], length: int) -> Iterable[list[Spent]]:
    """Every span of this length that ends with something: the fullest ones."""
    listed = list(spent)
    for last in listed:
        yield [s for s in listed if last.at - length < s.at <= last.at]


CAPITAL_Q = Budget("capital-q", Purse.CAPITAL, Drops(60), Seconds(300), frozenset({"q"}))
BUDGETS = (
    Budget("fees", Purse.FEES, Drops(45), Seconds(100)),
    Budget("fees-p", Purse.FEES, Drops(35), Seconds(150), frozenset({"p"})),
    Budget("capital", Purse.CAPITAL, Drops(70)),
    CAPITAL_Q,
    Budget("reserve", Purse.RESERVE, Drops(2 * INCREMENT)),
    Budget("reserve-p", Purse.RESERVE, Drops(2 * INCREMENT), Seconds(400), frozenset({"p"})),
)


EVERYTHING = tuple(Budget(f"all-{p.value}", p, Drops(10**15), Seconds(10**8)) for p in Purse)
"""Budgets that never bind and forget nothing: they have to say what the ledger's history says."""


def bound(stock: int, budgets: Iterable[Budget], floor: int = 0, closes: int = 1) -> Policy:
    """Terms with these budgets, so many closes an hour, and a floor that leaves so many channels' worth of reserve."""
    policy = terms(stock=stock)
    kept = Drops(WEALTH - RESERVE - floor * INCREMENT - 5000) if floor else Drops(0)
    guards = replace(
        policy.guards, fee_cap=Drops(20), urgent_fee_cap=Drops(40), treasury_floor=kept, deadline_purse=Drops(80)
    )
    return replace(policy, budgets=(*budgets, *EVERYTHING), guards=replace(guards, max_closes_per_hour=Cap(closes)))


def is_the_ledgers(lab: Lab) -> None:
    """Nothing is in flight: what was used is what the ledger's history says, to the drop."""
    assert lab.mirror.journal == {}
    assert lab.mirror.live == {}
    spent, used, now = spent_in(lab), lab.planner.spending.used(), lab.rig.pct
    assert {p: used[f"all-{p.value}"] for p in Purse} == {p: sum(s.of(p) for s in spent) for p in Purse}
    for wallet, pool in WALLETS.items():
        owed = sum(s.fee for s in spent if s.pool == pool and s.reason in OWED)
        assert lab.planner.spending.purse_used(wallet) == owed
    for pool, pulse in lab.planner.spending.pulses().items():
        free = [s for s in spent if s.pool == pool and s.closed and s.reason in FREE_CLOSES and s.at > now - 3600]
        assert pulse.closed == len(free)


class Life:
    """A daemon's life by a seed: asked for much, with little to spend, disturbed and killed at any step."""

    def __init__(self, path: Path, seed: int, bindings: Counter[str]) -> None:
        self.random, self.bindings = Random(seed), bindings
        r = self.random
        budgets = r.sample(BUDGETS, r.choice((1, 1, 2, 3)))
        self.lab = Lab(path, bound(r.choice((0, 0, 2)), budgets, r.choice((0, 0, 1, 2, 3)), r.choice((1, 2))))
        self.asked = 0

    def turn(self) -> None:
        """Something happens, and mostly a ledger closes."""
        r, lab = self.random, self.lab
        if r.random() < 0.6:
            for payee in r.sample(sorted(PAYEES), r.randint(1, 3)):
                self.asked += 1
                lab.ask(str(self.asked), r.randint(1, 20), payee)
        if r.random() < 0.1:
            at = sum(lab.contacts.values()) + r.randint(0, 25)
            lab.deadly = lambda _where, _count: sum(lab.contacts.values()) == at
        if r.random() < 0.12:
            kind = r.choice(sorted(AT_ONCE))
            order(lab.rig.node.faults, {"kind": kind, "count": r.randint(1, 3), **AT_ONCE[kind]})
        if r.random() < 0.08:
            refused = {"kind": "submit_refuse", "count": r.randint(1, 20), "engine_result": r.choice(ANSWERS)}
            order(lab.rig.node.faults, refused)
        if r.random() < 0.04:
            self.start_again()
        for _ in range(r.choice((0,) * 12 + (1, 14))):
            lab.close()  # ledgers that nobody sees
        lab.tick(r.choice((1, 1, 1, 1, 1, 2, 20)))

    def start_again(self) -> None:
        """What budgets and pools have used is the same to the drop after a start from the same file."""
        lab, header = self.lab, self.lab.mirror.header
        before = (lab.planner.spending.used(), lab.planner.spending.pulses())
        lab.loop.close()
        lab.store._db.close()
        lab.build()
        lab.mirror.header = header
        assert (lab.planner.spending.used(), lab.planner.spending.pulses()) == before
        lab.alive(lab.connect)

    # --- what holds --------------------------------------------------------------------------------------------------

    def nothing_is_overspent(self) -> None:
        """By the ledger's own history, whatever the daemon believes."""
        spent = spent_in(self.lab)
        for budget in set(self.lab.policy.budgets) - set(EVERYTHING):
            self._within(budget, spent)
        self._closes(spent)
        self._floor(spent)

    def _within(self, budget: Budget, spent: list[Spent]) -> None:
        """No span of the window holds more than the limit, and at no moment is more out, but for deadline work."""
        mine = [s for s in spent if budget.bounds(budget.purse, s.pool)]
        sums = [0]
        if budget.window is not None:
            ordinary = [s for s in mine if not s.deadline_work]
            sums += [sum(s.of(budget.purse) for s in span) for span in spans(ordinary, budget.window)]
        else:
            pools = {address(w): p for w, p in WALLETS.items()}
            out = [c for c in self.lab.channels().values() if budget.bounds(budget.purse, pools[c["account"]])]
            held = [int(c["amount"]) - int(c["balance"]) for c in out]
            sums.append(len(out) * INCREMENT if budget.purse is Purse.RESERVE else sum(held))
        assert max(sums) <= budget.limit, budget
        self.bindings[budget.name] += max(sums) > budget.limit - 20

    def _closes(self, spent: list[Spent]) -> None:
        cap = self.lab.policy.guards.max_closes_per_hour
        assert cap is not None
        for pool in WALLETS.values():
            free = [s for s in spent if s.pool == pool and s.closed and s.reason in FREE_CLOSES]
            for span in spans(free, 3600):
                assert len(span) <= cap.of(0)
                self.bindings["closes"] += len(span) == cap.of(0)

    def _floor(self, spent: list[Spent]) -> None:
        """Opening, funding and tickets leave the floor, beside what everything else has cost in fees."""
        floor = self.lab.policy.guards.treasury_floor
        for wallet, pool in WALLETS.items():
            root = self.lab._ask("account_info", account=address(wallet))["account_data"]
            other = sum(s.fee for s in spent if s.pool in (pool, "") and s.kind not in ("open", "fund"))
            kept = RESERVE + int(root["OwnerCount"]) * INCREMENT + floor
            assert not floor or int(root["Balance"]) + other >= kept
            self.bindings["floor"] += bool(floor) and int(root["Balance"]) < kept + INCREMENT

    def end(self) -> None:
        """Without budgets, floor and cap, all that they held back is done."""
        lab = self.lab
        lab.deadly = lambda _where, _count: False
        lab.rig.node.faults.clear()
        guards = replace(lab.policy.guards, treasury_floor=Drops(0), max_closes_per_hour=None)
        lab.policy = replace(lab.policy, budgets=EVERYTHING, guards=guards)
        lab.restart()
        lab.tick(60)
        assert lab.channels() == {}
        is_the_ledgers(lab)
        assert lab.on_disk("SELECT * FROM intent WHERE status IN ('planned', 'signed')") == []
        added_up(lab.mirror)
        lab.loop.close()
        lab.store._db.close()


EVERY_BOUND = {b.name for b in BUDGETS} | {"closes", "floor"}


def lives(directory: Path, least: int, most: int) -> tuple[Counter[str], int]:
    """So many lives, and up to `most` until every bound was reached; what was spent to the last in them, and how often
    they were killed.
    """
    bindings, deaths = Counter[str](), 0
    for seed in range(most):
        if seed >= least and deaths > 20 and set(+bindings) >= EVERY_BOUND:
            break
        life = Life(directory / f"{seed}.db", seed, bindings)
        for _ in range(30):
            life.turn()
            life.nothing_is_overspent()
            added_up(life.lab.mirror)
        life.end()
        deaths += len(life.lab.died)
    return bindings, deaths


def test_no_budget_floor_or_cap_is_ever_passed_whatever_dies(tmp_path: Path) -> None:
    lives(tmp_path, 1, 1)


@pytest.mark.slow
def test_all_of_them_bind_in_these_lives_and_none_is_passed(tmp_path: Path) -> None:
    bindings, deaths = lives(tmp_path, settings().max_examples // 10, max(16, settings().max_examples // 10))
    assert set(+bindings) == EVERY_BOUND
    assert deaths > 20


# --- a death at every step of the journal ----------------------------------------------------------------------------
WRITES = {Step.JOURNALED, Step.PERSISTED, Step.SENT, Step.OUTCOME_WRITTEN, Step.OUTCOME_ADOPTED, Step.MOOTED}


def short_life(path: Path, death: Where | None = None) -> Lab:
    """Wants that two budgets leave room for one after the other, until all of it is spent; it dies where it is told."""
    budgets = [
        Budget("fees", Purse.FEES, Drops(45), Seconds(100)),
        Budget("capital", Purse.CAPITAL, Drops(110), Seconds(10**6)),
    ]
    policy = bound(0, budgets, closes=2)
    lab = Lab(path, policy, deadly=lambda where, count: where == death and count == 1)
    life = Life.__new__(Life)
    life.lab, life.bindings = lab, Counter()
    for number in range(16):
        for payee in sorted(PAYEES):
            lab.ask(f"{number}-{payee}", 4, payee)
        lab.tick(2)
        life.nothing_is_overspent()
        added_up(lab.mirror)
    lab.tick(18)
    for _ in range(15):
        if lab.mirror.journal or lab.mirror.live:
            lab.tick()
    life.nothing_is_overspent()
    is_the_ledgers(lab)
    return lab


@pytest.mark.slow
def test_a_death_at_every_step_of_the_journal_neither_frees_nor_loses_a_drop_of_a_budget(tmp_path: Path) -> None:
    """And nothing is done twice for it: in the end as much is locked and paid as without a death."""
    clean = short_life(tmp_path / "clean.db")
    kinds = {where[1] for where in clean.contacts}
    assert kinds >= {"open", "fund", "settle", "request_close", "finalize_close"}
    locked = sum(s.locked for s in spent_in(clean))
    assert locked > 110 - 15, "the budget bound"
    places = sorted(where for where in clean.contacts if Step(where[0]) in WRITES)
    assert {where[0] for where in places} >= {step.value for step in WRITES - {Step.MOOTED}}
    for number, where in enumerate(places):
        lab = short_life(tmp_path / f"{number}.db", where)
        assert lab.died, where
        assert sum(s.locked for s in spent_in(lab)) > 110 - 15, where
        jobs = Counter(lab.on_disk("SELECT intent FROM tx WHERE ledger IS NOT NULL AND intent IS NOT NULL"))
        assert max(jobs.values()) == 1, "two transactions were validated for one intent"
        lab.store._db.close()


# --- one rule each ---------------------------------------------------------------------------------------------------


def test_a_budget_frees_as_its_window_passes_and_what_it_held_back_is_done(tmp_path: Path) -> None:
    """Two channels are wanted, and fees are left for one in every span of the window; a death forgets nothing."""
    fees = Budget("fees", Purse.FEES, Drops(25), Seconds(20 * LEDGER_S))
    lab = Lab(tmp_path / "s.db", bound(0, [fees]))
    lab.ask("1", 5, "bob")
    lab.tick(3)
    assert Counter(s.kind for s in spent_in(lab)) == {"open": 1}
    for number in range(17):
        lab.ask(f"2-{number}", 5, "carol")
        lab.tick()
        if number % 5 == 2:
            lab.restart()
        assert Counter(s.kind for s in spent_in(lab)) == {"open": 1}, "the window still holds the first"
    for number in range(6):
        lab.ask(f"3-{number}", 5, "carol")
        lab.tick()
    assert Counter(s.kind for s in spent_in(lab)) == {"open": 2}


def test_what_came_to_nothing_is_free_again(tmp_path: Path) -> None:
    """An open that no ledger takes holds its worst case as long as it may still happen, and not longer."""
    capital = Budget("capital", Purse.CAPITAL, Drops(20), Seconds(10**6))
    lab = Lab(tmp_path / "s.db", bound(0, [capital]))
    lab.signs(False)
    lab.ask("1", 5, "bob")
    lab.tick()
    assert lab.planner.spending.used()["capital"] == 20
    (number,) = lab.mirror.journal
    lab.reconciler.fail(lab.mirror.journal[number], "a test says so")
    assert lab.planner.spending.used()["capital"] == 0
    lab.signs(True)
    lab.ask("2", 5, "carol")
    lab.tick(2)
    assert lab.planner.spending.used()["capital"] == 20
    lab.restart()
    assert lab.planner.spending.used()["capital"] == 20


def test_a_policy_with_other_budgets_counts_what_was_spent_before_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "s.db", replace(bound(0, []), budgets=()))
    lab.ask("1", 5, "bob")
    lab.tick(3)
    assert lab.planner.spending.used() == {}
    capital = Budget("capital", Purse.CAPITAL, Drops(30), Seconds(10**6))
    lab.mirror.policy = replace(lab.policy, budgets=(capital,))
    assert lab.planner.spending.used() == {"capital": 20}
    lab.ask("2", 5, "carol")
    lab.tick(3)
    assert len(lab.channels()) == 1
