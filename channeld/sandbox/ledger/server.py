"""The node on a WebSocket port: connections, the close timer, and the faults that concern the wire.

One task per connection reads and answers requests in order. Messages go through a bounded queue with its own writer
task; a reader that lets it fill up is cut off with 1008, as rippled does.

Sources: rippled BaseWSPeer.h (send_queue_limit 100), ServerHandler.cpp (2.3.0).
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import itertools
import json
import logging
import time
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from channeld.sandbox.ledger import persist
from channeld.sandbox.ledger.api import envelope
from channeld.sandbox.ledger.api.call import Call
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.faults import FOREVER, BadFault, Faults
from channeld.sandbox.ledger.node import Node
from channeld.sandbox.ledger.streams import Streams

_MAX_REQUEST: Final = 1_000_000
_SEND_QUEUE: Final = 10_000
"""Messages a slow reader may have waiting. rippled's default is 100; tests on one machine get more patience."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_SAVE_EVERY_S: Final = 1.0
_SAVE_SHARE: Final = 10
log = logging.getLogger(__name__)


class Connection:
    """One client."""

    def __init__(self, server: LedgerServer, socket: ServerConnection) -> None:
        self.server, self.socket = server, socket
        self._outbox: asyncio.Queue[str] = asyncio.Queue(_SEND_QUEUE)
        peer = socket.remote_address
        self.is_admin = bool(peer) and peer[0] in _LOOPBACK

    def publish(self, message_type: str, text: str) -> None:
        """Send a stream message, with the stream faults that are in force."""
        order = self.server.faults.take_stream(message_type)
        if order is None:
            self.send(text)
        elif order.mode == "repeat":
            self.send(text)
            self.send(text)
        elif order.mode == "delay":
            asyncio.get_running_loop().call_later(order.delay_s, self.send, text)

    def send(self, text: str) -> None:
        """Put a message in line; a client that does not read is cut off."""
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            self.server.spawn(self.socket.close(1008, "Policy error: client is too slow."))

    async def run(self) -> None:
        """Serve until the client goes."""
        writer = asyncio.create_task(self._write())
        try:
            async for text in self.socket:
                await self._handle(text)
                await asyncio.sleep(0)  # a burst of requests must not keep the others waiting
        except ConnectionClosed:
            pass
        finally:
            writer.cancel()

    async def _write(self) -> None:
        try:
            while True:
                await self.socket.send(await self._outbox.get())
        except ConnectionClosed:
            return

    async def _handle(self, text: str | bytes) -> None:
        request = envelope.parse(text)
        if request is None:
            return self.send(json.dumps(envelope.not_json(text)))
        answer = json.dumps(envelope.answer(request, lambda version: self._call(request, version)))
        command, faults = envelope.command_of(request), self.server.faults
        order = faults.take("submit_answer") if command == "submit" else None
        if order is not None:
            if order.mode == "delay":
                asyncio.get_running_loop().call_later(order.delay_s, self.send, answer)
        elif command != "fault" and faults.active("freeze_answers"):
            self.server.spawn(self._send_thawed(answer))
        else:
            self.send(answer)
        return None

    async def _send_thawed(self, answer: str) -> None:
        await self.server.until_over("freeze_answers")
        self.send(answer)

    def _call(self, request: dict[str, Any], version: int) -> Call:
        server = self.server
        return Call(server.node, server, self, request, version, self.is_admin)

    def cut(self) -> None:
        """Drop the connection without a close frame."""
        self.socket.transport.abort()


class LedgerServer:
    """Listens, closes ledgers on a timer, saves the state.

    With `beside` it is another door to the ledger that one serves, with faults of its own: a second node on the same
    state. Only the first door closes ledgers by itself and saves.
    """

    def __init__(
        self,
        node: Node,
        host: str,
        port: int,
        close_interval_s: float | None,
        state_file: Path | None,
        *,
        beside: LedgerServer | None = None,
    ) -> None:
        self.node, self.streams = node, Streams()
        self.doors: list[LedgerServer] = [] if beside is None else beside.doors
        self.doors.append(self)
        self.faults = node.faults if beside is None else Faults()
        self.host, self.port = host, port
        self._interval, self._state_file = close_interval_s, state_file
        self._connections: dict[Connection, None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = time.monotonic()
        self._wake = asyncio.Event()
        self._save = asyncio.Event()
        self._dirty = True
        self._server: Server | None = None
        node.on_proposed = self._proposed

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}"

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    async def start(self) -> None:
        """Listen; port 0 takes a free one, to be read from `port` afterwards."""
        self._server = await serve(
            self._serve,
            self.host,
            self.port,
            max_size=_MAX_REQUEST,
            max_queue=64,
            process_request=self._admit,
            compression=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        if self._interval is not None:
            self.spawn(self._close_regularly(self._interval))
        if self._state_file is not None:
            self.spawn(self._save_regularly(self._state_file))

    async def stop(self) -> None:
        """Stop listening and write the state."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._state_file is not None:
            persist.save(self.node, self._state_file)

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the others, until the server stops."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _admit(self, _socket: ServerConnection, _request: Request) -> Response | None:
        if self.faults.active("refuse_connections"):
            return _socket.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "connections are refused\n")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        connection = Connection(self, socket)
        self._connections[connection] = None
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self.streams.drop(connection)

    def close_ledger(self) -> None:
        """Close the open ledger and tell the subscribers at every door."""
        closed = self.node.close()
        validated = f"{self.node.first_index}-{closed.header.index}"
        for door in self.doors:
            door._dirty = True
            door.streams.closed(closed.header, closed.records, self.node.settings.fees, validated)

    def _proposed(self, tx: Transaction, result: str, open_index: int) -> None:
        for door in self.doors:
            door.streams.proposed(tx, result, open_index)

    async def _close_regularly(self, interval_s: float) -> None:
        """Close ledgers at a steady pace; a stall holds the pace up and does not catch up afterwards."""
        due = time.monotonic() + interval_s
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.until_over("stall")
            self.close_ledger()
            due = max(due + interval_s, time.monotonic())

    async def until_over(self, kind: str) -> None:
        """Wait until a timed fault is no longer in force: of the ledger for a stall, else of this door."""
        faults = self.node.faults if kind == "stall" else self.faults
        while faults.active(kind):
            left = faults.until[kind] - time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if left == FOREVER else max(left, 0.0))

    def wake(self) -> None:
        """Let all who wait for a fault to end look again at what is in force."""
        for door in self.doors:
            door._wake.set()
            door._wake = asyncio.Event()

    def disconnect(self, but: object, count: Any, after_ms: Any) -> None:
        """Cut other connections than `but`, newest first. Raises `BadFault` for numbers that make no sense."""
        others = [connection for connection in reversed(self._connections) if connection is not but]
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise BadFault("count: a whole number, 1 or more")
        if isinstance(after_ms, bool) or not isinstance(after_ms, int | float) or after_ms < 0:
            raise BadFault("after_ms: a number of milliseconds")
        for connection in itertools.islice(others, count):
            if after_ms:
                asyncio.get_running_loop().call_later(after_ms / 1000, connection.cut)
            else:
                connection.cut()

    def save_soon(self) -> bool:
        """Write the state file without waiting for its turn. False if there is none."""
        self._dirty = True
        self._save.set()
        return self._state_file is not None

    async def _save_regularly(self, path: Path) -> None:
        """At most a tenth of the time goes into saving, however large the state."""
        wait = _SAVE_EVERY_S
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._save.wait(), wait)
            self._save.clear()
            if self._dirty:
                self._dirty = False
                began = time.monotonic()
                await persist.save_gently(self.node, path)
                wait = max(_SAVE_EVERY_S, _SAVE_SHARE * (time.monotonic() - began))
