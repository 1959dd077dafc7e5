"""Budgets of the policy, as they are shown: the status and the gauges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channeld.adapters.telemetry import Gauged
from channeld.core.errors import StoreError
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


def gauges(mirror: Mirror, spending: Spending) -> Iterator[Gauged]:
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


def _used(mirror: Mirror, spending: Spending) -> dict[str, int]:
    if mirror.header is None:
        return {}
    try:
        return spending.used()
    except StoreError:  # the daemon ends by itself where its store fails
        return {}
