"""What operators may ask a running daemon beside its state: explain. Nothing here changes anything.

What reads files does so in a thread, one at a time, so that no question holds up a claim, however many are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from channeld.app.explain import explain
from channeld.app.present import present
from channeld.core.errors import BadValue

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

Body = Mapping[str, Any]
_LONGEST: Final = 256


class Inquiry:
    """The questions of one daemon's operators."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._turn = asyncio.Lock()

    async def explain(self, query: Body) -> dict[str, Any]:
        """`what`, and `at` in Unix seconds or not. Raises `BadValue`, and `Refused` for what nothing is known of."""
        what, at = str(query.get("what", "")), query.get("at")
        if not 1 <= len(what) <= _LONGEST:
            raise BadValue("what", "missing", "a channel id or its beginning, a payee, or a request as SERVER/ID")
        if at is not None and not (isinstance(at, str) and at.isascii() and at.isdigit() and len(at) <= 11):
            raise BadValue("at", "not a moment", "Unix seconds")
        moment = None if at is None else int(at)
        async with self._turn:
            answer = await asyncio.to_thread(explain, self._daemon.settings, what, moment)
        now = present(self._daemon, answer) if moment is None else None
        behind = self._daemon.annals.chronicle.waiting
        return {"source": "daemon", **answer, **({"now": now} if now else {}), "not_written_yet": behind}
