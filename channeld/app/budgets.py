"""Budgets of the policy, and the purses for deadline work, as they are shown: the status and the gauges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channeld.adapters.telemetry import Gauged
from channeld.core.errors import StoreError
from channeld.core.units import to_unix
from channeld.service.deadline_purse import DeadlinePurse
from channeld.service.mirror import Mirror
from channeld.service.spending import Spending


def status(mirror: Mirror, spending: Spending) -> dict[str, Any]:
    """What each budget has used, with the worst case of what is in flight; null where that is not known."""
    used = _used(mirror, spending)
    return {
        budget.name: {
            "kind": budget.purse.value,
            "limit": str(budget.limit),
            "used": str(used[budget.name]) if budget.name in used else None,
            "left": str(budget.limit - used[budget.name]) if budget.name in used else None,
            "window_s": budget.window,
        }
        for budget in mirror.policy.budgets
    }


def purses(mirror: Mirror, purse: DeadlinePurse) -> dict[str, Any]:
    """The purse of each wallet for deadline work; `covered`: the account has what is left of it beside its reserve."""
    header, guards, views = mirror.header, mirror.policy.guards, mirror.wallet_views()
    told: dict[str, Any] = {}
    for name in mirror.wallets:
        left, passed, view = _left(mirror, purse, name), purse.passed.get(name), views.get(name)
        told[name] = {
            "limit": str(guards.deadline_purse),
            "used": None if left is None else str(guards.deadline_purse - left),
            "left": None if left is None else str(left),
            "window_s": guards.deadline_window,
            "covered": view.beside_reserve(header.fees) >= left if view and header and left is not None else None,
            "passed": passed.count if passed else 0,
            "last_passed_unix": to_unix(passed.last) if passed else None,
        }
    return told


def warnings(purse: DeadlinePurse) -> list[str]:
    """Whose purse was not enough."""
    try:
        return purse.warnings()
    except StoreError:  # the daemon ends by itself where its store fails
        return []


def _left(mirror: Mirror, purse: DeadlinePurse, wallet: str) -> int | None:
    if mirror.header is None:
        return None
    try:
        return purse.left(wallet)
    except StoreError:  # the daemon ends by itself where its store fails
        return None


def gauges(mirror: Mirror, spending: Spending, purse: DeadlinePurse) -> Iterator[Gauged]:
    """The same for Prometheus."""
    drops: dict[tuple[str, ...], float] = {}
    used = _used(mirror, spending)
    for budget in mirror.policy.budgets:
        drops[budget.name, "limit"] = budget.limit
        drops[budget.name, "used"] = used.get(budget.name, float("nan"))
    text = (
        "Budgets of the policy in drops: what they allow, and what is used, with the worst case of what is in flight."
    )
    yield Gauged("budget_drops", text, ("budget", "kind"), drops)
    kept: dict[tuple[str, ...], float] = {}
    passed: dict[tuple[str, ...], float] = {}
    for wallet in mirror.wallets:
        left, limit = _left(mirror, purse, wallet), mirror.policy.guards.deadline_purse
        kept[wallet, "limit"] = limit
        kept[wallet, "used"] = float("nan") if left is None else limit - left
        beyond = purse.passed.get(wallet)
        passed[wallet,] = beyond.count if beyond else 0
    text = "Drops that a wallet keeps for deadline work, and what is used of them, with the worst case in flight."
    yield Gauged("deadline_purse_drops", text, ("wallet", "kind"), kept)
    text = "Payouts and collections before a deadline since this start that their purse did not have."
    yield Gauged("deadline_purse_passed", text, ("wallet",), passed)
    text = "What an account of ours has: spendable on channels, kept as the ledger's reserve, and in flight at worst."
    yield Gauged("treasury_drops", text, ("wallet", "kind"), _treasury(mirror, spending))


def _treasury(mirror: Mirror, spending: Spending) -> dict[tuple[str, ...], float]:
    header, guards, drops = mirror.header, mirror.policy.guards, dict[tuple[str, ...], float]()
    if header is None:
        return drops
    try:
        views = spending.wallet_views()
    except StoreError:  # the daemon ends by itself where its store fails
        return drops
    for name, view in views.items():
        drops[name, "spendable"] = max(0, view.spendable(header.fees, guards))
        drops[name, "reserved"] = header.fees.reserve(view.account.owner_count)
        drops[name, "in_flight"] = view.committed_drops
    return drops


def _used(mirror: Mirror, spending: Spending) -> dict[str, int]:
    if mirror.header is None:
        return {}
    try:
        return spending.used()
    except StoreError:  # the daemon ends by itself where its store fails
        return {}
