"""JSON read strictly: what decoders let pass, and what can be saved of an object that is bad otherwise."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

from channeld.core.errors import BadValue

ID: Final = re.compile(r"\A[\x20-\x7e]{1,128}\Z", re.ASCII)
"""What an id of a request is."""


def refuse_repeated(raw: bytes) -> None:
    """Raise `BadValue` for a name that stands in an object more than once, at any depth. `raw` must be JSON."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            name = next(name for name, count in Counter(names).items() if count > 1)
            raise BadValue(name[:64], "stands in the object more than once")

    json.loads(raw, object_pairs_hook=once)


def readable_id(raw: bytes) -> str | None:
    """The id of a request that is bad otherwise, if it is one and stands there once."""
    try:
        # an object becomes a tuple, an array stays a list; whole numbers may have more digits than Python reads
        pairs = json.loads(raw, object_pairs_hook=tuple, parse_int=len)
    except (ValueError, RecursionError):
        return None
    ids = [value for name, value in pairs if name == "id"] if isinstance(pairs, tuple) else []
    return ids[0] if len(ids) == 1 and isinstance(ids[0], str) and ID.search(ids[0]) else None
