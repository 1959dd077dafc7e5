"""One connection to one XRP Ledger node, over WebSocket. Our own, because the well-known ones hang after a drop.

One task drains the socket and never waits for anybody: answers go to the futures that wait for them, ledgers into a
queue that keeps only the newest few, for whoever follows catches up by itself. When the connection ends, everything
that waits fails at once with `Unreachable` and the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from channeld.core.channel import Channel
from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.ledger import (
    AccountState,
    History,
    LedgerHeader,
    NodeFacts,
    OpenFees,
    SubmitResult,
    ValidatedTransaction,
)
from channeld.core.units import Address, ChannelId, LedgerIndex
from channeld.wire import ledger as wire

log = structlog.get_logger()

_REQUEST_TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 10.0
_PING_S: Final = 10.0
_LARGEST_MESSAGE: Final = 64 * 1024 * 1024
_PAGE: Final = 400
"""Entries asked for in one page: the most that a node grants. Sources: rippled Tuning.h."""
_LEDGERS_KEPT: Final = 64
_MOST_PAGES: Final = 100_000


class XrplNode:
    """Where sessions come from."""

    @asynccontextmanager
    async def session(self, endpoint: str) -> AsyncIterator[NodeSession]:
        """Connect to `endpoint` (ws:// or wss://); raises `Unreachable` if that fails, and on every use once it is
        lost.
        """
        try:
            socket = await connect(
                endpoint,
                open_timeout=_CONNECT_TIMEOUT_S,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                close_timeout=1,
                max_size=_LARGEST_MESSAGE,
                proxy=None,
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            raise Unreachable(f"cannot connect: {error or type(error).__name__}") from error
        session = NodeSession(endpoint, socket)
        reader = asyncio.create_task(session.read())
        try:
            yield session
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            session.fail("closed")
            await socket.close()


class NodeSession:
    """A connected node. Every method raises `Unreachable` once the connection is gone, `LedgerError` for a refusal."""

    def __init__(self, endpoint: str, socket: ClientConnection) -> None:
        self.endpoint = endpoint
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._closed_ledgers: deque[LedgerHeader] = deque(maxlen=_LEDGERS_KEPT)
        self._news = asyncio.Event()
        self._lost: str | None = None
        self.skipped = 0

    @property
    def gone(self) -> bool:
        """Whether the connection is lost, for good."""
        return self._lost is not None

    # --- the socket --------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Drain the socket until it ends. What cannot be understood is logged and passed over."""
        reason = "the node closed the connection"
        try:
            async for frame in self._socket:
                self._take(frame)
        except ConnectionClosed as error:
            reason = f"connection lost: {error}"
        except OSError as error:
            reason = f"connection lost: {error}"
        self.fail(reason)

    def fail(self, reason: str) -> None:
        """The connection is gone: whoever waits is told now."""
        self._lost = self._lost or reason
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unreachable(self._lost))
        self._waiting.clear()
        self._news.set()

    def _take(self, frame: str | bytes) -> None:
        try:
            message = msgspec.json.decode(frame)
            if not isinstance(message, dict):
                raise Malformed("not a JSON object")
            if message.get("type") == "ledgerClosed":
                self._closed_ledgers.append(wire.header(message))
                self._news.set()
            elif type(number := message.get("id")) is int:
                future = self._waiting.pop(number, None)
                if future is not None and not future.done():
                    future.set_result(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Malformed) as error:
            self.skipped += 1
            if self.skipped & (self.skipped - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a node must not flood the log
                reason = str(error)[:200]
                log.warning("node_message_skipped", endpoint=self.endpoint, skipped=self.skipped, reason=reason)

    async def request(self, command: str, **parameters: Any) -> Mapping[str, Any]:
        """Ask and wait for the answer; its `result`. Raises `LedgerError` with the node's own code."""
        if self._lost:
            raise Unreachable(self._lost)
        number = next(self._numbers)
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        body = {"id": number, "command": command, "api_version": 2, **parameters}
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                await self._socket.send(msgspec.json.encode(body).decode())
                answer = await future
        except TimeoutError:
            raise Unreachable(f"no answer to {command} within {_REQUEST_TIMEOUT_S:.0f} s") from None
        except ConnectionClosed as error:
            raise Unreachable(f"connection lost: {error}") from None
        finally:
            self._waiting.pop(number, None)
        return _result(answer)

    async def _there(self, absent: str, command: str, **parameters: Any) -> Mapping[str, Any] | None:
        """The same; None where the node says with the code `absent` that there is no such thing."""
        try:
            return await self.request(command, **parameters)
        except LedgerError as error:
            if error.code == absent:
                return None
            raise

    # --- what the engine asks ----------------------------------------------------------------------------------------

    async def facts(self) -> NodeFacts:
        """What the node says of itself."""
        return wire.node_facts(await self.request("server_info"))

    async def follow(self) -> LedgerHeader:
        """Subscribe to validated ledgers; the one the node stands at."""
        return wire.header(await self.request("subscribe", streams=["ledger"]))

    async def ledgers(self) -> AsyncIterator[LedgerHeader]:
        """Validated ledgers as they close. Who is slow gets the newest few only; ends by raising `Unreachable`."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._closed_ledgers:
                yield self._closed_ledgers.popleft()
            if self._lost:
                raise Unreachable(self._lost)

    async def history(self, account: Address, first: LedgerIndex, last: LedgerIndex) -> History:
        """All of an account's transactions in first..last that the node has, oldest first.

        A node refuses a span with a bound outside its history instead of clipping it: then it is asked for the part
        that it says it has. Sources: rippled AccountTx.cpp getLedgerRange (api_version 2).
        """
        try:
            return await self._history(account, first, last)
        except LedgerError as error:
            if error.code not in ("lgrIdxsInvalid", "invalidLgrRange", "lgrIdxMalformed"):
                raise
        facts = await self.facts()
        low, high = max(first, facts.complete_first), min(last, facts.complete_last)
        if low <= high and (low, high) != (first, last):
            return await self._history(account, low, high)
        return History(LedgerIndex(last + 1), LedgerIndex(first - 1), ())

    async def _history(self, account: Address, first: LedgerIndex, last: LedgerIndex) -> History:
        span = {"ledger_index_min": first, "ledger_index_max": last, "forward": True, "limit": _PAGE}
        found: list[ValidatedTransaction] = []
        covered_first, covered_last = first, last
        try:
            async for page in self._pages("account_tx", account=account, **span):
                covered_first = max(covered_first, int(page["ledger_index_min"]))  # type: ignore[assignment]
                covered_last = min(covered_last, int(page["ledger_index_max"]))  # type: ignore[assignment]
                found += [wire.validated_transaction(entry) for entry in _entries(page, "transactions")]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Malformed(f"account_tx: {error!r}") from error
        if any(not covered_first <= t.ledger_index <= covered_last for t in found):
            raise Malformed("account_tx: a transaction outside of the span that was searched")
        return History(LedgerIndex(covered_first), LedgerIndex(covered_last), tuple(found))

    async def amendments(self) -> frozenset[str]:
        """Which of the amendments that concern us are in force; none on a network that has no such object."""
        entry = await self._there(
            "entryNotFound", "ledger_entry", index=wire.AMENDMENTS_ENTRY, ledger_index="validated"
        )
        return frozenset() if entry is None else wire.amendments(entry)

    async def channels(self, account: Address, at: LedgerIndex) -> list[Channel]:
        """All channels whose source is `account`, as of ledger `at`. A page may be empty and still not be the last."""
        found: list[Channel] = []
        async for page in self._pages("account_channels", account=account, ledger_index=at, limit=_PAGE):
            found += [wire.listed_channel(item, at) for item in _entries(page, "channels")]
        return found

    async def incoming(self, account: Address, at: LedgerIndex) -> list[Channel]:
        """All channels whose destination is `account`, as of ledger `at`.

        `account_channels` lists what an account pays only; what pays it stands in its directory. A page may be empty
        and still not be the last.
        """
        found: list[Channel] = []
        listing = self._pages("account_objects", account=account, type="payment_channel", ledger_index=at, limit=_PAGE)
        async for page in listing:
            found += wire.channels_paying(_entries(page, "account_objects"), account, at)
        return found

    async def paid(self, channel_id: ChannelId, at: LedgerIndex) -> Address | None:
        """The account that a channel pays, as of ledger `at`; None if there is no such channel."""
        entry = await self._there("entryNotFound", "ledger_entry", index=channel_id, ledger_index=at)
        return None if entry is None else wire.paid(entry)

    async def account(self, account: Address, at: LedgerIndex) -> AccountState | None:
        """The account as of ledger `at`; None if there is none."""
        result = await self._there("actNotFound", "account_info", account=account, ledger_index=at)
        if result is None:
            return None
        data = result.get("account_data")
        if not isinstance(data, dict):
            raise Malformed("account_info: account_data is not an object")
        return wire.account_state(data)

    async def tickets(self, account: Address, at: LedgerIndex) -> list[int]:
        """Numbers of all tickets that the account holds, as of ledger `at`."""
        found: list[int] = []
        async for page in self._pages("account_objects", account=account, type="ticket", ledger_index=at, limit=_PAGE):
            found += wire.tickets(_entries(page, "account_objects"))
        return found

    async def open_fees(self) -> OpenFees:
        """What the node asks for a transaction now."""
        return wire.open_fees(await self.request("fee"))

    async def submit(self, blob: str) -> SubmitResult:
        """Hand in a signed transaction."""
        return wire.submit_result(await self.request("submit", tx_blob=blob))

    async def _pages(self, command: str, **parameters: Any) -> AsyncIterator[Mapping[str, Any]]:
        """Every page of a listing, until there is no marker."""
        marker: Any = None
        for _ in range(_MOST_PAGES):
            page = await self.request(command, **parameters, **({} if marker is None else {"marker": marker}))
            yield page
            marker = page.get("marker")
            if marker is None:
                return
        raise Malformed(f"{command}: more than {_MOST_PAGES} pages")


def _entries(page: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects that a page lists. Raises `Malformed` where it is no list of objects."""
    items = page.get(name)
    if isinstance(items, list) and all(isinstance(item, dict) for item in items):
        return items
    raise Malformed(f"{name}: not a list of objects")


def _result(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of an answer; an error becomes a `LedgerError`."""
    if answer.get("status") == "error" or "error" in answer:
        detail = answer.get("error_message") or answer.get("error_exception") or ""
        raise LedgerError(str(answer.get("error"))[:80], str(detail)[:200])
    result = answer.get("result")
    if not isinstance(result, dict):
        raise Malformed("an answer without a result")
    return result
