"""Every kind of lie is caught by the one check that is meant for it, and by no other."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
from client.scene import DROPS, SOLD, Scene, Told, kinds, lies

from channeld.client import errors
from channeld.client.booking import take_slice
from channeld.client.checks import ANSWER_CHECKS, CHANNEL_CHECKS, Asked, Known, Terms, check_answer, check_channel
from channeld.client.claims_file import SCHEMA
from channeld.core.errors import Malformed
from channeld.core.units import RippleTime, to_ripple
from channeld.wire.answers import Accepted, contents_of, read_answers

NOW = to_ripple(time.time())
EACH = 15


@pytest.fixture(scope="module")
def scene() -> Scene:
    made = Scene()
    made.invent(NOW)
    return made


@pytest.fixture
def sold(scene: Scene) -> Iterator[sqlite3.Connection]:
    """A claims file in which the good channel is sold up to `SOLD`."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    take_slice(db, read(json.dumps(scene.answer("x", 0, SOLD)).encode()))
    yield db
    db.close()


def read(payload: bytes) -> Accepted:
    (said,), _ = read_answers(payload)
    assert isinstance(said, Accepted)
    return said


def asked(scene: Scene, request_id: str = "r1") -> Asked:
    return Asked(request_id, scene.payee, DROPS, 2**31, contents_of(scene.payee, DROPS, 2**31))


def known(scene: Scene, said: Accepted) -> Known:
    on = [c for c in scene.channels.values() if c.channel_id == said.claim.channel_id]
    return Known(on[0] if on else None, False, NOW)


def complaints(scene: Scene, db: sqlite3.Connection, payload: bytes, terms: Terms) -> list[type[errors.ClientError]]:
    """What every check says, each by itself."""
    try:
        said = read(payload)
    except (Malformed, ValueError, AssertionError):
        return [errors.MalformedAnswer]
    found: list[type[errors.ClientError]] = []
    question = asked(scene)
    for check in ANSWER_CHECKS:
        found += raised(partial(check, said, question, terms))
    for look in CHANNEL_CHECKS:
        found += raised(partial(look, said, question, terms, known(scene, said)))
    db.execute("BEGIN")
    found += raised(partial(take_slice, db, said))
    db.execute("ROLLBACK")
    return found


def raised(check: Callable[[], object]) -> list[type[errors.ClientError]]:
    try:
        check()
    except errors.Lie as error:
        return [type(error)]
    return []


def test_a_correct_answer_passes_every_check(scene: Scene, sold: sqlite3.Connection) -> None:
    honest = json.dumps(scene.answer("r1", SOLD)).encode()
    assert complaints(scene, sold, honest, scene.terms(pinned=True)) == []


@pytest.mark.parametrize("kind", range(kinds()))
def test_each_lie_fails_the_check_meant_for_it_and_no_other(scene: Scene, sold: sqlite3.Connection, kind: int) -> None:
    rng = random.Random(kind)
    for _ in range(EACH):
        told: Told = lies(scene, rng, "r1", SOLD, kind)
        found = complaints(scene, sold, told.payload, scene.terms(pinned=told.pinned))
        assert found == [told.expected], (told.kind, told.payload)


def test_there_is_a_lie_for_every_check() -> None:
    """So none of them could be left out without a test that fails."""
    scene = Scene()
    scene.invent(NOW)
    caught = {lies(scene, random.Random(1), "r1", SOLD, kind).expected for kind in range(kinds())}
    every = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Lie)}
    assert every - caught == {errors.Lie, errors.ChannelEnds, errors.ChangedAnswer}


def test_a_lie_says_what_was_asked_and_what_was_said(scene: Scene) -> None:
    said = read(json.dumps(scene.answer("r2", SOLD)).encode())
    with pytest.raises(errors.WrongId) as caught:
        check_answer(said, asked(scene), scene.terms(pinned=True))
    assert (caught.value.id, caught.value.accepted) == ("r1", said)
    with pytest.raises(errors.NoSuchChannel) as gone:
        check_channel(said, asked(scene), scene.terms(pinned=True), Known(None, False, NOW))
    assert (gone.value.id, gone.value.accepted) == ("r1", said)


@pytest.mark.parametrize("what", ["expiration", "cancel_after"])
def test_an_end_is_an_end_at_the_second_itself(scene: Scene, what: str) -> None:
    """The earlier of the ledger's two rules: at the deadline nothing counts as payable any more."""
    said = read(json.dumps(scene.answer("r1", SOLD)).encode())
    for left, error in [(0, errors.ChannelExpired), (1, None)]:
        on = replace(scene.channels["good"], **{what: RippleTime(NOW + left)})
        expected = error or (errors.ChannelClosing if what == "expiration" else errors.ChannelTooShort)
        with pytest.raises(expected) as caught:
            check_channel(said, asked(scene), scene.terms(pinned=True), Known(on, False, NOW))
        assert type(caught.value) is expected
