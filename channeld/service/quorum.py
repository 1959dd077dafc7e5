"""What is believed about a ledger: answers that as many nodes give alike as `quorum` says.

A header that enough nodes announced alike (see `endpoints`) does not make any one answer about that ledger true: a node
can tell the right hash and invent what is in it. So everything that is believed is asked of several:

- *What happened*: each node is asked for our wallets' transactions over exactly the same ledgers, and its story is
  compared as a whole: every transaction, its result, and every channel and account as it stood afterwards. A part of
  the span is believed when `quorum` nodes that searched it whole tell the same of it, and more than tell anything else.
- *What is there* (whole reads at start and after a change of node): the same, for the whole list of channels.

The argument. Let fewer than `quorum` nodes lie, together or alone. Of `quorum` equal answers at least one is honest, so
the answer is what the ledger says: no invented channel, raised amount or payout is ever believed, and no expiration can
be hidden. Absence needs no rule of its own: "this transaction is not in ledgers a..b" follows from a believed story of
a..b that lacks it, and a node has no vote on ledgers that it did not search. An honest node on another branch does not
count as a witness either: one that announced another header of the ledger in question is not asked. An honest node may
be late or lack history: then it has no vote there, others are asked, and what too few nodes can tell is a hole: not
absence but "unknown", after which channels are read whole.

If answers contradict each other and none wins, `Disagreement` is raised and nothing of the ledger is processed. It
stays the next one to process, so that waiting loses nothing; the lag this causes freezes issuing.

With a quorum of 1 one node is asked, and the next only where it fails or lacks ledgers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from channeld.core.errors import Disagreement, LedgerError, Malformed, Unreachable
from channeld.core.ledger import History, ValidatedTransaction
from channeld.core.units import Address, LedgerIndex
from channeld.service.ports import NodeSession

T = TypeVar("T", bound=Hashable)

OnFault = Callable[[NodeSession, str], None]


@dataclass(frozen=True, slots=True)
class Story:
    """What is believed of a span of ledgers.

    `gapless`: nothing is missing in it. `reached`: its last ledger is believed, whatever is missing before.
    `contested`: parts were left out because nodes contradict each other there. `liars` lost a vote, by place.
    """

    transactions: tuple[ValidatedTransaction, ...]
    gapless: bool
    reached: bool
    contested: bool
    liars: frozenset[int]


def plurality(answers: Iterable[T], quorum: int) -> T | None:
    """The answer that at least `quorum` gave and more than gave any other; None if there is none."""
    counted = Counter(answers).most_common(2)
    if not counted or counted[0][1] < quorum or (len(counted) == 2 and counted[1][1] == counted[0][1]):
        return None
    return counted[0][0]


def believe(histories: Mapping[int, History], first: LedgerIndex, last: LedgerIndex, quorum: int) -> Story:
    """Compare what nodes told of `first`..`last` (inclusive), part by part: a node has a vote where it searched."""
    cuts = {first, last + 1} | {h.first for h in histories.values()} | {h.last + 1 for h in histories.values()}
    found: list[ValidatedTransaction] = []
    gapless, reached, contested, liars = True, False, False, set[int]()
    for low, after in pairwise(sorted(cut for cut in cuts if first <= cut <= last + 1)):
        told = {
            place: tuple(t for t in h.transactions if low <= t.ledger_index < after)
            for place, h in histories.items()
            if h.first <= low and h.last >= after - 1
        }
        winner = plurality(told.values(), quorum)
        reached = winner is not None
        if winner is None:
            gapless, contested = False, contested or len(set(told.values())) > 1
        else:
            found += winner
            liars |= {place for place, story in told.items() if story != winner}
    return Story(tuple(found), gapless, reached, contested, frozenset(liars))


class Jury:
    """Nodes in the order in which they are asked, and how many must agree.

    `on_fault` hears of every node whose answer failed or was outvoted, and why.
    """

    def __init__(self, nodes: Sequence[NodeSession], quorum: int, on_fault: OnFault) -> None:
        self._nodes, self._quorum, self._on_fault = nodes, quorum, on_fault

    async def verdict(self, what: str, ask: Callable[[NodeSession], Awaitable[T]]) -> T:
        """The answer to believe; an answer is never None.

        Raises `Disagreement` where answers contradict each other, `Unreachable` where too few came, and with a quorum
        of 1 what the first node raised.
        """
        answers = _Answers[T]()
        for batch in self._batches():
            await answers.gather([(place, ask(self._nodes[place])) for place in batch])
            winner = plurality(answers.told.values(), self._quorum)
            if winner is not None:
                self._report(answers, [place for place, told in answers.told.items() if told != winner], what)
                return winner
        self._report(answers, [], what)
        raise self._undecided(answers, what, contested=len(set(answers.told.values())) > 1)

    async def story(self, account: Address, first: LedgerIndex, last: LedgerIndex) -> Story:
        """What to believe of an account in `first`..`last` (inclusive); holes are what too few nodes have.

        Raises as `verdict` does.
        """
        what, answers = f"the transactions in ledgers {first}..{last}", _Answers[History]()
        story = believe({}, first, last, self._quorum)
        for batch in self._batches():
            await answers.gather([(place, self._nodes[place].history(account, first, last)) for place in batch])
            story = believe(answers.told, first, last, self._quorum)
            if story.gapless:
                break
        self._report(answers, story.liars, what)
        if story.contested or not answers.told:
            raise self._undecided(answers, what, contested=story.contested)
        return story

    def _batches(self) -> list[Sequence[int]]:
        """Whom to ask, by place: as many as must agree, together; then, if that decides nothing, one after another."""
        places = range(len(self._nodes))
        return [places[: self._quorum], *([place] for place in places[self._quorum :])]

    def _report(self, answers: _Answers[T], outvoted: Iterable[int], what: str) -> None:
        for place, error in answers.failed.items():
            self._on_fault(self._nodes[place], f"{what}: {error}")
        for place in outvoted:
            self._on_fault(self._nodes[place], f"{what}: tells something else than {self._quorum} or more others")

    def _undecided(self, answers: _Answers[T], what: str, *, contested: bool) -> Exception:
        if contested:
            return Disagreement(f"endpoints contradict each other about {what}")
        if answers.failed and self._quorum == 1:
            return next(iter(answers.failed.values()))
        return Unreachable(f"{len(answers.told)} of {self._quorum} endpoints that must agree told {what}")


class _Answers(Generic[T]):
    """What nodes told and why others did not, by the node's place."""

    def __init__(self) -> None:
        self.told: dict[int, T] = {}
        self.failed: dict[int, Exception] = {}

    async def gather(self, asked: Sequence[tuple[int, Awaitable[T]]]) -> None:
        """Wait for all of them."""
        if len(asked) == 1:
            await self._take(*asked[0])
        else:
            await asyncio.gather(*(self._take(place, answer) for place, answer in asked))

    async def _take(self, place: int, answer: Awaitable[T]) -> None:
        try:
            self.told[place] = await answer
        except (Unreachable, LedgerError, Malformed) as error:
            self.failed[place] = error
