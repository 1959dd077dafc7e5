"""Topic names and filters. Pure.

Sources: OASIS MQTT 5.0 sections 4.7.1 (wildcards), 4.7.2 (topics beginning with $), 4.7.3 (names), 4.8.2 (shared).
"""

from __future__ import annotations

from typing import Final

MAX_LEVELS: Final = 128
"""A filter of more levels is refused, for the cost of matching grows with them."""


def valid_filter(pattern: str) -> bool:
    """Whether a client may subscribe to it: `+` and `#` fill a level, `#` is the last, no NUL, 1..65535 bytes."""
    levels = pattern.split("/")
    if not pattern or "\0" in pattern or len(levels) > MAX_LEVELS:
        return False
    if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        return False
    return "#" not in levels[:-1]


def valid_topic(topic: str) -> bool:
    """Whether a message may be published to it: 1 character or more, no wildcard, no NUL."""
    return bool(topic) and not ("+" in topic or "#" in topic or "\0" in topic)


def matches(pattern: str, topic: str) -> bool:
    """Whether a valid filter takes a valid topic.

    `a/#` takes `a` as well; a leading wildcard takes nothing that starts with $.
    """
    if pattern == topic:
        return True
    if topic[0] == "$" and pattern[0] in "+#":
        return False
    wanted, given = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        if len(given) < len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(w in ("+", g) for w, g in zip(wanted, given, strict=True))


def has_wildcard(pattern: str) -> bool:
    return "+" in pattern or "#" in pattern
