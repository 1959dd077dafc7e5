"""Whose answer is it? What the daemon says is read, compared with what was asked, and put where its call waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from channeld.client.checks import Asked
from channeld.client.errors import ClientError, Lie, MalformedAnswer, WrongId
from channeld.core.errors import Malformed
from channeld.wire.answers import Accepted, Rejected, read_answers

_ANSWERS_KEPT: Final = 16

Said = Accepted | Rejected | ClientError


@dataclass(slots=True)
class Waiting:
    """A call that waits for answers to its request."""

    asked: Asked
    answers: asyncio.Queue[Said] = field(default_factory=lambda: asyncio.Queue(_ANSWERS_KEPT))

    def offer(self, said: Said) -> None:
        """Put an answer where its call finds it; beyond 16 unread ones of one id more say nothing new."""
        with contextlib.suppress(asyncio.QueueFull):
            self.answers.put_nowait(said)


class Mailbox:
    """The calls that wait, by the id of their request. `strayed` takes what was accepted and nobody waits for."""

    def __init__(self, strayed: Callable[[Accepted], None]) -> None:
        self.waiting: dict[str, Waiting] = {}
        self._strayed = strayed

    def take(self, ids: tuple[str, ...] | None, payload: bytes) -> None:
        """Hand an answer to whoever waits for it. `ids` are the requests that it replies to, where that is known."""
        try:
            said, is_batch = read_answers(payload)
        except Malformed as error:
            self._tell(ids or (), MalformedAnswer(str(error)))
            return
        if ids is None:
            for one in said:
                if not isinstance(one, Malformed):
                    self._give(one.id, one)
        elif not is_batch and len(ids) > 1 and isinstance(said[0], Rejected) and said[0].id is None:
            self._tell(ids, said[0])
        elif is_batch != (len(ids) > 1) or len(said) != len(ids):
            self._tell(ids, MalformedAnswer(f"{len(said)} answers came to {len(ids)} requests"))
        else:
            for request_id, one in zip(ids, said, strict=True):
                self._give(request_id, _in_reply_to(request_id, one))

    def _tell(self, ids: Sequence[str], said: Rejected | Lie) -> None:
        for request_id in ids:
            self._give(request_id, said)

    def _give(self, request_id: str | None, said: Accepted | Rejected | Lie) -> None:
        waiting = self.waiting.get(request_id or "")
        if waiting is not None:
            waiting.offer(said)
        elif isinstance(said, Accepted):
            self._strayed(said)


def _in_reply_to(request_id: str, said: Accepted | Rejected | Malformed) -> Accepted | Rejected | Lie:
    """An answer, or the lie that it is where it is none, or one to another request."""
    if isinstance(said, Malformed):
        return MalformedAnswer(str(said))
    if said.id == request_id or (isinstance(said, Rejected) and said.id is None):
        return said
    return WrongId(f"an answer for {said.id!r} came in reply to {request_id!r}")
