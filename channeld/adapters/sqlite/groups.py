"""A group of requests as it stands on disk from the moment it is accepted until it is folded: one row, MessagePack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from channeld.adapters.sqlite.blocks import Kept
from channeld.core.units import RippleTime

Mark = tuple[int, int, RippleTime, RippleTime | None]
"""Row of a channel, how far it is signed, its last claim, since when something on it is not redeemed."""
Spent = tuple[str, int, int]
"""Content server (or what else is counted), hour, drops."""


class Body(msgspec.Struct, array_like=True, gc=False):
    """A group as it stands on disk (MessagePack): its requests in columns, numbered from `first` on."""

    at_unix: int
    first: int
    keys: Sequence[bytes]
    contents: Sequence[bytes]
    rows: Sequence[int]
    covers_from: Sequence[int]
    covers_to: Sequence[int]
    signed: Sequence[int]
    servers: Sequence[str]
    marks: Sequence[Mark]
    spent: Sequence[Spent]

    def facts(self) -> Iterator[tuple[int, int, int, int]]:
        """Of each request: row of its channel, covers from, covers to, signed."""
        return zip(self.rows, self.covers_from, self.covers_to, self.signed, strict=True)

    @property
    def hour(self) -> int:
        """Unix time / 3600 when it was accepted."""
        return self.at_unix // 3600

    def request(self, at: int) -> Kept:
        """One of them, by its place."""
        numbers = (self.rows[at], self.covers_from[at], self.covers_to[at], self.signed[at])
        return Kept(self.contents[at], *numbers, self.at_unix)


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Body).decode


@dataclass(frozen=True, slots=True)
class Group:
    """A group that is on disk and not folded yet, and the rows of the channels that it signed."""

    number: int
    body: Body
    marked: tuple[int, ...]


def signed_in(bodies: Iterable[bytes]) -> dict[int, int]:
    """How far groups that are not folded sign each channel, by the channel's row."""
    return {row: authorized for body in bodies for row, authorized, *_ in decode(body).marks}


def accepted_in(bodies: Iterable[bytes], key: bytes) -> Kept | None:
    """A request in groups that are not folded; None if it is in none."""
    for encoded in bodies:
        if key in encoded:  # the bytes stand there as they are: few groups need to be read
            body = decode(encoded)
            if key in body.keys:
                return body.request(body.keys.index(key))
    return None
