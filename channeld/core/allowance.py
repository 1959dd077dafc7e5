"""What was spent by whom, hour by hour, and what is usual: the facts that the rules of `admit` ask for. Pure.

Sums are kept by subject and hour of Unix time. A window of n hours counts its oldest hour whole, so that whoever keeps
below a bound in it keeps below it in any n hours of real time. What is usual is learned from a subject's own history:
the spending that nine of ten of its last hours did not exceed, or the mean where that is more. A tenth of a week must
have been out of the ordinary before the ordinary follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from channeld.core.vocabulary import PPM

DAY_HOURS: Final = 24
USUAL_HOURS: Final = 168
"""Hours that are looked back to learn what is usual."""
LEAST_HOURS: Final = 24
"""Hours that must be known of a subject before anything is usual for it."""
SHORT_LIVED: Final = "/"
"""Subjects that begin with it are remembered for a day only; no content server's subject does."""
MOST_SUBJECTS: Final = 50_000
"""Users, payees and tiers counted apart in one hour; those that come later share one sum."""
MOST_PAST: Final = 32_768
"""Sums of past hours that are remembered, some 8 MB: whoever asks adds to them, refused or not. To drop all of them
takes less than 1 ms; where more are asked for in an hour, each costs 2 us again of some 100 that a request takes."""

Sums = Mapping[tuple[str, int], int]
"""Drops by subject and hour."""


def user_subject(server: str, user: str) -> str:
    """A user of a content server, by a hash of its name: users are not written down."""
    return f"/u/{server}/{user_hash(user)}"


def user_hash(user: str) -> str:
    """What a user is called where its name is not to be written down."""
    return hashlib.blake2b(user.encode(), digest_size=12).hexdigest()


def payee_subject(payee: object) -> str:
    """A payee, whoever asks for it."""
    return f"/p/{payee}"


def tier_subject(server: str, tier: str) -> str:
    """A tier of a content server's users."""
    return f"/t/{server}/{tier}"


def usual_of(known: Sequence[int]) -> int:
    """What nine of ten of these do not exceed, or their mean where that is more; they are in order."""
    return max(known[(len(known) * 9 - 1) // 10], sum(known) // len(known))


class Allowance:
    """Reads the sums of subjects. What the passing of an hour alone can change is remembered until then.

    `sums` is read anew with every question and may grow in the meantime, but only in the hour that is asked about.
    """

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._hour = 0
        self._past: dict[tuple[str, int], int] = {}
        self._usual: dict[str, int | None] = {}
        self._default: tuple[int | None] | None = None

    def _at(self, hour: int) -> None:
        if hour != self._hour:
            self._hour, self._default = hour, None
            self._past.clear()
            self._usual.clear()

    def spent(self, subject: str, hour: int, hours: int) -> int:
        """Drops in `hour` and the `hours` before it."""
        self._at(hour)
        past = self._past.get((subject, hours))
        if past is None:
            if len(self._past) >= MOST_PAST:
                self._past.clear()
            sums = self._sums
            past = self._past[subject, hours] = sum(sums.get((subject, h), 0) for h in range(hour - hours, hour))
        return past + self._sums.get((subject, hour), 0)

    def falls_to(self, subject: str, hour: int, hours: int, most: int) -> int:
        """Hours until no more than `most` of what was spent is in the window, if nothing more is: 0 to `hours` + 1."""
        left, sums = self.spent(subject, hour, hours), self._sums
        for passed in range(hours + 1):
            if left <= most:
                return passed
            left -= sums.get((subject, hour - hours + passed), 0)
        return hours + 1

    def usual(self, subject: str, hour: int) -> int | None:
        """Drops an hour that are usual for a subject, 1 or more; None while too little is known of it."""
        self._at(hour)
        if subject not in self._usual:
            self._usual[subject] = self._learn(subject, hour)
        return self._usual[subject]

    def _learn(self, subject: str, hour: int) -> int | None:
        hours = [self._sums.get((subject, h), 0) for h in range(hour - USUAL_HOURS, hour)]
        first = next((n for n, drops in enumerate(hours) if drops), USUAL_HOURS)
        known = sorted(hours[first:])
        if len(known) < LEAST_HOURS:
            return None
        return max(1, usual_of(known))

    def anomaly(self, subject: str, others: Iterable[str], hour: int, drops: int) -> int | None:
        """How far `drops` in this hour are from what is usual, in millionths; 1 000 000 is usual.

        Of a subject that is not known yet, against the median of the `others` that are; None where none is.
        """
        usual = self.usual(subject, hour)
        if usual is None:
            usual = self._median(others, hour)
        return None if usual is None else drops * PPM // usual

    def _median(self, others: Iterable[str], hour: int) -> int | None:
        if self._default is None:
            known = sorted(u for other in others if (u := self.usual(other, hour)) is not None)
            self._default = (known[len(known) // 2] if known else None,)
        return self._default[0]
