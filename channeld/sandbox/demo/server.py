"""A paying content server: asks for claims at its pace, verifies every answer, and keeps the highest claim."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiomqtt

from channeld.core.units import Payee
from channeld.sandbox.demo.cast import LARGEST_DROPS, SMALLEST_DROPS, Role, spellings
from channeld.sandbox.demo.post import Post
from channeld.sandbox.demo.tally import Bought, Replay, Tally
from channeld.sandbox.demo.verifier import Verifier

_BATCHED: Final = 0.15
_LARGEST_BATCH: Final = 6
_REPEATED: Final = 0.05
_MESSAGES_PER_S: Final = 100
"""A server that asks for more than this asks in larger batches."""
_MOST_ITEMS: Final = 500
_MOST_OPEN: Final = 64
"""Messages of one server that wait for their answer, or for the time to ask again."""
_LONGEST_DEBT_S: Final = 0.25
"""A server that fell behind its pace catches up with no more than this."""
_PATIENCE_S: Final = 10.0
"""How long outstanding answers are waited for at the end."""
_MAY_BE_REFUSED: Final = frozenset({"no_headroom", "limit_exceeded", "frozen", "busy"})


@dataclass(slots=True)
class Wish:
    """A request of ours. `waited` once it was refused and told to wait; `first` is the reply that accepted it."""

    payee: Payee
    drops: int
    fields: dict[str, Any]
    waited: bool = False
    first: dict[str, Any] | None = None


class ContentServer:
    """One content server. `rate` is the requests a second it asks for, items of batches counted one by one.

    It may be changed while it asks.
    """

    def __init__(self, role: Role, post: Post, rate: float, verifier: Verifier, tally: Tally) -> None:
        self.role, self.connected = role, asyncio.Event()
        self.rate, self._post, self._verifier, self._tally = rate, post, verifier, tally
        self._payees = list(role.payees)
        self._not_before: dict[Payee, float] = {}
        self._keep: dict[str, Wish] = {}
        self._numbers = itertools.count(1)
        self._random = random.Random()  # noqa: S311 (what is asked for, not a secret)
        self._open: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def run(self, begin: asyncio.Event, stop: asyncio.Event) -> None:
        """Connect, ask from `begin` to `stop`, wait for what is outstanding. What goes wrong is in the tally.

        `connected` is set once it is so, or cannot be.
        """
        try:
            async with self._post.client:
                await self._post.subscribe()
                tasks = [asyncio.create_task(self._post.read()), asyncio.create_task(self._work(begin, stop))]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    tasks += self._open
                    for task in tasks:
                        task.cancel()
                    self._report(await asyncio.gather(*tasks, return_exceptions=True))
        except aiomqtt.MqttError as error:
            self._tally.failures.append(f"{self.role.name}: {error}")
        finally:
            self.connected.set()
        if self._post.stray:
            self._tally.problem(f"{self.role.name}: {self._post.stray} answers that nobody asked for")

    def _report(self, results: list[BaseException | None]) -> None:
        for error in results:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                self._tally.failures.append(f"{self.role.name}: {error!r}")

    def leave(self) -> bool:
        """Ask no more for the payees that this server leaves early; whether any are left."""
        self._payees = [payee for payee in self._payees if payee not in self.role.leaves]
        return bool(self._payees)

    async def _work(self, begin: asyncio.Event, stop: asyncio.Event) -> None:
        self.connected.set()
        await begin.wait()
        asking = asyncio.create_task(self._ask())
        await stop.wait()
        asking.cancel()
        self._stopped.set()
        await asyncio.gather(asking, return_exceptions=True)
        for wish in self._keep.values():
            self._start(self._exchange([wish]))
        if self._open:
            await asyncio.wait(self._open, timeout=_PATIENCE_S)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Ask at our pace until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._random.random() / self.rate
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due, loop.time() - _LONGEST_DEBT_S)
            while len(self._open) >= _MOST_OPEN:
                await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
            willing = [p for p in self._payees if self._not_before.get(p, 0.0) <= loop.time()]
            count = self._size()
            if willing:
                self._start(self._exchange([self._wish(self._random.choice(willing)) for _ in range(count)]))
            due += count / self.rate

    def _size(self) -> int:
        """How many requests the next message is to hold."""
        count = self._random.randint(2, _LARGEST_BATCH) if self._random.random() < _BATCHED else 1
        return min(_MOST_ITEMS, count * math.ceil(self.rate / _MESSAGES_PER_S))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tally.failures.append(f"{self.role.name}: {error!r}")

    def _wish(self, payee: Payee) -> Wish:
        """A new request, as varied as the contract allows."""
        number, chance = next(self._numbers), self._random.random
        drops = self._random.randint(SMALLEST_DROPS, LARGEST_DROPS)
        fields: dict[str, Any] = {"id": f"{self.role.name}/{number}", "drops": str(drops)}
        if len(self.role.payees) > 1 or chance() < 0.5:
            fields["payee"] = self._random.choice(spellings(payee))
        if chance() < 0.5:
            fields["user"] = f"user-{self._random.randrange(100)}"
        if chance() < 0.5:
            fields["content"] = f"article/{self._random.randrange(1000)}"
        return Wish(payee, drops, fields)

    async def _exchange(self, wishes: list[Wish]) -> None:
        """Ask for wishes in one message until each is accepted or refused for good, or until we stop asking."""
        while wishes:
            self._tally.sent += len(wishes)
            took, answers = await self._post.ask([wish.fields for wish in wishes])
            self._tally.latencies_s.append(took)
            if len(answers) != len(wishes):
                self._tally.problem(f"{self.role.name}: {len(answers)} answers to {len(wishes)} requests")
                return
            again = [await self._judge(wish, answer) for wish, answer in zip(wishes, answers, strict=True)]
            wishes = [wish for wish, wait_s in zip(wishes, again, strict=True) if wait_s is not None]
            if not wishes or await self._stops_within(max(wait_s for wait_s in again if wait_s is not None)):
                return

    async def _stops_within(self, wait_s: float) -> bool:
        """Wait so long; True if we are to stop asking meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), wait_s)
        return self._stopped.is_set()

    # --- judging -----------------------------------------------------------------------------------------------------

    async def _judge(self, wish: Wish, answer: dict[str, Any]) -> float | None:
        """Take one answer; the seconds until the same is to be asked again, None if it is not."""
        if answer.get("id") != wish.fields["id"]:
            self._tally.problem(f"{answer.get('id')!r} came back for {wish.fields['id']!r}")
        if answer.get("status") == "accepted":
            return await self._accepted(wish, answer)
        code = str(answer.get("code"))
        self._tally.rejected[code] = self._tally.rejected.get(code, 0) + 1
        if code not in _MAY_BE_REFUSED or wish.first is not None:
            self._tally.problem(f"{wish.fields['id']} was refused: {code}: {answer.get('reason')}")
            return None
        if not isinstance(retry := answer.get("retry_after_ms"), int):
            self._tally.problem(f"{wish.fields['id']} was refused for ever: {code}: {answer.get('reason')}")
            return None
        until = asyncio.get_running_loop().time() + retry / 1000
        self._not_before[wish.payee] = max(until, self._not_before.get(wish.payee, 0.0))
        self._tally.in_vain += wish.waited
        wish.waited = True
        return retry / 1000

    async def _accepted(self, wish: Wish, answer: dict[str, Any]) -> float | None:
        """Verify and count an accepted reply; 0 to ask for the same once more, None if that is all."""
        problems = await self._verifier.check(answer, wish.drops, wish.payee)
        for problem in problems:
            self._tally.problem(f"{wish.fields['id']}: {problem}")
        self._tally.verified += not problems
        if wish.first is not None:
            self._tally.replayed += 1
            if not problems:
                self._tally.replays.append(
                    Replay(self._said(wish.first), self._said(answer), answer["replayed"] is True)
                )
            return None
        if answer.get("replayed") is not False:
            self._tally.problem(f"{wish.fields['id']} was never answered, and came back as a replay")
        wish.first = answer
        if problems:
            self._tally.accepted += 1
            return None
        self._tally.accept(Bought.of(self.role.name, answer))
        self._keep.setdefault(answer["claim"]["channel_id"], wish)
        return 0.0 if self._random.random() < _REPEATED else None

    def _said(self, answer: dict[str, Any]) -> tuple[Bought, str]:
        return Bought.of(self.role.name, answer), str(answer["claim"]["signature"])
