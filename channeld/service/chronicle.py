"""What the engine answered, on its way into the history: only what differs from the last answer about its subject.

Deciding pays for a look at the last answer of each subject it decided about, and for what is new the making of a small
value; all else (working out the inputs, encoding, writing) is for whoever takes it from here, off the event loop. What
waits here is lost by a crash. Where more waits than may, what is new is passed over and its subject's last answer
forgotten, so that the next answer about it is kept whatever it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from channeld.core.collecting import Collecting
from channeld.core.history import Answered, Gist, Moment, RefusedAsk, answered, left_alone, subject_of_hold
from channeld.core.intents import Intent
from channeld.core.outcome import subject_of
from channeld.core.policy import Policy
from channeld.core.records import JournalEntry
from channeld.core.requests import Ask, Refusal
from channeld.core.units import LedgerIndex, RippleTime
from channeld.core.world import Hold, Planned, Reason, World

MOST_WAITING: Final = 100_000
"""Moments and refusals that may wait to be written: some 60 MB at worst."""
REFUSALS_PER_S: Final = 50
"""Refused requests kept of one content server in a second; a flood of them says nothing more, and is counted all the
same.
"""


_ORDINARY: Final = frozenset(
    reason.value for reason in (Reason.WITHIN_BAND, Reason.NO_DEMAND, Reason.NOTHING_HELD, Reason.SPARE)
)
"""Reasons that nobody needs to be told of: all is well."""


class Chronicle:
    """`last` is what the history says was answered last about each subject, and when; `unix` is the clock of requests.

    `standing` has, by reason, what is left alone for one that is out of the ordinary, each with the close time since
    when, the oldest first.
    """

    def __init__(self, last: Mapping[str, tuple[Gist, RippleTime]], unix: Callable[[], float]) -> None:
        self._last: dict[str, Gist] = {}
        self.standing: dict[str, dict[str, RippleTime]] = {}
        for subject, (gist, at) in sorted(last.items(), key=lambda item: item[1][1]):
            self._note(subject, gist, at)
        self._unix = unix
        self._waiting: deque[Moment | RefusedAsk] = deque()
        self._second = 0
        self._refused: dict[str, int] = {}
        self.passed_over = 0
        """What was not kept since this start, because too much waited or the history could not be written."""

    @property
    def waiting(self) -> int:
        """Moments and refusals not written yet."""
        return len(self._waiting)

    # --- what the engine answered -------------------------------------------------------------------------------------

    def decided(
        self,
        ledger: LedgerIndex,
        world: World,
        policy: Policy,
        *,
        entries: Iterable[tuple[tuple[str, str], JournalEntry]],
        holds: Iterable[Hold],
        wishes: Iterable[Planned],
    ) -> None:
        """Note a decision about `world`: what was journaled, each with its group, and what was left alone.

        `wishes` are what would be done of what was left alone, were nothing above it.
        """
        wanted = {subject_of(wish.intent.action): wish.intent for wish in wishes}
        news: dict[tuple[str, str], list[Answered]] = {}
        for key, entry in entries:
            said = answered(entry.intent, subject_of(entry.action), number=entry.number)
            self._note(said.subject, said.gist, world.close_time)
            news.setdefault(key, []).append(said)
        for hold in holds:
            if hold.reason is not Reason.IN_FLIGHT and (new := self._new(hold, wanted)) is not None:
                self._note(new.subject, new.gist, world.close_time)
                news.setdefault(hold.group, []).append(new)
        if not news:
            return
        groups = {group.key: group for group in world.groups}
        bare = replace(world, groups=())
        for key, answers in news.items():
            group = groups[key]
            self._keep(Moment(ledger, world.close_time, policy, key, str(group.payee), tuple(answers), bare, group))

    def _new(self, hold: Hold, wanted: Mapping[str, Intent]) -> Answered | None:
        """What a hold says that was not said last about its subject, or None."""
        subject = subject_of_hold(hold)
        last = self._last.get(subject)
        if last == ("", hold.reason.value, hold.path):  # as it mostly is
            return None
        said = left_alone(hold, wanted.get(subject))
        return None if last == said.gist else said

    def _note(self, subject: str, gist: Gist, at: RippleTime) -> None:
        """This is the last answer about a subject now."""
        self.forget((subject,))
        self._last[subject] = gist
        if gist[1] and gist[1] not in _ORDINARY:
            self.standing.setdefault(gist[1], {})[subject] = at

    def collected(
        self, ledger: LedgerIndex, now: RippleTime, policy: Policy, *, wallet: str, seen: Collecting, said: Answered
    ) -> None:
        """Note what was decided about a channel that pays us."""
        if said.reason == Reason.IN_FLIGHT.value or (said.intent is None and self._last.get(said.subject) == said.gist):
            return
        self._note(said.subject, said.gist, now)
        payee = str(seen.held.channel.payee)
        self._keep(Moment(ledger, now, policy, (wallet,), payee, (said,), collecting=seen))

    def refused(self, ask: Ask, refusal: Refusal) -> None:
        """Note a claim request that was refused."""
        now = int(self._unix())
        if now != self._second:
            self._second = now
            self._refused.clear()
        count = self._refused[ask.server] = self._refused.get(ask.server, 0) + 1
        if count <= REFUSALS_PER_S:
            self._keep(
                RefusedAsk(
                    at=now,
                    key=ask.key,
                    server=ask.server,
                    payee="" if ask.payee is None else str(ask.payee),
                    drops=ask.drops,
                    code=refusal.code,
                    reason=refusal.reason,
                    because=refusal.because,
                )
            )

    def _keep(self, news: Moment | RefusedAsk) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(news)
            return
        self.passed_over += 1
        if isinstance(news, Moment):
            self.forget([said.subject for said in news.answers])

    # --- on its way out -----------------------------------------------------------------------------------------------

    def next(self, limit: int) -> Sequence[Moment | RefusedAsk]:
        """The oldest that wait, up to `limit`. They stay until `written` is told."""
        return [self._waiting[n] for n in range(min(limit, len(self._waiting)))]

    def written(self, count: int) -> None:
        """The first so many that waited are in the history."""
        for _ in range(count):
            self._waiting.popleft()

    def forget(self, subjects: Iterable[str]) -> None:
        """These are gone, or nothing is left of them in the history: what is answered next about them is news."""
        for subject in subjects:
            gist = self._last.pop(subject, None)
            if gist is not None and (same := self.standing.get(gist[1])) is not None:
                same.pop(subject, None)
                if not same:
                    del self.standing[gist[1]]
