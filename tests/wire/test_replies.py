"""Answers say in the contract's words what was decided, and the largest fit into a message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import KEY, PAYEES, SOURCE

from channeld.core.requests import Answer, Code, Granted, Refusal, SignedClaim
from channeld.core.units import Address, ChannelId
from channeld.wire.replies import replies, reply


def granted(*, covers: tuple[int, int] = (46_700, 48_200), replayed: bool = False, **other: Any) -> Answer:
    values: dict[str, Any] = {
        "channel_id": ChannelId("C" * 64),
        "amount": 50_000,
        "signature": b"\xab" * 64,
        "public_key": KEY,
        "source_account": SOURCE,
        "destination_account": PAYEES[0].account,
        "destination_tag": 0,
        "headroom": 7,
    }
    return Granted(*covers, SignedClaim(**(values | other)), replayed)


def test_an_accepted_request_is_answered_in_the_contracts_words() -> None:
    assert json.loads(reply("r1", granted())) == {
        "id": "r1",
        "status": "accepted",
        "drops": "1500",
        "covers": {"from": "46700", "to": "48200"},
        "claim": {"channel_id": "C" * 64, "amount": "50000", "signature": "AB" * 64, "public_key": KEY},
        "source_account": SOURCE,
        "destination_account": PAYEES[0].account,
        "destination_tag": 0,
        "headroom": "7",
        "replayed": False,
    }
    closed = json.loads(reply("r1", granted(paid=0, replayed=True)))
    assert (closed["channel_state"], closed["paid"], closed["replayed"]) == ("closed", "0", True)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=9), st.data())
def test_what_a_reply_says_is_read_back_as_it_was(request_id: str, data: st.DataObject) -> None:
    amounts = st.integers(0, 10**17)
    covers = sorted(data.draw(st.sets(amounts, min_size=2, max_size=2)))
    tag, paid = data.draw(st.none() | st.integers(0, 2**32 - 1)), data.draw(st.none() | amounts)
    amount, headroom, signature = (
        data.draw(st.integers(1, 10**17)),
        data.draw(amounts),
        data.draw(st.binary(min_size=64, max_size=72)),
    )
    answer = granted(
        covers=(covers[0], covers[1]), amount=amount, headroom=headroom, signature=signature,
        destination_tag=tag, paid=paid,
    )  # fmt: skip
    said = json.loads(reply(request_id, answer))
    assert said["id"] == request_id
    assert said["covers"] == {"from": str(covers[0]), "to": str(covers[1])}
    assert said["drops"] == str(covers[1] - covers[0])
    assert (said["claim"]["amount"], bytes.fromhex(said["claim"]["signature"])) == (str(amount), signature)
    assert (said["headroom"], said["destination_tag"]) == (str(headroom), tag)
    assert said.get("paid") == (None if paid is None else str(paid))


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("retry", [None, 0, 4000])
def test_a_refusal_says_when_to_come_again_only_where_that_helps(code: Code, retry: int | None) -> None:
    said = json.loads(reply("r1", Refusal(code, "why", retry)))
    assert said == {"id": "r1", "status": "rejected", "code": code.value, "reason": "why"} | (
        {} if retry is None else {"retry_after_ms": retry}
    )


def test_the_largest_batch_of_answers_fits_into_a_message() -> None:
    largest = 10**17
    account = Address("r" * 35)
    answer = granted(
        covers=(largest - 1, largest), amount=largest, signature=b"\xff" * 72, public_key="ED" + "E" * 64,
        source_account=account, destination_account=account, destination_tag=2**32 - 1, headroom=largest,
        replayed=True, paid=largest,
    )  # fmt: skip
    assert len(replies([reply("x" * 128, answer)] * 1000)) <= 1024 * 1024
