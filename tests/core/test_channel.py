"""A channel's arithmetic and the moments its life turns on, to the second."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import channel

from channeld.core.channel import Phase
from channeld.core.claim import channel_id_of, claim_message
from channeld.core.units import RippleTime, Seconds

END = 500


@st.composite
def sums(draw: st.DrawFn) -> tuple[int, int, int]:
    amount = draw(st.integers(0, 50))
    return amount, draw(st.integers(0, amount)), draw(st.integers(0, 60))


@given(sums())
def test_what_a_channel_holds_is_either_owed_or_free_and_never_both(case: tuple[int, int, int]) -> None:
    amount, balance, authorized = case
    c = channel(amount=amount, balance=balance)
    assert c.remaining == amount - balance
    assert c.headroom(authorized) + c.unredeemed(authorized) == c.remaining
    assert 0 <= c.headroom(authorized) <= c.remaining
    assert 0 <= c.unredeemed(authorized) <= max(0, authorized - balance)


@given(sums(), st.integers(0, 60))
def test_signing_all_the_headroom_never_passes_the_amount(case: tuple[int, int, int], more: int) -> None:
    amount, balance, authorized = case
    c = channel(amount=amount, balance=balance)
    signed = max(balance, authorized) + min(more, c.headroom(authorized))
    assert signed <= max(amount, authorized)
    assert balance + c.unredeemed(signed) <= amount


@pytest.mark.parametrize("end", ["expiration", "cancel_after"])
@pytest.mark.parametrize(("offset", "expired", "deletable"), [(-1, False, False), (0, True, False), (1, True, True)])
def test_at_its_deadline_nothing_is_payable_and_only_past_it_can_it_be_deleted(
    end: str, offset: int, expired: bool, deletable: bool
) -> None:
    c = channel(**{end: END})  # type: ignore[arg-type]
    alive = Phase.CLOSING if end == "expiration" else Phase.OPEN
    assert c.phase(RippleTime(END + offset)) is (Phase.EXPIRED if expired else alive)
    assert c.deletable(RippleTime(END + offset)) is deletable


@given(st.none() | st.integers(1, 20), st.none() | st.integers(1, 20), st.integers(0, 22))
def test_the_earlier_end_is_the_deadline(expiration: int | None, cancel_after: int | None, now: int) -> None:
    c = channel(expiration=expiration, cancel_after=cancel_after)
    ends = {e for e in (expiration, cancel_after) if e is not None}
    assert c.deadline == min(ends, default=None)
    assert (c.phase(RippleTime(now)) is Phase.EXPIRED) == any(now >= e for e in ends)
    assert (c.phase(RippleTime(now)) is Phase.OPEN) == (expiration is None and not any(now >= e for e in ends))


def test_the_last_claim_leaves_the_payee_its_whole_settle_delay_and_the_margin() -> None:
    c = channel(cancel_after=1000, settle_delay=60)
    assert c.last_claim_time(Seconds(25)) == 1000 - 60 - 25
    assert channel(settle_delay=60).last_claim_time(Seconds(25)) is None


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))
def test_a_claim_signs_prefix_channel_and_amount_and_nothing_else(channel_id: bytes, amount: int) -> None:
    message = claim_message(channel_id, amount)
    assert message == b"CLM\0" + channel_id + bytes.fromhex(f"{amount:016x}")


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20), st.integers(0, 2**32 - 1))
def test_a_channels_id_tells_its_direction_and_its_number(one: bytes, two: bytes, sequence: int) -> None:
    expected = hashlib.sha512(b"\0x" + one + two + sequence.to_bytes(4, "big")).hexdigest()[:64].upper()
    assert channel_id_of(one, two, sequence) == expected
    assert (channel_id_of(two, one, sequence) == expected) is (one == two)
