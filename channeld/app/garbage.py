"""When garbage is collected: while little is under way, and to everything while nobody asks.

Values are freed by counting; only cycles need the collector, and the hot path makes none. But it holds the loop for as
long as it walks, some 0.1 to 2 us an object, and left to itself it comes when much is under way: beside a flood ten
times a second, for 10 ms each time, to find nothing. So it comes when it is told to.
"""

from __future__ import annotations

import gc
from typing import Final

EVERY_S: Final = 0.05
"""Between two moments at which it might come: small groups leave some 16 objects each until they are folded, and what
half a second of them leaves takes 10 ms to walk."""
_FEW: Final = 1_000
"""Objects made since and not freed again that are not worth a look."""
_OLDER: Final = 1_000
"""Looks at what is new, after which those that survived them are looked at again."""
_MANY: Final = 4
"""Such longer looks after which everything is worth one, while nobody asks."""
_PATIENCE: Final = 1_200
"""Moments that may pass one after the other without a look, because much is under way: a minute."""
_TOO_MANY: Final = 400
"""And after which it must be: hours without two seconds of rest. It takes a tenth of a second or two."""
_REST: Final = 40
"""Moments in a row at which nobody asked, after which nobody is expected to."""


def settle() -> None:
    """What is there now is there for good: until `unsettle` no collection looks at it, and none comes by itself."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.disable()


def unsettle() -> None:
    """Nobody tells the collector any more when to come."""
    gc.unfreeze()
    gc.enable()


class Garbage:
    """Decides at every moment whether to collect, and what."""

    def __init__(self) -> None:
        self._quiet = self._passed = 0
        self._looks = self._longer = 0

    def moment(self, *, asked: bool, crowded: bool) -> int | None:
        """Collect what this moment allows; which generation that was, 2 for everything, or None.

        `asked`: requests came since the last one. `crowded`: many wait, or their replies do; what came up meanwhile is
        walked through at once when that ends, some 30 ms for 100 000 objects.
        """
        self._quiet = 0 if asked or crowded else self._quiet + 1
        if crowded and self._passed < _PATIENCE:
            self._passed += 1
            return None
        self._passed = 0
        if self._longer >= (_MANY if self._quiet >= _REST else _TOO_MANY):
            return self._collect(2)
        if gc.get_count()[0] < _FEW:
            return None
        return self._collect(1 if self._looks >= _OLDER else 0)

    def _collect(self, generation: int) -> int:
        gc.collect(generation)
        self._looks = self._looks + 1 if generation == 0 else 0
        if generation:
            self._longer = self._longer + 1 if generation == 1 else 0
        return generation
