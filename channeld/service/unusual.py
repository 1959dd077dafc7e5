"""What is unusual for a content server, a user or a payee, and what a pool's terms say to that.

Servers are compared hour by hour, users and payees day by day. Of those only what the policy asks for is counted: by
the rules of `admit`, or by the `anomaly` of a pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from channeld.core.allowance import Allowance
from channeld.core.familiar import Familiar, day_of, payee_known, user_known
from channeld.core.policy import Anomaly, Policy
from channeld.core.requests import Ask
from channeld.core.units import Payee
from channeld.core.vocabulary import Concern
from channeld.service.mirror import Mirror

FACTS: Final = {"server": "anomaly", "user": "user_anomaly", "payee": "payee_anomaly"}
"""What the ratio of each is called in rules, histories and metrics."""
_STEPS: Final = ("slow_down", "refuse", "hold")

Fresh = Mapping[str, int]
"""Drops by subject that the group being decided has spent so far."""


class Seen(NamedTuple):
    """A request as it is judged: of a pool, for a payee, with what its group has spent so far, in an hour."""

    ask: Ask
    pool: str
    payee: Payee
    fresh: Fresh
    hour: int


class Found(NamedTuple):
    """What a pool's terms say of a request: for whom it is unusual, what is done, and how unusual it is."""

    whom: str
    act: str
    ratio: int
    drops: int
    terms: Anomaly


class Unusual:
    """One for a daemon. `allowance` reads the sums of hours."""

    def __init__(self, mirror: Mirror, allowance: Allowance) -> None:
        self._mirror, self._allowance = mirror, allowance
        self._familiar = Familiar(mirror.spent)
        self._days: tuple[str, ...] = ()
        self.watching = False
        """Whether some pool has terms for it."""

    def adopt(self, policy: Policy) -> None:
        """Take over a policy: whose days are to be counted from now on."""
        self.watching = any(pool.anomaly is not None for pool in policy.pools.values())
        asked = {fact for rule in policy.chain(Concern.ADMIT) for fact in rule.match}
        self._days = tuple(kind for kind in ("user", "payee") if self.watching or FACTS[kind] in asked)

    @property
    def counting(self) -> bool:
        """Whether days are counted."""
        return bool(self._days)

    # --- how unusual --------------------------------------------------------------------------------------------------

    def ratio(self, kind: str, seen: Seen) -> tuple[int | None, int]:
        """How unusual a request makes the spending of its server, user or payee, and that spending in drops.

        In millionths of what is usual; None where nobody knows.
        """
        ask, pool, payee, fresh, hour = seen
        if kind == "server":
            spent = self._allowance.spent(ask.server, hour, 0) + fresh.get(ask.server, 0) + ask.drops
            return self._allowance.anomaly(ask.server, self._mirror.grants, hour, spent), spent
        subject = _subject(kind, ask, pool, payee)
        if subject is None or not self._days:
            return None, ask.drops
        day = day_of(hour)
        spent = self._mirror.spent.get((subject, day), 0) + fresh.get(subject, 0) + ask.drops
        return self._familiar.ratio(subject, day, spent), spent

    def found(self, terms: Anomaly, seen: Seen) -> Found | None:
        """The most that the terms of its pool say to a request; None: they let it in."""
        worst: Found | None = None
        for kind in FACTS:
            ratio, drops = self.ratio(kind, seen)
            if ratio is None or drops <= terms.least or (act := terms.act(ratio)) is None:
                continue
            if worst is None or _STEPS.index(act) > _STEPS.index(worst.act):
                worst = Found(kind, act, ratio, drops, terms)
        return worst

    # --- counting -----------------------------------------------------------------------------------------------------

    def counts(self, ask: Ask, pool: str, payee: Payee, hour: int) -> Sequence[str]:
        """Under which subjects the drops of a request that was let in are to be counted by days."""
        if not self._days:
            return ()
        day, found = day_of(hour), []
        for kind in self._days:
            subject = _subject(kind, ask, pool, payee)
            if subject is not None and self._familiar.has_room(subject, day):
                self._familiar.opened(subject, day)
                found.append(subject)
        return found


def _subject(kind: str, ask: Ask, pool: str, payee: Payee) -> str | None:
    if kind == "payee":
        return payee_known(pool, payee)
    return user_known(pool, ask.server, ask.user) if ask.user else None
