"""The summary of a demo: one JSON object, and the same for a person."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from channeld.core.units import format_xrp
from channeld.sandbox.demo.chronicle import LedgerSays
from channeld.sandbox.demo.tally import Tally

LONG_ENOUGH_S: Final = 5.0
"""Asking for so long, a server must have got a claim: two ledgers close meanwhile, and some time is to spare."""


def summarize(
    *,
    seconds: float,
    servers: int,
    first_ledger: int,
    tally: Tally,
    ledger: LedgerSays,
    findings: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The contract's fields and some more. `seconds` is how long servers asked; `findings` as from `audit`.

    Nothing accepted is not ok, if there was time enough to open a channel: then nothing was shown.
    """
    lives = ledger.chronicle.lives.values()
    return {
        "seconds": round(seconds, 3),
        "servers": servers,
        "requests": tally.sent,
        "accepted": tally.accepted,
        "rejected": sum(tally.rejected.values()),
        "rejected_by_code": dict(sorted(tally.rejected.items())),
        "retried_in_vain": tally.in_vain,
        "replayed": tally.replayed,
        "verified": tally.verified,
        "channels_opened": len(lives),
        "channels_funded": sum(life.funded > 0 for life in lives),
        "channels_settled": sum(life.payouts > 0 for life in lives),
        "channels_closed": sum(life.closed for life in lives),
        "drops_issued": str(tally.drops),
        "drops_settled": str(sum(payout.drops for payout in ledger.chronicle.payouts)),
        "ledgers": ledger.ledger_index - first_ledger,
        "claims_per_second": round(tally.accepted / max(seconds, 0.001), 1),
        "latency_ms": {"p50": percentile_ms(tally.latencies_s, 50), "p99": percentile_ms(tally.latencies_s, 99)},
        "invariants": {name: not found for name, found in findings.items()},
        "ok": (tally.accepted > 0 or seconds < LONG_ENOUGH_S) and not any(findings.values()),
    }


def percentile_ms(latencies_s: array[float], percent: int) -> float | None:
    """The latency that so many percent of messages did not exceed, milliseconds; None where there was none."""
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
    place = max(0, -(-len(ordered) * percent // 100) - 1)
    return round(ordered[place] * 1000, 2)


def show(console: Console, summary: Mapping[str, Any], findings: Mapping[str, Sequence[str]]) -> None:
    """Print the summary as a table that ends with `ok`, or with what did not add up."""
    table = Table(title="channeld demo", title_justify="left", show_header=False)
    for name, value in summary.items():
        if name not in {"invariants", "ok"}:
            table.add_row(name, _text(name, value))
    for name, holds in summary["invariants"].items():
        table.add_row(name, "[green]holds[/]" if holds else "[red]FAILS[/]")
    console.print(table)
    for name, found in findings.items():
        for finding in found:
            console.print(f"{name}: {finding}", style="red", markup=False, highlight=False)
    if summary["accepted"] == 0:
        console.print("no request was accepted", style="red")
    console.print("ok" if summary["ok"] else "NOT ok: it does not add up", style="green" if summary["ok"] else "red")


def _text(name: str, value: Any) -> str:
    if name.startswith("drops_"):
        return f"{value} ({format_xrp(int(value))})"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items()) or "-"
    return str(value)
