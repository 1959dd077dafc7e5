"""Several connections over which we publish, and which of them a line takes.

A broker under load reads from every connection in turn (Mosquitto one packet a pass). Over one connection all that we
say would be read as slowly as what a single content server asks, and what is said to one would wait in the socket
behind what is said to a flood. A line keeps its connection while something of it is under way, so its order stays;
else it takes the one where least is. So a flood stays where it is, and whoever asks little goes where it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from channeld.adapters.broker.client import Broker

Told = Callable[[bool], None]


class _Lane:
    """The connection of a line, as long as something of the line is under way there."""

    __slots__ = ("_lanes", "_line", "broker", "under_way")

    def __init__(self, broker: Broker, line: str, lanes: dict[str, _Lane]) -> None:
        self.broker, self.under_way = broker, 0
        self._line, self._lanes = line, lanes

    def settled(self, taken: bool) -> None:
        self.under_way -= 1
        if not self.under_way:
            del self._lanes[self._line]


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
            lane = _Lane(min(self.brokers, key=_under_way), line, self._lanes)
        settled = lane.settled if told is None else _both(lane.settled, told)
        if not lane.broker.publish(
            topic, payload, retain=retain, correlation_data=correlation_data, told=settled, line=line
        ):
            return False
        lane.under_way += 1
        self._lanes[line] = lane
        return True

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

    @property
    def connected(self) -> bool:
        """Whether all stand."""
        return all(broker.connected for broker in self.brokers)

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed, or the last connection ended, of the first of them that has something to say."""
        return next((broker.last_error for broker in self.brokers if broker.last_error), None)

    async def run(self) -> None:
        """All of them, until `stop`."""
        await asyncio.gather(*(broker.run() for broker in self.brokers))

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has settled all that was published. False: some was not within `timeout_s`."""
        return all(await asyncio.gather(*(broker.flush(timeout_s) for broker in self.brokers)))

    async def stop(self, flush_timeout_s: float) -> bool:
        """Flush, leave, and wait for `run` to return. False: something was not settled."""
        return all(await asyncio.gather(*(broker.stop(flush_timeout_s) for broker in self.brokers)))


def _under_way(broker: Broker) -> int:
    return broker.queued_out + broker.in_flight_out


def _both(first: Told, second: Told) -> Told:
    def told(taken: bool) -> None:
        first(taken)
        second(taken)

    return told
