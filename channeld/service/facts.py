"""What rules of `admit` may ask about a request, and what is counted so that they can.

Sums are by subject and hour, and durable: they are stored with the claims they count. A rule that asks for one sees it
with the request in it. Only what some rule asks for is worked out or counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from channeld.core import allowance
from channeld.core.allowance import DAY_HOURS, MOST_SUBJECTS, USUAL_HOURS, Allowance
from channeld.core.familiar import DAYS, KNOWN, day_of
from channeld.core.policy import Policy
from channeld.core.requests import Ask
from channeld.core.rules import Known
from channeld.core.units import DAY_S, HOUR_S, Payee, RippleTime
from channeld.core.vocabulary import Concern
from channeld.service.holdings import Group
from channeld.service.mirror import Mirror
from channeld.service.unusual import FACTS, Seen, Unusual

_NOBODY: Final = ()
_FORGET_SLICE: Final = 8192
"""Sums looked at in one step of forgetting: some 2 ms."""
_SUMS: Final = {
    "spent_hour": ("server", 1),
    "spent_day": ("server", DAY_HOURS),
    "user_spent_hour": ("user", 1),
    "user_spent_day": ("user", DAY_HOURS),
    "tier_spent_day": ("tier", DAY_HOURS),
    "payee_spent_hour": ("payee", 1),
    "payee_spent_day": ("payee", DAY_HOURS),
}
"""Facts that are sums: whose, and of how many hours."""
_EVERYBODY: Final = {"user": "/u", "tier": "/t", "payee": "/p"}
"""Where those are counted together that came after `MOST_SUBJECTS`."""


class Facts:
    """One for a daemon. `opens` tells how many channels were opened for a payee after a moment, and may raise
    `StoreError`; `tier` the tier of a request.
    """

    def __init__(
        self,
        mirror: Mirror,
        opens: Callable[[Payee, RippleTime], int],
        tier: Callable[[Ask, Payee], str | None],
    ) -> None:
        self._mirror, self._opens, self._tier = mirror, opens, tier
        self._allowance = Allowance(mirror.spent)
        self.unusual = Unusual(mirror, self._allowance)
        self._asked: frozenset[str] = frozenset()
        self._counted: frozenset[str] = frozenset()
        self._hour, self._subjects, self._most = 0, set[str](), 0
        self._apart = _counted_apart(mirror.spent)
        self._swept = 0
        self._left: Iterator[tuple[str, int]] = iter(())
        self._opened: dict[Payee, int] = {}
        self._opened_at: object = None

    def adopt(self, policy: Policy) -> None:
        """Take over a policy: what its rules ask for, and whose spending is to be counted for them."""
        self._asked = frozenset(fact for rule in policy.chain(Concern.ADMIT) for fact in rule.match)
        self._counted = frozenset(_SUMS[fact][0] for fact in self._asked & _SUMS.keys()) - {"server"}
        self.unusual.adopt(policy)

    # --- what a request is judged by ----------------------------------------------------------------------------------

    def of(self, seen: Seen, group: Group) -> dict[str, Known]:
        """What the rules ask for, and nothing else."""
        asked, (ask, _, payee, fresh, hour) = self._asked, seen
        facts: dict[str, Known] = {"drops": ask.drops, "server": ask.server, "pool": group.pool}
        for fact in asked & _SUMS.keys():
            kind, hours = _SUMS[fact]
            if (subject := self._subject(kind, ask, payee)) is not None:
                facts[fact] = self._sum(subject, kind, hours, (hour, fresh)) + ask.drops
        if "tier" in asked:
            facts["tier"] = self._tier(ask, payee)
        if "region" in asked:
            pool = self._mirror.policy.pools.get(group.pool)
            facts["region"] = pool.regions[0] if pool is not None and len(pool.regions) == 1 else None
        if "locked" in asked:
            facts["locked"] = sum(state.record.channel.remaining for state in group.channels)
        if "payee_opens_day" in asked:
            facts["payee_opens_day"] = self._opens_day(payee)
        for kind, fact in FACTS.items():
            if fact in asked:
                facts[fact], _ = self.unusual.ratio(kind, seen)
        return facts

    def spent_today(self, server: str, now: int) -> int:
        """Drops accepted from a content server in the last 24 hours, the oldest hour counted whole."""
        return self._allowance.spent(server, now // HOUR_S, DAY_HOURS)

    def fewer_in(self, server: str, now: int, most: int) -> int:
        """Seconds until no more than `most` of what was accepted from a content server is of the last 24 hours."""
        hours = self._allowance.falls_to(server, now // HOUR_S, DAY_HOURS, most)
        return max(0, hours * HOUR_S - now % HOUR_S)

    def _sum(self, subject: str, kind: str, hours: int, now: tuple[int, Mapping[str, int]]) -> int:
        """What a subject spent in a window, and what those spent who are not counted apart."""
        hour, fresh = now
        spent = self._allowance.spent(subject, hour, hours) + fresh.get(subject, 0)
        if kind == "server":
            return spent
        everybody = _EVERYBODY[kind]
        return spent + self._allowance.spent(everybody, hour, hours) + fresh.get(everybody, 0)

    def _subject(self, kind: str, ask: Ask, payee: Payee) -> str | None:
        if kind == "server":
            return ask.server
        if kind == "payee":
            return allowance.payee_subject(payee)
        if kind == "user":
            return allowance.user_subject(ask.server, ask.user) if ask.user else None
        tier = self._tier(ask, payee)
        return None if tier is None else allowance.tier_subject(ask.server, tier)

    def _opens_day(self, payee: Payee) -> int:
        """Read from the store once a ledger, for nothing opens in between."""
        header = self._mirror.header
        assert header is not None
        if self._opened_at != header.index:
            self._opened_at = header.index
            self._opened.clear()
        if payee not in self._opened:
            self._opened[payee] = self._opens(payee, RippleTime(header.close_time - DAY_S))
        return self._opened[payee]

    # --- counting -----------------------------------------------------------------------------------------------------

    def counts(self, ask: Ask, group: Group, now: int) -> Sequence[str]:
        """Under which subjects beside its server the drops of a request that was let in are to be counted."""
        if not self._counted and not self.unusual.counting:
            return _NOBODY
        if (hour := now // HOUR_S) != self._hour:
            self._turn(hour)
        found = [*self.unusual.counts(ask, group.pool, group.payee, hour)]
        for kind in self._counted:
            subject = self._subject(kind, ask, group.payee)
            if subject is None:
                continue
            if subject not in self._subjects and len(self._subjects) >= self._most:
                subject = _EVERYBODY[kind]
            self._subjects.add(subject)
            found.append(subject)
        return found

    def rows(self, spent: Mapping[str, int], now: int) -> list[tuple[str, int, int]]:
        """Subject, hour and drops of what a group has spent, as it is stored: days are named by their first hour."""
        hour = now // HOUR_S
        if not self.unusual.counting:
            return [(subject, hour, drops) for subject, drops in spent.items()]
        day = day_of(hour)
        return [(s, day if s.startswith(KNOWN) else hour, drops) for s, drops in spent.items()]

    def _turn(self, hour: int) -> None:
        """Another hour. Two are remembered, for a clock may be put back; in one before them nobody more is counted
        apart.
        """
        latest = max(self._apart, default=0)
        if hour > latest:
            self._apart = {latest: self._apart.get(latest, set()), hour: set()}
        self._hour, self._subjects = hour, self._apart.get(hour, set())
        self._most = MOST_SUBJECTS if hour in self._apart else 0

    def forget(self, now: int) -> bool:
        """A slice of what is to be forgotten once an hour: subjects of more than a day ago, and hours of content
        servers and days of more than a week ago. True if more is left.

        No question to come may be of a time before `now`, in Unix seconds. Then nobody reads them any more: when they
        go matters to memory only.
        """
        hour, spent = now // HOUR_S, self._mirror.spent
        if hour != self._swept:
            self._swept, self._left = hour, iter(list(spent))
        kept = {allowance.SHORT_LIVED: hour - DAY_HOURS, KNOWN: day_of(hour) - DAYS * DAY_HOURS}
        keys = list(islice(self._left, _FORGET_SLICE))
        for key in keys:
            if key[1] < kept.get(key[0][0], hour - USUAL_HOURS):
                spent.pop(key, None)
        return len(keys) == _FORGET_SLICE


def _counted_apart(spent: Iterable[tuple[str, int]]) -> dict[int, set[str]]:
    """Who was counted apart in each of the last two hours in which anybody was: read once, at the start of a life."""
    rows = [(subject, hour) for subject, hour in spent if subject.startswith(allowance.SHORT_LIVED)]
    last = sorted({hour for _, hour in rows})[-2:]
    return {at: {subject for subject, hour in rows if hour == at} for at in last}
