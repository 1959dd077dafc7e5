"""What is known of a channel: from a ledger node of our own choice, else from the daemon's retained states.

Only the node makes a client independent of the daemon: a retained state is the daemon's own word.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any, Final

from channeld.client.checks import Known
from channeld.client.errors import LedgerUnreachable, WrongNetwork
from channeld.core.channel import Channel
from channeld.core.errors import BadValue, Malformed
from channeld.core.units import ChannelId, LedgerIndex, parse_channel_id, to_ripple
from channeld.wire.answers import ChannelState, read_channel_state

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_FRESH_S: Final = 5.0
"""A channel is read again after this, so that a close request is seen well within any settle delay."""
_ANSWER_S: Final = 5.0
_MOST_KEPT: Final = 100_000


class RetainedStates:
    """Channels as the daemon publishes them. `known` gives None for a channel of which nothing is published."""

    def __init__(self) -> None:
        self._states: dict[str, ChannelState] = {}
        self.skipped = 0

    def take(self, channel_id: str, payload: bytes) -> None:
        """A retained message came; an empty one says that the channel is gone. What cannot be read is counted."""
        try:
            name = parse_channel_id(channel_id, "channel_id")
            if not payload:
                self._states.pop(name, None)
                return
            state = read_channel_state(payload)
        except (BadValue, Malformed):
            self.skipped += 1
            return
        if state.channel.channel_id == name and (name in self._states or len(self._states) < _MOST_KEPT):
            self._states[name] = state

    def known(self, channel_id: ChannelId) -> Known | None:
        """What is published of the channel."""
        found = self._states.get(channel_id)
        if found is None:
            return None
        channel = None if found.state in ("opening", "closed") else found.channel
        return Known(channel, found.state == "closing", to_ripple(time.time()))


class LedgerNode:
    """One node over WebSocket: channels of the last validated ledger. Connects when first asked, and again when lost.

    Raises `LedgerUnreachable` where it does not answer in 5 s, `WrongNetwork` where it is on another network.
    """

    def __init__(self, url: str, network_id: int) -> None:
        self.url, self._network_id = url, network_id
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._read: dict[str, tuple[float, Channel | None]] = {}
        self._reading: dict[str, asyncio.Task[Channel | None]] = {}

    async def known(self, channel_id: ChannelId, amount: int) -> Known:
        """The channel, read again where what was read is older than 5 s or below `amount`."""
        read_at, channel = self._read.get(channel_id, (-_FRESH_S, None))
        if channel is None or channel.amount < amount or time.monotonic() - read_at > _FRESH_S:
            channel = await self._read_once(channel_id)
        return Known(channel, False, to_ripple(time.time()))

    async def _read_once(self, channel_id: ChannelId) -> Channel | None:
        """Read a channel; who asks for it while it is being read gets the same answer."""
        task = self._reading.get(channel_id)
        if task is None:
            task = self._reading[channel_id] = asyncio.create_task(self._fetch(channel_id))
            task.add_done_callback(lambda _: self._reading.pop(channel_id, None))
        return await asyncio.shield(task)

    async def _fetch(self, channel_id: ChannelId) -> Channel | None:
        from channeld.wire.ledger import ledger_channel

        at = time.monotonic()
        answer = await self.ask("ledger_entry", payment_channel=channel_id, ledger_index="validated")
        channel: Channel | None = None
        if answer.get("error") not in ("entryNotFound", None):
            raise LedgerUnreachable(f"{self.url} answers {str(answer.get('error'))[:80]}")
        result = answer.get("result")
        if "error" not in answer:
            if not isinstance(result, dict) or result.get("validated") is not True:
                raise LedgerUnreachable(f"{self.url} has no validated ledger")
            try:
                channel = ledger_channel(channel_id, result["node"], LedgerIndex(int(result["ledger_index"])))
            except (Malformed, KeyError, TypeError, ValueError) as error:
                raise LedgerUnreachable(f"{self.url} answers what is no channel: {error}") from None
        if len(self._read) >= _MOST_KEPT:
            self._read.clear()
        self._read[channel_id] = (at, channel)
        return channel

    async def ask(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Ask the node; its whole answer, an error included."""
        from websockets.exceptions import WebSocketException

        number = next(self._numbers)
        done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_S):
                socket = await self._connected()
                self._waiting[number] = done
                await socket.send(json.dumps({"id": number, "api_version": 2, "command": command, **parameters}))
                return await done
        except (OSError, WebSocketException, TimeoutError) as error:
            raise LedgerUnreachable(f"{self.url} does not answer {command}: {error or 'no answer in 5 s'}") from None
        finally:
            self._waiting.pop(number, None)

    async def _connected(self) -> ClientConnection:
        from websockets.asyncio.client import connect

        async with self._connecting:
            if self._socket is None or self._reader is None or self._reader.done():
                await self._drop()
                socket = await connect(self.url, open_timeout=_ANSWER_S, max_size=1 << 22)
                self._reader = asyncio.create_task(self._listen(socket))
                try:
                    await self._check_network(socket)
                except BaseException:
                    await socket.close()
                    raise
                self._socket = socket
            return self._socket

    async def _check_network(self, socket: ClientConnection) -> None:
        number = next(self._numbers)
        done = self._waiting[number] = asyncio.get_running_loop().create_future()
        await socket.send(json.dumps({"id": number, "api_version": 2, "command": "server_info"}))
        info = ((await done).get("result") or {}).get("info") or {}
        if (found := info.get("network_id") or 0) != self._network_id:
            raise WrongNetwork(f"{self.url} is of network {found}, expected is {self._network_id}")

    async def _listen(self, socket: ClientConnection) -> None:
        from websockets.exceptions import WebSocketException

        try:
            async for frame in socket:
                with contextlib.suppress(ValueError, RecursionError):
                    answer = json.loads(frame)
                    number = answer.get("id") if isinstance(answer, dict) else None
                    done = self._waiting.pop(number, None) if isinstance(number, int) else None
                    if done is not None and not done.done():
                        done.set_result(answer)
        except (WebSocketException, OSError):
            pass
        lost = LedgerUnreachable(f"{self.url} closed the connection")
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(lost)

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        reader, self._reader = self._reader, None
        if socket is not None:
            await socket.close()
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def close(self) -> None:
        """Close the connection."""
        for task in list(self._reading.values()):
            task.cancel()
        await self._drop()
