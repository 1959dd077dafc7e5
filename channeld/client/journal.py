"""The claims file: every request before it is sent, every slice that was bought, and the best claim of each channel.

One SQLite file, synchronous=FULL: what a call returned is on disk. Several processes may use it at once, for nothing is
held in memory and every decision is made within the transaction that writes it. Calls that wait together share one
transaction. A file belongs to one server of one daemon's prefix.

Slices are kept merged, so the file grows with what goes on at the same time, not with what was ever bought; answers are
kept for eight days, far longer than any daemon remembers an id.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from channeld.client import booking
from channeld.client.booking import Held
from channeld.client.checks import Asked
from channeld.client.claims_file import failure, open_file
from channeld.client.errors import ClientError, FileError
from channeld.wire.answers import Accepted

_GROUP: Final = 500

T = TypeVar("T")
_Work = Callable[[sqlite3.Connection], Any]


class Journal:
    """The file, from `open` to `close`. Every method is durable when it returns; each raises `FileError`s."""

    def __init__(self, path: Path, server: str) -> None:
        self._path, self._server = path, server
        self._thread = ThreadPoolExecutor(1, "claims-file")
        self._db: sqlite3.Connection | None = None
        self._waiting: list[tuple[_Work, asyncio.Future[Any]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the file, and make it if there is none. Raises `NotAClaimsFile` for a file of something else."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        try:
            self._db = open_file(self._path, self._server)
        except sqlite3.Error as error:
            raise failure(error, self._path) from None

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        while self._worker is not None:
            await asyncio.wait([self._worker])
        db, self._db = self._db, None
        if db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, db.close)
        self._thread.shutdown(wait=False)

    async def remember(self, asked: Asked) -> Accepted | None:
        """Write a request down before it is sent; the answer, if this very request was accepted already.

        Raises `IdReused` where the id stands for another request.
        """
        return await self._run(lambda db: booking.remember(db, asked))

    async def recall(self, request_id: str) -> tuple[Asked, str] | None:
        """A request by its id, and its state: sent, accepted, rejected, refused or void."""
        return await self._run(lambda db: booking.recall(db, request_id))

    async def unanswered(self) -> list[Asked]:
        """Requests that were sent, as far as is known, and not answered; oldest first."""
        return await self._run(booking.unanswered)

    async def keep(self, asked: Asked, said: Accepted) -> None:
        """Book a verified answer: its slice, and its claim if that is the channel's best.

        Raises `SliceSeen` or `ChangedAnswer`; then nothing is booked. An answer that is booked already is passed over.
        """
        await self._run(lambda db: booking.keep(db, asked, said))

    async def keep_claim(self, said: Accepted) -> None:
        """Keep a claim that can be collected but was not accepted as payment."""
        await self._run(lambda db: booking.keep_best(db, said))

    async def mark(self, request_id: str, state: str) -> None:
        """Note that a request is rejected, refused or void. An accepted one stays accepted."""
        await self._run(lambda db: booking.mark(db, request_id, state))

    async def best(self) -> list[Held]:
        """The best claim of every channel, the one kept last first."""
        return await self._run(booking.read_best)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            raise FileError(f"{self._path} is not open")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, done))
        if self._worker is None:
            self._worker = loop.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        """Carry out what waits, in groups, until nothing waits any more."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
            results = await loop.run_in_executor(self._thread, self._transact, [work for work, _ in group])
            for (_, done), result in zip(group, results, strict=True):
                if done.done():
                    continue
                if isinstance(result, BaseException):
                    done.set_exception(result)
                else:
                    done.set_result(result)
        self._worker = None

    def _transact(self, group: Sequence[_Work]) -> list[Any]:
        """One transaction. Work that refuses (a `ClientError`) has written nothing; a failing file fails all of it."""
        db = self._db
        assert db is not None
        results: list[Any] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            for work in group:
                try:
                    results.append(work(db))
                except ClientError as error:
                    results.append(error)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            return [failure(error, self._path) for _ in group]
        except Exception as error:  # a defect must not leave callers waiting
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            return [error for _ in group]
        return results
