"""`channeld` as it is, but it kills itself: `deadly.py CONTACTS STEP KIND before|after NTH run --config FILE`.

Every step that is reached is appended to the file CONTACTS. When the one that is named is reached for the NTH time, the
process sends itself SIGKILL, and nothing is flushed or handed back. NTH 0: never.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import Final

from channeld.cli import main
from channeld.service import steps

_PLACES: Final = 6


def arm(contacts: str, step: str, kind: str, when: str, nth: str) -> None:
    """From here on every step is watched. What runs in production watches nothing, through the same hook."""
    log = os.open(contacts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen: Counter[tuple[str, str, str]] = Counter()

    def reached(at: steps.Step, of: str, after: bool) -> None:
        place = (at.value, of, "after" if after else "before")
        seen[place] += 1
        os.write(log, f"{' '.join(place)}\n".replace("  ", " - ").encode())
        if place == (step, kind, when) and seen[place] == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    steps.UNWATCHED._reached = reached


if __name__ == "__main__":
    arm(*sys.argv[1:_PLACES])
    sys.argv[1:_PLACES] = []
    main()
