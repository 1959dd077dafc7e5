"""The client for programs without an event loop: Flask, Django, scripts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from channeld.client.arguments import Ask
from channeld.client.booking import Held
from channeld.client.client import Client
from channeld.client.errors import ClientError, Closed
from channeld.wire.answers import Accepted

T = TypeVar("T")


class SyncClient:
    """`Client`, blocking: the same arguments, the same methods, the same exceptions. Any thread may call.

    It runs an event loop in a thread of its own. Open it after a process has forked, so in a worker and not in its
    parent; workers may share one claims file.
    """

    def __init__(
        self, url: str, *, server: str, public_key: str | Iterable[str], path: str | Path, **more: Any
    ) -> None:
        self._client = Client(url, server=server, public_key=public_key, path=path, **more)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SyncClient:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> SyncClient:
        """Connect; for programs that have no place for a `with`. A client is opened once."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="channeld-client", daemon=True)
        self._thread.start()
        try:
            self._do(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def close(self) -> None:
        """As `Client.close`."""
        if self._loop is not None:
            try:
                self._do(self._client.close())
            finally:
                self._end()

    def claim(self, *, payee: str, drops: int, **more: Any) -> Accepted:
        """As `Client.claim`."""
        return self._do(self._client.claim(payee=payee, drops=drops, **more))

    def claims(self, asks: Iterable[Ask], *, timeout_s: float | None = None) -> list[Accepted | ClientError]:
        """As `Client.claims`."""
        return self._do(self._client.claims(asks, timeout_s=timeout_s))

    def best(self) -> list[Held]:
        """As `Client.best`."""
        return self._do(self._client.best())

    def unanswered(self) -> list[str]:
        """As `Client.unanswered`."""
        return self._do(self._client.unanswered())

    def finish(self, *, timeout_s: float | None = None) -> list[Accepted | ClientError]:
        """As `Client.finish`."""
        return self._do(self._client.finish(timeout_s=timeout_s))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise Closed("the client is not open: use it within `with`")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()
