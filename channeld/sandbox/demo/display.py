"""The live display: what is asked for and what becomes of the channels. On a terminal only."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from channeld.core.units import format_xrp
from channeld.sandbox.demo.chronicle import Life
from channeld.sandbox.demo.tally import Tally
from channeld.sandbox.demo.watcher import Watcher

_MOST_CHANNELS: Final = 12


def picture(phase: str, elapsed: float, seconds: float, tally: Tally, watcher: Watcher) -> RenderableType:
    """One frame: `elapsed` of `seconds` have gone."""
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(phase, style="bold"),
        ProgressBar(total=seconds, completed=min(elapsed, seconds), width=30),
        f"{min(elapsed, seconds):.0f}/{seconds:.0f} s, ledger {watcher.index}",
    )
    counts = Text(
        f"asked {tally.sent}, accepted {tally.accepted}, replayed {tally.replayed}, "
        f"not yet {sum(tally.rejected.values())}, verified {tally.verified}, issued {format_xrp(tally.drops)}"
    )
    problems = Text(f"{len(tally.problems) + len(tally.failures)} problems", style="red")
    parts: list[RenderableType] = [head, counts, _channels(tally, watcher)]
    return Group(*parts, problems) if tally.problems or tally.failures else Group(*parts)


def _channels(tally: Tally, watcher: Watcher) -> Table:
    table = Table("channel", "payee", "state", "holds", "claimed", "paid", "funded", "settled", box=None)
    lives = list(watcher.chronicle.lives.values())
    for life in lives[-_MOST_CHANNELS:]:
        payee = life.destination if life.destination_tag is None else f"{life.destination}:{life.destination_tag}"
        claimed = tally.highest.get(life.channel_id, 0)
        table.add_row(
            life.channel_id[:8],
            payee,
            _state(life),
            "-" if life.closed else format_xrp(life.amount - life.paid),
            format_xrp(claimed),
            format_xrp(life.paid),
            f"{life.funded} x",
            f"{life.payouts} x",
        )
    if len(lives) > _MOST_CHANNELS:
        table.add_row(f"and {len(lives) - _MOST_CHANNELS} earlier ones")
    return table


def _state(life: Life) -> Text:
    if life.closed:
        return Text("closed", style="dim")
    return Text("closing", style="yellow") if life.closing else Text("open", style="green")
