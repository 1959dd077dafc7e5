"""Take over the operator's files while the daemon runs: when told to, and when they change.

**All or nothing.** What is in force is one settings value and one policy value. The files are read and checked whole in
a thread; only what fits each other, the keys that need a restart and the channels that live is put in their place, in
one turn of the loop. Anything else leaves the old values in force, as if nothing had happened, and says so until the
files are right again.

**A save is one change.** Editors write, truncate, rename and remove. Files are looked at by their stamps every
`POLL_S`, and read once they have been quiet for as long; a reading during which one of them moved counts for nothing.
Stamps and not notifications, for these miss network drives, and the links by which containers exchange files.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from channeld.app.granted import Grants, grants
from channeld.core.errors import ConfigError
from channeld.core.policy import Policy
from channeld.settings import Settings, Stamp, read_again, stamps

log = structlog.get_logger()

POLL_S: Final = 0.2
"""Between two looks at the files."""
RETRY_S: Final = 30.0
"""What was refused is read again after so long: it may have waited for channels to close, or for memory."""
_MOVING_S: Final = 0.1
_MOST_READINGS: Final = 50


class Outcome(enum.Enum):
    """What became of a reading of the files."""

    TAKEN = "taken"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the files on disk are not in force, since when (Unix seconds)."""

    problems: tuple[str, ...]
    since: float


class Running(Protocol):
    """The daemon, as far as a reload knows it."""

    def objections(self, settings: Settings, policy: Policy) -> Sequence[str]:
        """Why this cannot be taken over now, each naming its key; nothing if it can."""
        ...

    def reload(self, settings: Settings, policy: Policy, granted: Grants) -> None:
        """Put this in force; nothing was objected to it."""
        ...

    def reloaded(self, outcome: str) -> None:
        """Count a reading by what became of it."""
        ...


@dataclass(frozen=True, slots=True)
class _Sound:
    """Files that can be read and fit each other. `same`: they say what is in force."""

    settings: Settings
    policy: Policy
    granted: Grants
    same: bool


@dataclass(slots=True)
class _Reading:
    """The stamps of all files that were looked at, and what they say or what is wrong with them."""

    files: Mapping[Path, Stamp]
    sound: _Sound | None = None
    problems: Sequence[str] = ()


class Files:
    """The operator's files: what of them is in force, and what was made of the last change.

    `running` is the daemon of this life, None between two lives: nothing is taken over then. `unix` is for people.
    """

    def __init__(
        self, settings: Settings, policy: Policy, env: Mapping[str, str], unix: Callable[[], float] = time.time
    ) -> None:
        self.settings, self.policy = settings, policy
        self.since = unix()
        self.refusal: Refusal | None = None
        self.running: Running | None = None
        self._env, self._unix = env, unix
        self._read = self._seen = settings.files
        self._asked = asyncio.Event()
        self._one = asyncio.Lock()
        self._retry_at = 0.0

    def ask(self) -> None:
        """Read them again soon, changed or not; asked for while they are being read, they are read once more."""
        self._asked.set()

    async def watch(self) -> None:
        """Read them again whenever that is asked for or due. Until cancelled."""
        while True:
            try:
                if self.running is None:
                    await asyncio.sleep(POLL_S)
                elif await self._wanted():
                    await self.reload()
            except Exception:
                log.exception("defect")

    async def _wanted(self) -> bool:
        """Whether to read now: asked for; or changed since the last reading and then quiet; or refused long ago."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._asked.wait()
        if self._asked.is_set():
            self._asked.clear()
            return True
        before, self._seen = self._seen, await asyncio.to_thread(stamps, self._read)
        if self._seen != self._read:
            return self._seen == before
        return self.refusal is not None and asyncio.get_running_loop().time() >= self._retry_at

    async def reload(self) -> Outcome:
        """Read all files and take them over, or say why not in `refusal`. One reading at a time; others wait."""
        async with self._one:
            found = await self._settled()
            self._read = self._seen = found.files
            self._retry_at = asyncio.get_running_loop().time() + RETRY_S
            if self.running is None:
                self.ask()  # its life ended meanwhile: what there is to object to, only the next one knows
                return Outcome.REFUSED
            return self._judge(self.running, found)

    async def _settled(self) -> _Reading:
        """A reading during which no file moved."""
        for _ in range(_MOST_READINGS):
            found = await asyncio.to_thread(self._reading)
            if found.files == await asyncio.to_thread(stamps, found.files):
                return found
            await asyncio.sleep(_MOVING_S)
        return _Reading(found.files, problems=["the files keep changing while they are read (reload when they do not)"])

    def _reading(self) -> _Reading:
        """Read everything, in a thread: it may take seconds, on a network drive longer."""
        known, opened = stamps(self.settings.files), dict[Path, Stamp]()
        try:
            settings, policy = read_again(self.settings, self._env, opened)
        except ConfigError as error:
            return _Reading({**known, **opened}, problems=error.problems)
        same = policy.hash == self.policy.hash and settings == self.settings
        before = grants(self.settings).audience
        return _Reading(opened, _Sound(settings, policy, grants(settings, before), same))

    def _judge(self, running: Running, found: _Reading) -> Outcome:
        """What becomes of a reading, in one turn of the loop."""
        sound, problems = found.sound, found.problems
        if sound is not None and not sound.same:
            problems = running.objections(sound.settings, sound.policy)
        if sound is None or problems:
            outcome = self._refused(tuple(problems))
        elif sound.same:
            outcome = self._right()
        else:
            outcome = self._right()
            self.settings, self.policy, self.since, outcome = sound.settings, sound.policy, self._unix(), Outcome.TAKEN
            running.reload(sound.settings, sound.policy, sound.granted)
        running.reloaded(outcome.value)
        return outcome

    def _right(self) -> Outcome:
        if self.refusal is not None:
            self.refusal = None
            log.info("reload_mended")
        return Outcome.UNCHANGED

    def _refused(self, problems: tuple[str, ...]) -> Outcome:
        if self.refusal is None or self.refusal.problems != problems:
            self.refusal = Refusal(problems, self._unix())
            log.error("reload_refused", in_force=self.policy.hash[:12], problems=problems)
        return Outcome.REFUSED
