"""Ask for claims, believe none unverified, keep the best: the client of a content server.

    async with Client("mqtt://127.0.0.1:1883", server="news-eu", public_key="ED...", path="claims.db") as client:
        accepted = await client.claim(payee="r...", drops=1500, user="u-17")

The order is what keeps money: a request is in the file before it is sent, and a claim is verified and in the file
before a call returns. So a process may die at any moment: what was returned is kept, and what was sent is known.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from channeld.client.arguments import Ask, pinned, server_id
from channeld.client.belief import Belief
from channeld.client.booking import Held
from channeld.client.channels import LedgerNode
from channeld.client.checks import Asked
from channeld.client.errors import (
    BrokerLost,
    ClientError,
    Closed,
    IdReused,
    Lie,
    NotAnswered,
    TooLate,
    rejection,
)
from channeld.client.journal import Journal
from channeld.client.link import Broker, Link
from channeld.client.mailbox import Mailbox, Waiting
from channeld.wire.answers import Accepted, Rejected, claim_request

log = logging.getLogger("channeld.client")

_REPEAT_S: Final = (2.0, 15.0)
"""How soon an unanswered request is sent again, at first and at most."""
_INTERNAL_S: Final = 1.0


class Client:
    """A content server's client. Open it with `async with`; use it from one event loop, by any number of tasks.

    `url` is the broker's, `mqtt://host:port` or `mqtts://host:port`; `server` this content server's id. `public_key`
    pins the key (or keys) that may sign, `payer` the account that may pay. `path` is the claims file; several processes
    may share it. With `ledger`, a node's WebSocket URL, every channel is verified there; without it in the daemon's
    retained states, and a channel of which it publishes none is not believed.

    A channel must leave `min_settle_delay_s` after a close and `min_life_s` before a fixed end. `timeout_s` is how long
    a call repeats and waits; it is also how long a request is good for (`not_after`), so this machine's clock must be
    right to within it. `ledger_patience_s` is how long a node may lag behind the daemon's, and a retained state
    behind an answer.
    """

    def __init__(
        self,
        url: str,
        *,
        server: str,
        public_key: str | Iterable[str],
        path: str | Path,
        ledger: str | None = None,
        payer: str | None = None,
        network_id: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        prefix: str = "channeld/v1",
        timeout_s: float = 60.0,
        min_settle_delay_s: int = 600,
        min_life_s: int = 3600,
        ledger_patience_s: float = 10.0,
    ) -> None:
        terms = pinned(public_key, payer, min_settle_delay_s, min_life_s)
        self._broker = Broker(url, username, password, tls)
        self._broker.place()
        self._topics, self._network_id = f"{prefix}/servers/{server_id(server)}", network_id
        self._timeout_s = timeout_s
        self._journal = Journal(Path(path), server)
        node = None if ledger is None else LedgerNode(ledger, network_id)
        self._belief = Belief(terms, self._journal, node, topics=self._topics, patience_s=ledger_patience_s)
        self._mailbox = Mailbox(self._strayed)
        self._late: set[asyncio.Task[None]] = set()
        self._link: Link | None = None
        self._run: asyncio.Task[None] | None = None
        self.strays = 0
        """Answers that belonged to no request in the file."""

    # --- opening and closing -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        await self._journal.open()
        try:
            for held in reversed(await self._journal.best()):
                self._belief.held[held.payee] = held.claim
            self._link = Link(
                self._broker,
                self._topics,
                request=self._text,
                on_answer=self._mailbox.take,
                on_state=self._belief.states.take,
                on_connected=self._ask_again,
            )
            self._run = asyncio.create_task(self._link.run())
            await self._first_connection(self._link, self._run)
        except BaseException:
            await self.close()
            raise
        return self

    async def _first_connection(self, link: Link, run: asyncio.Task[None]) -> None:
        connected = asyncio.create_task(link.connected.wait())
        try:
            await asyncio.wait({connected, run}, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if run.done():
            run.result()
        if not link.connected.is_set():
            raise BrokerLost(f"the broker at {self._broker.url} does not answer: {link.problem}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of broker, node and file. Calls that still wait raise `Closed`; their requests stay in the file."""
        run, self._run, self._link = self._run, None, None
        for waiting in self._mailbox.waiting.values():
            waiting.offer(Closed("the client was closed", id=waiting.asked.id))
        tasks = [*self._late] if run is None else [run, *self._late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._belief.node is not None:
            await self._belief.node.close()
        await self._journal.close()

    # --- asking ------------------------------------------------------------------------------------------------------

    async def claim(
        self,
        *,
        payee: str,
        drops: int,
        user: str | None = None,
        content: str | None = None,
        tier: str | None = None,
        region: str | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Accepted:
        """Ask for `drops` more for `payee`; the answer, once it is verified and kept.

        Without `id` one is made. The same id with the same arguments is the same request: it never debits twice, and
        once accepted its answer comes from the file. Raises a `ClientError`; see `channeld.client.errors`.
        """
        ask = Ask(payee, drops, user, content, tier, region, id)
        return await self._claim(ask, self._timeout_s if timeout_s is None else timeout_s)

    async def claims(self, asks: Iterable[Ask], *, timeout_s: float | None = None) -> list[Accepted | ClientError]:
        """Ask for many at once; answers in the same order, with an exception in place of each that has none."""
        limit = self._timeout_s if timeout_s is None else timeout_s
        results = await asyncio.gather(*(self._claim(ask, limit) for ask in asks), return_exceptions=True)
        return [_answer_or_error(result) for result in results]

    async def _claim(self, ask: Ask, timeout_s: float) -> Accepted:
        self._open_link()
        asked = await self._write_down(ask, timeout_s)
        if isinstance(asked, Accepted):
            return asked
        return await self._settle(asked, timeout_s)

    async def _write_down(self, ask: Ask, timeout_s: float) -> Asked | Accepted:
        """The request as it is in the file from now on, or its answer if it was accepted before."""
        request_id = secrets.token_hex(16) if ask.id is None else ask.id
        if ask.id is not None and (found := await self._journal.recall(ask.id)) is not None:
            asked = ask.asked(request_id, found[0].not_after, self._network_id)
        else:
            asked = ask.asked(request_id, int(time.time() + timeout_s) + 1, self._network_id)
        answer = await self._journal.remember(asked)
        return asked if answer is None else answer

    # --- what is in the file -----------------------------------------------------------------------------------------

    async def best(self) -> list[Held]:
        """The best claim of every channel: all that is needed to be paid."""
        return await self._journal.best()

    async def unanswered(self) -> list[str]:
        """Ids of requests that were sent, by this process or another, and have no answer yet."""
        return [asked.id for asked in await self._journal.unanswered()]

    async def finish(self, *, timeout_s: float | None = None) -> list[Accepted | ClientError]:
        """Find out what became of requests that have no answer, as after a crash: once, and in no hurry.

        Each was accepted, and is then verified and kept; or it is void, which `TooLate` says; or still nobody knows.
        Do it within the time for which the daemon remembers ids, 24 hours or more: later it can tell no more.
        """
        self._open_link()
        limit = self._timeout_s if timeout_s is None else timeout_s
        open_ones = [asked for asked in await self._journal.unanswered() if asked.id not in self._mailbox.waiting]
        results = await asyncio.gather(*(self._settle(asked, limit) for asked in open_ones), return_exceptions=True)
        return [_answer_or_error(result) for result in results]

    # --- a request's way ---------------------------------------------------------------------------------------------

    async def _settle(self, asked: Asked, timeout_s: float) -> Accepted:
        """Send, repeat, obey, and believe nothing unverified, until it is answered or time is up."""
        if asked.id in self._mailbox.waiting:
            raise IdReused(f"id {asked.id!r} is being asked right now", id=asked.id)
        waiting = self._mailbox.waiting[asked.id] = Waiting(asked)
        deadline = time.monotonic() + timeout_s
        try:
            said = await self._answer(waiting, deadline)
            await self._belief.believe(asked, said, deadline)
        except (Lie, NotAnswered) as error:
            if isinstance(error, Lie):
                await self._journal.mark(asked.id, "refused")
            error.id = asked.id
            raise
        finally:
            del self._mailbox.waiting[asked.id]
        return said

    async def _answer(self, waiting: Waiting, deadline: float) -> Accepted:
        """The first answer that is no rejection. Raises what the daemon said when there is no time to try again."""
        asked, repeat_s, send_at = waiting.asked, _REPEAT_S[0], time.monotonic()
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise self._silence(asked)
            if now >= send_at:
                self._open_link().send(asked.id)
                send_at, repeat_s = now + repeat_s, min(2 * repeat_s, _REPEAT_S[1])
            try:
                async with asyncio.timeout(min(send_at, deadline) - now):
                    said = await waiting.answers.get()
            except TimeoutError:
                continue
            if isinstance(said, ClientError):
                raise said
            if isinstance(said, Accepted):
                return said
            send_at = time.monotonic() + await self._pause(asked, said, deadline)
            repeat_s = _REPEAT_S[0]

    async def _pause(self, asked: Asked, said: Rejected, deadline: float) -> float:
        """Seconds until the daemon wants to be asked again; raises the rejection where that is too late, or never."""
        error = rejection(said, asked.id)
        pause = _INTERNAL_S if said.code == "internal" else None
        if said.retry_after_ms is not None:
            pause = said.retry_after_ms / 1000
        if pause is None or time.monotonic() + pause >= deadline:
            await self._journal.mark(asked.id, "void" if isinstance(error, TooLate) else "rejected")
            raise error
        return pause

    def _silence(self, asked: Asked) -> NotAnswered:
        link = self._open_link()
        if not link.connected.is_set():
            return BrokerLost(f"request {asked.id!r}: no connection to the broker: {link.problem}")
        return NotAnswered(f"request {asked.id!r} was not answered in time")

    # --- what the link asks and brings -------------------------------------------------------------------------------

    def _open_link(self) -> Link:
        if self._link is None:
            raise Closed("the client is not open: use it within `async with`")
        return self._link

    def _text(self, request_id: str) -> str | None:
        waiting = self._mailbox.waiting.get(request_id)
        return None if waiting is None else claim_request(waiting.asked, self._belief.held.get(waiting.asked.payee))

    def _ask_again(self) -> None:
        for request_id in self._mailbox.waiting:
            self._open_link().send(request_id)

    def _strayed(self, said: Accepted) -> None:
        task = asyncio.create_task(self._take_late(said))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _take_late(self, said: Accepted) -> None:
        """An answer that nobody waits for any more is verified and kept all the same."""
        try:
            found = await self._journal.recall(said.id)
            if found is None:
                self.strays += 1
            elif found[1] != "accepted":
                await self._belief.believe(found[0], said, time.monotonic() + self._timeout_s)
        except ClientError as error:
            log.warning("a late answer was not kept: %s", error)


def _answer_or_error(result: Accepted | BaseException) -> Accepted | ClientError:
    if isinstance(result, (Accepted, ClientError)):
        return result
    raise result
