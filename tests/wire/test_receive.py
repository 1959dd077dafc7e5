"""The `receive` topic: what is read, what is refused and how the reply looks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core.requests import Code, HandIn, Refusal, Taken
from channeld.wire.receive import read_hand_in, taken_in

CLAIM = {"channel_id": "ab" * 32, "amount": "90000", "signature": "0a" * 64, "public_key": "ed" + "01" * 32}


def read(request: Any) -> HandIn:
    ask = read_hand_in("a", json.dumps(request).encode()).ask
    assert isinstance(ask, HandIn), ask
    return ask


def refusal(payload: bytes) -> tuple[str | None, str]:
    parsed = read_hand_in("a", payload)
    assert isinstance(parsed.ask, Refusal)
    assert parsed.ask.code is Code.BAD_REQUEST
    return parsed.id, parsed.ask.reason


def test_a_claim_is_read_in_either_case_and_means_the_same() -> None:
    upper = {k: v.upper() for k, v in CLAIM.items()}
    lower, other = read({"id": "a1", "claim": CLAIM}), read({"claim": upper, "id": "a1"})
    assert lower == other
    assert (lower.channel_id, lower.amount, lower.public_key) == ("AB" * 32, 90000, "ED" + "01" * 32)
    assert lower.signature == b"\n" * 64


@pytest.mark.parametrize("field", CLAIM)
def test_another_claim_has_other_contents(field: str) -> None:
    changed = {"channel_id": "cd" * 32, "amount": "9000", "signature": "0b" * 64, "public_key": "ed" + "02" * 32}
    one, two = read({"id": "a1", "claim": CLAIM}), read({"id": "a1", "claim": {**CLAIM, field: changed[field]}})
    assert one.key == two.key
    assert one.contents != two.contents


def test_an_id_of_the_claim_topic_is_another_id() -> None:
    from channeld.wire.requests import request_key

    assert read({"id": "a1", "claim": CLAIM}).key != request_key("a", "claim", "a1")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"id": "a1"}, "claim: missing"),
        ({"id": "a1", "claim": None}, "claim: "),
        ({"id": "a1", "claim": {**CLAIM, "amount": 5}}, "claim: "),
        ({"id": "a1", "claim": {**CLAIM, "amount": "0"}}, "claim: "),
        ({"id": "a1", "claim": {**CLAIM, "amount": "1" * 19}}, "claim: "),
        ({"id": "a1", "claim": {**CLAIM, "amount": "100000000000000001"}}, "claim: amount: more drops than exist"),
        ({"id": "a1", "claim": {**CLAIM, "signature": "0"}}, "claim: "),
        ({"id": "a1", "claim": {**CLAIM, "channel_id": "ab"}}, "claim: "),
        ({"id": "a1", "claim": {**CLAIM, "extra": "1"}}, "claim: Object contains unknown field `extra`"),
        ({"id": "a1", "claim": CLAIM, "drops": "1"}, "drops: unknown"),
    ],
)
def test_what_is_wrong_is_named_and_the_id_given_back(request_: dict[str, Any], said: str) -> None:
    number, reason = refusal(json.dumps(request_).encode())
    assert number == "a1"
    assert reason.startswith(said), reason


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"null", b"\xff", b"[" * 100_000, json.dumps([{"id": "a1", "claim": CLAIM}]).encode(), b" " * 70_000],
)
def test_what_is_no_object_has_no_id(payload: bytes) -> None:
    number, _ = refusal(payload)
    assert number is None


def test_all_drops_that_there_are_may_be_claimed() -> None:
    assert read({"id": "a1", "claim": {**CLAIM, "amount": "100000000000000000"}}).amount == 10**17


def test_a_name_that_stands_twice_is_refused() -> None:
    text = json.dumps({"id": "a1", "claim": CLAIM}).replace('"amount"', '"amount": "1", "amount"')
    assert refusal(text.encode())[1].startswith("amount: stands in the object more than once")


@given(st.binary(max_size=300))
def test_nothing_that_is_handed_in_raises(payload: bytes) -> None:
    read_hand_in("a", payload)
    read_hand_in("a", b'{"id":"x","claim":' + payload + b"}")


def test_the_reply_is_the_contracts() -> None:
    assert json.loads(taken_in("a1", Taken(1000, 90000, replayed=False))) == {
        "id": "a1",
        "status": "accepted",
        "drops": "1000",
        "amount": "90000",
        "replayed": False,
    }
