"""Requests that are refused unread: acknowledged at once, answered behind what is decided, and bounded for each server.

Replies that the broker does not take in time wait in a line of each server. Once a line is half as long as what is free
for all, its server gets no more but `busy`; once it is as long as that, not even an answer: silence means unknown. To
leave a request with the broker instead would hold up everybody else's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from channeld.adapters.gateway.ports import Message, Outbox
from channeld.core.requests import Code, Refusal
from channeld.wire.unread import refuse_unread

AT_ONCE: Final = 64
"""Requests of one server refused in one turn of the loop, or half of those that wait for it."""
_CLOGGED: Final = Refusal(Code.BUSY, "more replies are due to this server than the broker takes", 1000)


class Refusals:
    """`most` replies may wait for the broker, in all. `say` sends one to a server, whoever is told `refused` counts."""

    def __init__(
        self,
        most: int,
        say: Callable[[Message, str, bytes], object],
        dropped: Callable[[str], None],
        refused: Callable[[str, Refusal], None],
    ) -> None:
        self._most, self._say, self._dropped, self._refused = most, say, dropped, refused
        self._waiting: dict[str, deque[tuple[Message, Refusal]]] = {}

    def __bool__(self) -> bool:
        """Whether some are still to be answered."""
        return bool(self._waiting)

    def clogged(self, server: str, out: Outbox) -> Refusal | None:
        """Why a server is refused whose replies the broker does not take in time: more would stop everybody."""
        queued = out.queued_in(server)
        return _CLOGGED if queued and queued * 2 >= self._most - out.queued_out else None

    def add(self, message: Message, server: str, refusal: Refusal, out: Outbox) -> None:
        """Acknowledge, for nothing of a refusal has to be durable; answer later, if there is room."""
        out.ack(message)
        waiting = self._waiting.get(server)
        due = out.queued_in(server) + (len(waiting) if waiting else 0)
        if due >= self._most - out.queued_out:
            self._dropped("reply_queue_full")
        elif waiting is None:
            self._waiting[server] = deque(((message, refusal),))
        else:
            waiting.append((message, refusal))

    def answer(self) -> None:
        """Of every server some of what waits: half of it, so that it cannot pile up for want of turns."""
        for server, waiting in list(self._waiting.items()):
            for _ in range(min(len(waiting), max(AT_ONCE, len(waiting) // 2))):
                message, refusal = waiting.popleft()
                self._refused(server, refusal)
                self._say(message, server, refuse_unread(message.payload, refusal))
            if not waiting:
                del self._waiting[server]
