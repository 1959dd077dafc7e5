"""Moments as people write them on a command line, and read them there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from channeld.core.errors import BadValue
from channeld.core.units import parse_duration

MOMENT_REMEDY: Final = "Unix seconds, 2026-12-01T00:00:00Z, or how long ago: 90s, 10m, 24h"


def read_moment(text: str, now: float) -> int:
    """Unix seconds of a moment: itself, ISO 8601 (without a zone: UTC), or so long before `now`."""
    if re.fullmatch(r"[0-9]{1,11}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[0-9]+ ?[smhdw]", text, re.ASCII):
        return int(now) - parse_duration(text, "moment")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadValue("moment", "not a moment", MOMENT_REMEDY) from None
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def show_moment(at_unix: int | None) -> str:
    """A moment for a person, in UTC; what is not known is a question mark."""
    return "?" if at_unix is None else datetime.fromtimestamp(at_unix, UTC).strftime("%Y-%m-%d %H:%M:%S")
