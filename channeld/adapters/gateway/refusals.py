"""Requests that are refused unread: answered behind what is decided, and then acknowledged.

Replies that the broker does not take in time wait in a line of each server. Once a line is half as long as what is free
for all, its server gets no more but `busy`, which is short. Every refusal is said, as soon as there is room for it:
whoever takes the messages has to stop in time (see `due`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from channeld.adapters.gateway.ports import Message, Outbox, around
from channeld.core.requests import Code, Refusal
from channeld.wire.unread import refuse_unread

AT_ONCE: Final = 128
"""Requests refused in one turn of the loop: as many as the broker takes replies of one server."""
BYTES_AT_ONCE: Final = 1 << 18
"""Or as many of one server as make so long replies: those to batches take a millisecond each."""
_CLOGGED: Final = Refusal(Code.BUSY, "more replies are due to this server than the broker takes", 1000)


class Refusals:
    """`most` replies may wait for the broker, in all. `say` queues one to a server, or returns False if there is no
    room; `refused` is told how many of a server were refused, and by which code.
    """

    def __init__(
        self,
        most: int,
        say: Callable[[Message, str, bytes], bool],
        refused: Callable[[str, Code, int], None],
    ) -> None:
        self._most, self._say, self._refused = most, say, refused
        self._waiting: dict[str, deque[tuple[Message, Refusal, int]]] = {}
        self.due = 0
        """Requests still to be answered; every 2 KiB of one count as one more, as in the broker's queue."""

    def clogged(self, server: str, out: Outbox) -> Refusal | None:
        """Why a server is refused whose replies the broker does not take in time: more would stop everybody."""
        queued = out.queued_in(server)
        return _CLOGGED if queued and queued * 2 >= self._most - out.queued_out else None

    def add(self, message: Message, server: str, refusal: Refusal) -> None:
        """Answer it later."""
        weight = _size(len(message.payload) + around(message))
        self.due += weight
        waiting = self._waiting.get(server)
        if waiting is None:
            self._waiting[server] = deque(((message, refusal, weight),))
        else:
            waiting.append((message, refusal, weight))

    def answer(self, out: Outbox) -> None:
        """An equal part of every server's, as far as there is room.

        Refusals may fill half of the room, the rest is for what is decided.
        """
        room = self._most // 2 - out.queued_out
        each = AT_ONCE // max(1, len(self._waiting)) + 1
        for server, waiting in list(self._waiting.items()):
            counts, made = dict[Code, int](), 0
            for _ in range(min(len(waiting), each)):
                if made >= BYTES_AT_ONCE or room <= 0:
                    break
                message, refusal, weight = waiting[0]
                reply = refuse_unread(message.payload, refusal)
                if not self._say(message, server, reply):
                    break
                made += len(reply)
                waiting.popleft()
                out.ack(message)
                self.due -= weight
                room -= _size(len(reply) + len(message.correlation_data or b""))
                counts[refusal.code] = counts.get(refusal.code, 0) + 1
            for code, count in counts.items():
                self._refused(server, code, count)
            if counts or not waiting:
                del self._waiting[server]
            if waiting:
                self._waiting[server] = waiting  # who was answered stands behind who was not


def _size(length: int) -> int:
    """What so many bytes count for while they wait."""
    return 1 + (length >> 11)
