"""Several connections over which we publish, and which of them a line takes.

A broker under load reads from every connection in turn (Mosquitto one packet a pass). Over one connection all that we
say would be read as slowly as what a single content server asks, and what is said to one would wait in the socket
behind what is said to a flood. A line keeps its connection while something of it is under way; else it takes the first
with little, or the one with least, of those that stand. So a flood stays where it is, and where all ask little, all
goes over one.

A line with little under way leaves a connection that has become crowded, or it would stay beside a flood for ever, and
any line leaves one that is lost. Some of its replies may then arrive before earlier ones, which servers are told to
expect. What is retained, or wants to be told, keeps its place before all that follows in its line, and so does
everything that is in no line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from channeld.adapters.broker.client import Broker

LITTLE: Final = 32
"""Messages under way on a connection which nobody notices to be before his own."""
CROWDED: Final = 4 * LITTLE
Told = Callable[[bool], None]


class _Lane:
    """The connection of a line, as long as something of the line is under way there; `fixed` is what keeps it there."""

    __slots__ = ("_lanes", "_line", "broker", "fixed", "under_way")

    def __init__(self, broker: Broker, line: str, lanes: dict[str, _Lane]) -> None:
        self.broker, self.under_way, self.fixed = broker, 0, 0
        self._line, self._lanes = line, lanes

    def settled(self, taken: bool) -> None:
        self.under_way -= 1
        if not self.under_way and self._lanes.get(self._line) is self:
            del self._lanes[self._line]

    def in_order(self, told: Told | None) -> Told:
        """For what must not be overtaken by what follows; to be counted in `fixed`."""

        def settled(taken: bool) -> None:
            self.fixed -= 1
            self.settled(taken)
            if told is not None:
                told(taken)

        return settled

    @property
    def beside_a_flood(self) -> bool:
        return self.under_way < LITTLE and _under_way(self.broker) >= CROWDED


class Lanes:
    """`publish`, `flush` and the figures are as those of one `Broker`, for all of `brokers`."""

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self.brokers = tuple(brokers)
        self._lanes: dict[str, _Lane] = {}

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation_data: bytes | None = None,
        told: Told | None = None,
        line: str = "",
    ) -> bool:
        """`Broker.publish` at QoS 1, over the connection of the line."""
        lane = self._lanes.get(line)
        if lane is None:
            lane = _Lane(self._choose(), line, self._lanes)
        elif not lane.fixed and (not lane.broker.connected or lane.beside_a_flood):
            lane = self._elsewhere(lane, line)
        ordered = retain or told is not None or not line
        settled = lane.in_order(told) if ordered else lane.settled
        if not lane.broker.publish(
            topic, payload, retain=retain, correlation_data=correlation_data, told=settled, line=line
        ):
            return False
        lane.under_way += 1
        lane.fixed += ordered
        self._lanes[line] = lane
        return True

    def _choose(self) -> Broker:
        """Of those that stand the first with little under way, or the one with least; the first where none stands."""
        found, least = self.brokers[0], -1
        for broker in self.brokers:
            if broker.connected:
                count = _under_way(broker)
                if count < LITTLE:
                    return broker
                if least < 0 or count < least:
                    found, least = broker, count
        return found

    def _elsewhere(self, lane: _Lane, line: str) -> _Lane:
        """A better place for a line that may leave, or where it is."""
        other = self._choose()
        if other is lane.broker or not other.connected:
            return lane
        if lane.broker.connected and _under_way(other) >= LITTLE:
            return lane
        return _Lane(other, line, self._lanes)

    def send(self) -> None:
        """Send what was published and may leave now, and not with the rest of this turn of the loop."""
        for broker in self.brokers:
            broker.send()

    def queued_in(self, line: str) -> int:
        """What waits in a line, as `queued_out` counts it."""
        lane = self._lanes.get(line)
        return lane.broker.queued_in(line) if lane else 0

    @property
    def queued_out(self) -> int:
        """Messages that wait for the broker's window or for a connection; every 2 KiB count as one more."""
        return sum([broker.queued_out for broker in self.brokers])

    @property
    def in_flight_out(self) -> int:
        """Messages sent whose PUBACK is due."""
        return sum(broker.in_flight_out for broker in self.brokers)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has settled all that was published. False: some was not within `timeout_s`."""
        return all(await asyncio.gather(*(broker.flush(timeout_s) for broker in self.brokers)))

    async def stop(self, flush_timeout_s: float) -> bool:
        """Flush, leave, and wait for `run` to return. False: something was not settled."""
        return all(await asyncio.gather(*(broker.stop(flush_timeout_s) for broker in self.brokers)))


def _under_way(broker: Broker) -> int:
    return broker.queued_out + broker.in_flight_out
