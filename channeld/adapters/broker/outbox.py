"""What is on its way to the broker at QoS 1: packet identifiers, the broker's window, what waits behind it. Pure.

A message gets its packet identifier and its bytes when it is published; only the window decides when they leave. So a
reconnect is no special case: what was sent and not settled goes back to the head of the queue.

What a broker cannot take in time piles up in the socket, where nothing can overtake it. So no more than `AHEAD` is
under way. The rest waits here in lines, one for each server, and leaves in turn: whoever gets few replies does not
wait behind those of a flood.

Sources: OASIS MQTT 5.0 sections 2.2.1 (packet identifiers), 3.3.1.1 (DUP), 4.4 (redelivery), 4.6 (order), 4.9 (window).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import mqtt5

from channeld.core.errors import BadValue
from channeld.core.turns import Turns

SUBSCRIBE_ID: Final = 65_535
"""Kept out of the free list: SUBSCRIBE has its own packet identifier, used once in a connection."""
MAX_ID: Final = SUBSCRIBE_ID - 1
RESTING: Final = 256
"""Packet identifiers that were used and are not yet again, where there are fresh ones."""
ALONE: Final = 3
"""Connections in a row that settled nothing, after which the oldest message is sent alone."""
GIVE_UP: Final = 6
"""And after which it is given up."""
AHEAD: Final = 512
"""Messages sent at most before the broker has settled the first of them, whatever its window is."""
AHEAD_BYTES: Final = 1 << 19
"""And bytes, or one message."""
QUANTUM: Final = 4
"""Messages that a line may send in its turn; a large one counts for more."""
_LARGE_BITS: Final = 11
"""Every 2 KiB of a message counts as one more, which bounds the bytes that wait."""
DUP: Final = 0x08
RETAIN: Final = 0x01


_Message = tuple[int, bytes]
"""A packet identifier, and the packet."""


def _cost(message: _Message) -> int:
    return 1 + (len(message[1]) >> _LARGE_BITS)


class PacketIds:
    """Packet identifiers that nobody uses, few of all there are: those in use, and some more that rest.

    A broker that settles a message twice would settle the next one with its identifier, so one that was used rests
    until `RESTING` others do.
    """

    __slots__ = ("_freed", "_fresh")

    def __init__(self) -> None:
        self._fresh, self._freed = 1, deque[int]()

    def __bool__(self) -> bool:
        return self._fresh <= MAX_ID or bool(self._freed)

    def take(self) -> int:
        """One of 1..65534. Raises `IndexError` where there is none."""
        if len(self._freed) >= RESTING or self._fresh > MAX_ID:
            return self._freed.popleft()
        self._fresh += 1
        return self._fresh - 1

    def free(self, packet_ids: Iterable[int]) -> None:
        """They are used no more."""
        self._freed.extend(packet_ids)


class Outbox:
    """`limit`: messages that may wait, as `_cost` counts them; `window`: messages that may be unsettled, the broker's
    Receive Maximum.
    """

    __slots__ = (
        "_bytes",
        "_ids",
        "_progress",
        "_queue",
        "_strikes",
        "_terms",
        "_told",
        "_unsettled",
        "limit",
        "retain_available",
        "window",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.window = self._terms = AHEAD
        self._progress, self._strikes = True, 0
        self.retain_available = True
        self._ids = PacketIds()
        self._queue: Turns[_Message] = Turns(QUANTUM, _cost)
        self._unsettled: dict[int, bytes] = {}
        self._bytes = 0
        self._told: dict[int, Callable[[bool], None]] = {}

    @property
    def queued(self) -> int:
        """Messages that wait for the window or for a connection; a large one counts for more."""
        return self._queue.cost

    def queued_in(self, line: str) -> int:
        """Those of one line."""
        return self._queue.cost_of(line)

    @property
    def in_flight(self) -> int:
        """Messages sent and not yet settled by the broker."""
        return len(self._unsettled)

    @property
    def full(self) -> bool:
        return self._queue.cost >= self.limit or not self._ids

    @property
    def has_window(self) -> bool:
        """Whether a message may leave now without overtaking one that waits."""
        return not self._queue.cost and self._open

    @property
    def _open(self) -> bool:
        return len(self._unsettled) < self.window and self._bytes < AHEAD_BYTES

    def take_id(self) -> int:
        """A packet identifier nobody uses, 1..65534. Check `full` first."""
        return self._ids.take()

    def free_id(self, packet_id: int) -> None:
        self._ids.free((packet_id,))

    def tell(self, packet_id: int, told: Callable[[bool], None]) -> None:
        """Call `told` once when a message is settled: true if the broker has it, false if it will never have it."""
        self._told[packet_id] = told

    def _tell(self, packet_ids: Iterable[int], taken: bool) -> None:
        for packet_id in packet_ids:
            if (told := self._told.pop(packet_id, None)) is not None:
                told(taken)

    def wait(self, packet_id: int, frame: bytes, line: str = "") -> None:
        """Put a message behind those that wait in its line."""
        self._queue.add(line, (packet_id, frame))

    def sent(self, packet_id: int, frame: bytes) -> bytes:
        """Remember a message as sent and return its bytes as this broker may have them."""
        self._unsettled[packet_id] = frame
        self._bytes += len(frame)
        if frame[0] & RETAIN and not self.retain_available:
            return bytes((frame[0] & ~RETAIN,)) + frame[1:]
        return frame

    def release(self, write: Callable[[bytes], None]) -> None:
        """Hand `write` what the window lets out now, of each line in its order."""
        queue, unsettled, sent = self._queue, self._unsettled, self.sent
        while queue.cost and len(unsettled) < self.window and self._bytes < AHEAD_BYTES:
            write(sent(*queue.take()))

    def settle(self, packet_id: int, *, refused: bool = False) -> bool:
        """The broker has answered. False: it was not under way, the broker answered something that nobody sent."""
        if (frame := self._unsettled.pop(packet_id, None)) is None:
            return False
        self._bytes -= len(frame)
        if (told := self._told.pop(packet_id, None)) is not None:
            told(not refused)
        self._ids.free((packet_id,))
        self._progress = True
        self.window = self._terms
        return True

    def reconnected(self, session_present: bool, window: int, retain_available: bool) -> int:
        """Put what was not settled back to the head of the queue; returns how many messages were given up.

        The order stays. Where the broker has kept the session it is marked as a duplicate; else all is sent as new.

        A broker may hang up on a message instead of refusing it, and would again after every reconnect. So after
        `ALONE` connections that settled nothing the oldest message goes first and alone, and if connections still end
        on it, it is given up after `GIVE_UP`: one message rather than all that follow.
        """
        stuck = bool(self._unsettled) and not self._progress
        self._strikes = self._strikes + 1 if stuck else 0
        again = [(pid, _marked(frame, DUP if session_present else 0)) for pid, frame in self._unsettled.items()]
        self._unsettled.clear()
        self._bytes = 0
        given_up = again[: 1 if self._strikes >= GIVE_UP else 0]
        self._ids.free(pid for pid, _ in given_up)
        if given_up:
            self._strikes = 0
            self._tell([pid for pid, _ in given_up], False)
        if not session_present:
            self._queue.change(lambda message: (message[0], _marked(message[1], 0)))
        self._queue.put_back(again[len(given_up) :])
        self.retain_available, self._terms, self._progress = retain_available, min(window, AHEAD), False
        self.window = 1 if self._strikes >= ALONE else self._terms
        return len(given_up)

    def drop_above(self, size: int) -> int:
        """Forget what waits and exceeds `size` bytes, for the broker would not take it; returns how many those were."""
        dropped: list[int] = []

        def fits(message: _Message) -> _Message | None:
            if len(message[1]) <= size:
                return message
            dropped.append(message[0])
            return None

        self._queue.change(fits)
        self._ids.free(dropped)
        self._tell(dropped, False)
        return len(dropped)


def _marked(frame: bytes, mark: int) -> bytes:
    return bytes((frame[0] & ~DUP | mark,)) + frame[1:]


def encode(
    topic: str,
    payload: bytes,
    *,
    packet_id: int,
    retain: bool,
    correlation_data: bytes | None,
    limit: int,
) -> bytes:
    """A PUBLISH of at most `limit` bytes, at QoS 1. Raises `BadValue`."""
    if not topic or "\0" in topic:
        raise BadValue("topic", "empty or with a NUL", "a topic name")
    if len(payload) > limit:  # before the engine sees it: at 2^28 bytes it panics
        raise BadValue("payload", "larger than the broker takes", f"a packet of at most {limit} bytes")
    try:
        frame = mqtt5.PublishPacket(
            topic,
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=retain,
            packet_id=packet_id,
            correlation_data=correlation_data,
        ).write()
    except (ValueError, OverflowError) as error:
        raise BadValue("topic", f"cannot be published: {error}") from None
    if len(frame) > limit:
        raise BadValue("payload", "larger than the broker takes", f"a packet of at most {limit} bytes")
    return frame
