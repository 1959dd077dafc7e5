"""The live display: what is asked for and what becomes of the channels. On a terminal only."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from channeld.core.units import DROPS_PER_XRP, format_xrp
from channeld.sandbox.demo.chronicle import Life
from channeld.sandbox.demo.tally import Tally
from channeld.sandbox.demo.watcher import Watcher

_MOST_CHANNELS: Final = 12


def picture(phase: str, elapsed: float, seconds: float, tally: Tally, watcher: Watcher | None) -> RenderableType:
    """One frame: `elapsed` of `seconds` have gone; without a watcher nothing is to be seen yet."""
    head = Table.grid(padding=(0, 2))
    index = f", ledger {watcher.index}" if watcher else ""
    bar = ProgressBar(total=seconds, completed=elapsed, width=24)
    head.add_row(Text(phase, style="bold"), bar, f"{elapsed:.0f}/{seconds:.0f} s{index}")
    if watcher is None:
        return head
    counts = Text(
        f"{tally.sent} requests: {tally.accepted} accepted, {tally.replayed} replayed, "
        f"{sum(tally.rejected.values())} not yet\n"
        f"{tally.verified} claims verified, {format_xrp(tally.drops)} issued"
    )
    if tally.problems or tally.failures:
        counts.append(f", {len(tally.problems) + len(tally.failures)} PROBLEMS", style="bold red")
    return Group(head, counts, _channels(tally, watcher))


def _channels(tally: Tally, watcher: Watcher) -> Table:
    table = Table("channel", "payee", "state", box=None)
    for column in ("holds XRP", "claimed", "paid", "funded", "settled"):
        table.add_column(column, justify="right")
    lives = list(watcher.chronicle.lives.values())
    for life in lives[-_MOST_CHANNELS:]:
        tag = "" if life.destination_tag is None else f":{life.destination_tag}"
        table.add_row(
            life.channel_id[:8],
            life.destination[:8] + tag,
            _state(life),
            _xrp(0 if life.closed else life.amount - life.paid),
            _xrp(tally.highest.get(life.channel_id, 0)),
            _xrp(life.paid),
            f"{life.funded} x",
            f"{life.payouts} x",
        )
    if len(lives) > _MOST_CHANNELS:
        table.add_row(f"+ {len(lives) - _MOST_CHANNELS}")
    return table


def _xrp(drops: int) -> str:
    """XRP to four places, for a glance."""
    return f"{drops / DROPS_PER_XRP:.4f}"


def _state(life: Life) -> Text:
    if life.closed:
        return Text("closed", style="dim")
    return Text("closing", style="yellow") if life.closing else Text("open", style="green")
