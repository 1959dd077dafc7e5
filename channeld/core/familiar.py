"""What is usual for a user or a payee, learned from the days on which it spent. Pure.

Content servers are judged by the hour (`core.allowance`); who reads an article now and then has no usual hour, so users
and payees are judged by the day. A day is one of Unix time and is named by its first hour. Usual is what nine of ten of
the days of the last week did not exceed on which anything was spent, or their mean where that is more; with fewer than
three such days, the median of the others of its kind in its pool. A sum of a day is durable like every other sum.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from channeld.core.allowance import DAY_HOURS, user_hash, usual_of
from channeld.core.vocabulary import PPM

KNOWN: Final = "+"
"""Subjects that begin with it are summed by days; no content server's does, nor any that is summed by hours."""
DAYS: Final = 7
"""Days that are looked back."""
LEAST_DAYS: Final = 3
"""Days with spending that must be known of a subject before anything is usual for it."""
MOST_ROWS: Final = 200_000
"""Sums of days that are kept, some 40 MB. Whoever's users come when there is no room are not judged apart."""
MOST_USUAL: Final = 32_768
"""Users and payees of whom it is remembered what is usual; for more it is worked out again (see `MOST_PAST`)."""
_NAMES: Final = 16_384
"""Names that are not made anew for every request."""
SAMPLE: Final = 200
"""Subjects whose median stands for those of whom little is known."""


@lru_cache(_NAMES)
def user_known(pool: str, server: str, user: str) -> str:
    """A user of a content server in a pool."""
    return f"{KNOWN}u/{pool}/{server}/{user_hash(user)}"


@lru_cache(_NAMES)
def payee_known(pool: str, payee: object) -> str:
    """A payee in a pool, whoever asks for it."""
    return f"{KNOWN}p/{pool}/{payee}"


def day_of(hour: int) -> int:
    """The first hour of the day of an hour."""
    return hour - hour % DAY_HOURS


def _kin(subject: str) -> str:
    """What those of its kind in its pool begin with."""
    kind, pool, _ = subject.split("/", 2)
    return f"{kind}/{pool}"


def _owner(subject: str) -> str:
    """Who shares the room with others: a content server for its users, all payees together."""
    kind, _, rest = subject.split("/", 2)
    return rest.partition("/")[0] if kind == f"{KNOWN}u" else ""


class _Day:
    """Whose sums there are of one day: how many by owner, and the first few names of each kind, by the alphabet."""

    __slots__ = ("first", "own")

    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {}

    def add(self, subject: str, owner: str) -> None:
        """It is new on this day."""
        self.own[owner] += 1
        first = self.first.setdefault(_kin(subject), [])
        if len(first) < SAMPLE or subject < first[-1]:
            insort(first, subject)
            del first[SAMPLE:]


class Familiar:
    """Reads the sums of days in `sums`, all of them once, here; from then on a day costs what is new on it.

    `opened` must be told of every row that is about to be new, and nothing but rows older than a week may go.
    """

    def __init__(self, sums: Mapping[tuple[str, int], int]) -> None:
        self._sums = sums
        self._day = -1
        self._days: dict[int, _Day] = {}
        self._own: Counter[str] = Counter()
        self.rows = 0
        """Sums of days that are known."""
        for subject, day in sums:
            if subject.startswith(KNOWN):
                self._add(subject, day)
        self._opened: set[str] = set()
        self._usual: dict[str, int | None] = {}
        self._default: dict[str, int | None] = {}

    def _add(self, subject: str, day: int) -> None:
        owner, known = _owner(subject), self._days.get(day)
        if known is None:
            known = self._days[day] = _Day()
        known.add(subject, owner)
        self._own[owner] += 1
        self.rows += 1

    def _at(self, day: int) -> None:
        """Another day: what is a week old is not looked back at any more."""
        if day != self._day:
            self._day = day
            self._opened, self._usual, self._default = set(), {}, {}
            for old in [known for known in self._days if known < day - DAYS * DAY_HOURS]:
                gone = self._days.pop(old).own
                self._own -= gone
                self.rows -= gone.total()

    def has_room(self, subject: str, day: int) -> bool:
        """Whether a subject is, or may be, counted apart today: nobody takes more room than is left."""
        self._at(day)
        if (subject, day) in self._sums or subject in self._opened:
            return True
        return self._own[_owner(subject)] < MOST_ROWS - self.rows

    def opened(self, subject: str, day: int) -> None:
        """Something of a subject that has room is counted today."""
        self._at(day)
        if (subject, day) not in self._sums and subject not in self._opened:
            self._opened.add(subject)
            self._add(subject, day)

    def usual(self, subject: str, day: int) -> int | None:
        """Drops a day that are usual, 1 or more; None while nothing is known of it or of any other of its kind."""
        self._at(day)
        own = self._learned(subject, day)
        return self._of_others(_kin(subject), day) if own is None else own

    def ratio(self, subject: str, day: int, drops: int) -> int | None:
        """How far `drops` in this day are from what is usual, in millionths; None where nobody knows."""
        usual = self.usual(subject, day) if self.has_room(subject, day) else None
        return None if usual is None else drops * PPM // usual

    def _learned(self, subject: str, day: int) -> int | None:
        if subject not in self._usual:
            if len(self._usual) >= MOST_USUAL:
                self._usual.clear()
            days = (self._sums.get((subject, day - DAY_HOURS * n), 0) for n in range(1, DAYS + 1))
            spent = sorted(drops for drops in days if drops)
            self._usual[subject] = usual_of(spent) if len(spent) >= LEAST_DAYS else None
        return self._usual[subject]

    def _of_others(self, kin: str, day: int) -> int | None:
        """The median of a sample, which is the same whoever came first today."""
        if kin not in self._default:
            older = set[str]().union(*(known.first.get(kin, ()) for at, known in self._days.items() if at < day))
            known = sorted(u for subject in sorted(older)[:SAMPLE] if (u := self._learned(subject, day)) is not None)
            self._default[kin] = known[len(known) // 2] if known else None
        return self._default[kin]
