"""The demo: ledger, broker, daemon and paying content servers on this machine, and at the end whether it adds up.

`cast` says who plays and under which policy, `theatre` starts the processes, `server` asks (through `post`, checked by
`verifier`, counted in `tally`), `play` leads through it. `tally`, `books` (the daemon's store) and `chronicle` (the
ledger) are three witnesses who do not know each other; `accounting` hears them, `summary` tells the outcome.
"""

from __future__ import annotations

import asyncio
import json as json_text
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from channeld.sandbox.demo.play import play
from channeld.sandbox.demo.summary import show

__all__ = ["run"]

EXIT_NO = 1


def run(*, seconds: float, servers: int, rate: float, json: bool) -> int:
    """Run the demo and print its summary; 0 if everything adds up, else 1, and then the directory is kept.

    With `json` nothing but one JSON object goes to stdout. Where stdout is no terminal that is so, too, and the table
    goes to stderr.
    """
    aside = Console(stderr=True)
    directory = Path(tempfile.mkdtemp(prefix="channeld-demo-"))
    try:
        summary, findings = asyncio.run(play(seconds, servers, rate, aside).run(directory))
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
        for reason in _reasons(error):
            aside.print(f"the demo did not get to its end: {reason!r}", style="red", markup=False)
        aside.print(f"logs are in {directory}", markup=False)
        return EXIT_NO
    as_json = json or not sys.stdout.isatty()
    if as_json:
        print(json_text.dumps(summary), flush=True)
    if not json or not summary["ok"]:
        show(aside if as_json else Console(), summary, findings)
    if not summary["ok"]:
        aside.print(f"logs, store and configs are in {directory}", markup=False)
        return EXIT_NO
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _reasons(error: BaseException) -> list[BaseException]:
    """What really happened: an error of a group of tasks is the errors of its tasks."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [reason for part in error.exceptions for reason in _reasons(part)]
