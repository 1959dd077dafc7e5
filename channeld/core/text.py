"""Texts of people: what can be written, and how one is shown so that a terminal does nothing but show it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

HALF_A_CHARACTER: Final = re.compile(r"[\ud800-\udfff]")
"""Half of a surrogate pair, or a byte that was no UTF-8: a text with one cannot be written anywhere."""
_ACTS: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that are not seen but obeyed: they move, colour, turn round, break the line."""


def shown(text: str) -> str:
    """The text with an escape in place of each character that would be obeyed, a line's end too: `\\x1b`, `\\n`."""
    if text.isprintable():
        return text
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _ACTS else c for c in text)
