"""Every step from a decision to its final outcome, by name.

Each step is entered through one hook, before and after. Nothing here does anything: the hook is where a test dies, to
show that whatever was going on, a new process that knows only the store and the ledger ends where this one would have.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Step(enum.Enum):
    """The steps of an intent, in order. Between any two of them the process may end."""

    JOURNALED = "journaled"
    """What was decided is written down."""
    NUMBER_RESERVED = "number_reserved"
    """A sequence or a ticket is picked, in memory only."""
    SIGNED = "signed"
    """A blob exists, in memory only."""
    PERSISTED = "persisted"
    """The blob is on disk with its number and last ledger; from here on it may be validated."""
    SENT = "sent"
    """A node was given it, each node and each time; whether it arrived is not known before the answer, and not for good
    then either."""
    ANSWERED = "answered"
    """A node's provisional answer was heeded."""
    VALIDATED = "validated"
    """A validated ledger was seen to hold it, and what it achieved is judged."""
    OUTCOME_WRITTEN = "outcome_written"
    """What a span of ledgers changed is on disk: channels, endings, payments, intents, setbacks, tickets."""
    OUTCOME_ADOPTED = "outcome_adopted"
    """And in memory."""
    ARCHIVED = "archived"
    """Channels long gone left the live tables: in the archive is what there was of them."""
    MOOTED = "mooted"
    """An intent was overtaken before anything was signed, and that is written down."""


class Steps:
    """`with steps(Step.SIGNED, kind):` tells `reached` (step, kind, False) before and (step, kind, True) after."""

    def __init__(self, reached: Callable[[Step, str, bool], None]) -> None:
        self._reached = reached

    @contextmanager
    def __call__(self, step: Step, kind: str = "") -> Iterator[None]:
        """Mark one step of an intent of `kind` ("" where it is of many). A step that raises is never left."""
        self._reached(step, kind, False)
        yield
        self._reached(step, kind, True)


UNWATCHED = Steps(lambda _step, _kind, _after: None)
"""What runs in production."""
