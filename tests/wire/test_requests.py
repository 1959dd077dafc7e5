"""What an id of a request is: the same on every topic, whether the rest is good, bad or not read at all."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from channeld.core.requests import Code, Refusal
from channeld.wire.claims import ClaimReader
from channeld.wire.query import Query, read_query
from channeld.wire.receive import read_hand_in
from channeld.wire.strict import readable_id
from channeld.wire.unread import refuse_unread

CLAIM = {"channel_id": "A" * 64, "amount": "5", "signature": "00", "public_key": "ED" * 33}
BUSY = Refusal(Code.BUSY, "too many", 5)


def taken(request_id: Any) -> list[bool]:
    """By whom an id is taken as one: a claim request, a claim handed in, a query and what it asks for; one that is bad
    otherwise, one that is refused unread.
    """

    def said(**fields: Any) -> bytes:
        return json.dumps(fields).encode()

    ((claim,), _) = ClaimReader(0).read("a", said(id=request_id, drops="5"))
    (unread,) = json.loads(refuse_unread(said(x=0, id=request_id).join((b"[", b"]")), BUSY))
    return [
        not isinstance(claim.ask, Refusal),
        not isinstance(read_hand_in("a", said(id=request_id, claim=CLAIM)).ask, Refusal),
        isinstance(read_query(said(id=request_id, channels=True)), Query),
        isinstance(read_query(said(id="q", request=request_id)), Query),
        readable_id(said(id=request_id, x=0)) is not None,
        unread["id"] is not None,
    ]


@pytest.mark.parametrize("request_id", ["r", "x" * 128, " ", "~", '"\\'])
def test_one_to_128_printable_ascii_characters_are_an_id_everywhere(request_id: str) -> None:
    assert taken(request_id) == [True] * 6


@pytest.mark.parametrize("request_id", ["", "x" * 129, "ä", "a\n", "\x1f", "\x7f", 5])
def test_anything_else_is_one_nowhere(request_id: Any) -> None:
    assert taken(request_id) == [False] * 6


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":"a","drops":"\xff"}',
        b'{"id":"\xc3","drops":"1"}',
        b"\xff" * 100,
        b"[" * 10_000,
        b'{"id":"\\ud800","drops":"1"}',
        b'{"id":"a","id":"b","drops":"1"}',
        b'{"id":"a","drops":1e400}',
        b'{"id":"a"',
        b'[{"id":"a","drops":"1"},{"id":"b","drops":"\xff"}]',
    ],
)
def test_what_cannot_be_read_is_let_go_of_at_once(raw: bytes) -> None:
    """Garbage is collected when little is under way: until then a flood of this would stay in memory, all of it."""
    reader = ClaimReader(0)

    def read() -> None:
        reader.read("a", raw)
        read_hand_in("a", raw)
        read_query(raw)

    read()  # what is made once
    gc.collect()
    gc.disable()
    try:
        read()
        assert gc.collect() == 0
    finally:
        gc.enable()
