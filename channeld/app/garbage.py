"""When the collector of garbage comes: briefly and often to what is new, and to everything while nobody asks.

Values are freed by counting; only cycles need the collector, and the hot path makes none. But it holds the loop for as
long as it walks, some 0.1 to 0.5 us an object: what every claim leaves behind until it is folded, or a channel's state
that was replaced, adds up to tens of milliseconds where it looks at all of it.
"""

from __future__ import annotations

import gc
from typing import Final

_NEW: Final = 4_000
"""Objects made and not freed again between two looks at them: more than a group of requests has in hand, for what a
group leaves behind is some 20. So claims are hardly ever a reason to look, and a look takes some 1 ms."""
_LOOKS: Final = 1
"""Then at those that survived: some 2 ms."""
_MANY: Final = 20
"""Such longer looks after which everything is worth one, while nobody asks."""
_TOO_MANY: Final = 10_000
"""And after which it must be: hours of the load that a machine can bear, without a second of rest."""


def settle() -> None:
    """What is there now lives as long as we do: after this, no collection looks at it again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, _LOOKS, _TOO_MANY)


def rest() -> bool:
    """Nobody asks just now: collect everything that came up since, if that is worth it. Whether it was."""
    if gc.get_count()[2] < _MANY:
        return False
    gc.collect()
    return True
