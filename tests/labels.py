"""The labels that a metric may have: their values are of small closed sets, however large the pool."""

from __future__ import annotations

from typing import Final

LABELS: Final = frozenset(
    (
        *("pool", "tier", "region", "wallet", "endpoint", "state", "stage"),
        *("kind", "code", "type", "result", "concern", "rule", "action"),
    )
)
