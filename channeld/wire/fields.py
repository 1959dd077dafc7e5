"""Fields of JSON objects that others wrote: each is what was promised, or `Malformed` is raised.

On the standard library alone, for the client's sake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from channeld.core.errors import Malformed
from channeld.core.units import MAX_UINT32, RippleTime

Json = Mapping[str, Any]


def uint32(said: Json, name: str) -> int:
    """An unsigned 32-bit number, which must be there."""
    if type(value := said.get(name)) is int and 0 <= value <= MAX_UINT32:
        return value
    raise Malformed(f"{name}: not an unsigned 32-bit number")


def optional_uint32(said: Json, name: str) -> int | None:
    """An unsigned 32-bit number; None where the field is absent or null."""
    return None if said.get(name) is None else uint32(said, name)


def ripple_time(said: Json, name: str) -> RippleTime | None:
    """A moment in ledger time; None where the field is absent or null."""
    value = optional_uint32(said, name)
    return None if value is None else RippleTime(value)


def inner(said: Json, name: str) -> Json:
    """An object in the object."""
    if isinstance(value := said.get(name), dict):
        return value
    raise Malformed(f"{name}: not an object")
