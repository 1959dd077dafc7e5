"""What operators may ask a running daemon beside its state: explain, and plan. Nothing here changes anything.

What reads files or decides about everything does so in a thread, one at a time, so that no question holds up a claim,
however many are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from channeld.app.explain import explain
from channeld.app.plan import plan
from channeld.app.present import present
from channeld.core.errors import BadValue, ConfigError, Refused
from channeld.core.policy import Policy
from channeld.settings import check_policy, parse_policy

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

Body = Mapping[str, Any]
_LONGEST: Final = 256
_CANDIDATE: Final = Path("policy")
_MOST_PROBLEMS: Final = 20


class Inquiry:
    """The questions of one daemon's operators."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._turn = asyncio.Lock()
        self._planning = asyncio.Lock()

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

    async def plan(self, body: Body) -> dict[str, Any]:
        """What would be done now and why, why not the rest, and what it would take; with the text of a candidate as
        `policy`, the same under that one, and what differs.

        Raises `Refused` while another plan is made or no ledger was processed, and `BadValue` for a bad candidate.
        """
        text = body.get("policy")
        if text is not None and not isinstance(text, str):
            raise BadValue("policy", "not a text", "the text of a policy file")
        if self._planning.locked():
            raise Refused("another plan is being made: ask again when it is done")
        async with self._planning:
            candidate = None if text is None else await asyncio.to_thread(self._candidate, text)
            return {"source": "daemon", **await plan(self._daemon, candidate)}

    def _candidate(self, text: str) -> Policy:
        try:
            policy = parse_policy(text, _CANDIDATE)
            problems = check_policy(self._daemon.settings, policy, _CANDIDATE)
        except ConfigError as error:
            problems = error.problems
        if problems:
            raise BadValue("policy", "; ".join(problems[:_MOST_PROBLEMS]))
        return policy
