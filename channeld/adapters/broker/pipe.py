"""What both ends of an MQTT connection share: packets cut from what is read, and writes joined in one turn of the loop.

At thousands of small packets a second the system calls are what costs: whatever is written during one turn of the loop
leaves in one `transport.write`. Nagle's algorithm is off, or a lone reply would wait 40 ms for a delayed ACK.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import Final, cast

from channeld.adapters.broker.framing import Framer

_GRACE_S: Final = 2.0
"""How long a peer may take to read the last packet before the connection is dropped, in seconds."""
_WRITE_BUFFER: Final = 1 << 20
"""Bytes that may wait for the socket before `writable` turns false."""


class Pipe(asyncio.Protocol, ABC):
    """`limit` is the largest packet taken, in bytes. Subclasses implement `packets` and `lost`."""

    def __init__(self, limit: int) -> None:
        self.writable = True
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(limit)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._scheduled = False
        self._heard = self._spoke = False

    @abstractmethod
    def packets(self, frames: list[memoryview], fault: str | None) -> None:
        """Take what one read completed. With a `fault` the stream cannot be read any further."""

    @abstractmethod
    def lost(self, exc: Exception | None) -> None:
        """The connection is over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        peer: socket.socket | None = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        frames = self._framer.feed(data)
        fault = self._framer.fault
        if frames or fault is not None:
            self.packets(frames, fault)

    def connection_lost(self, exc: Exception | None) -> None:
        self._out.clear()
        self.lost(exc)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def write(self, frame: bytes) -> None:
        """Send with whatever else this turn of the loop sends."""
        self._out.append(frame)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.send)

    def send(self) -> None:
        """Send now what was written."""
        self._scheduled = False
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._spoke = True
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def close(self) -> None:
        """Send what was written and close; a peer that does not read is dropped after a grace time."""
        self.send()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            self._loop.call_later(_GRACE_S, self.abort)

    def abort(self) -> None:
        """Drop the connection at once, with what a peer that does not read has left in the buffer."""
        if self._transport is not None:
            self._transport.abort()
