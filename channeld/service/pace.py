"""Working off what can wait, a slice at a time, beside what cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from channeld.service.agenda import Agenda, T

_LEAST_REST_S: Final = 0.001
_ROUNDS_REST: Final = 9
"""What only the clock brought up, in thousands, takes at most a tenth of the time."""


async def work_off(
    agenda: Agenda[T], wake: asyncio.Event, step: Callable[[], bool], monotonic: Callable[[], float]
) -> None:
    """Take a `step` after the other while it says that more waits, at most half of the time; then until `wake`.

    Until cancelled; raises what a step raises.
    """
    while True:
        await wake.wait()
        wake.clear()
        more = True
        while more:
            began, rests = monotonic(), _ROUNDS_REST if agenda.rounds_only else 1
            more = step()
            await asyncio.sleep(max(_LEAST_REST_S, rests * (monotonic() - began)))
