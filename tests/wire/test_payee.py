"""Payees and addresses: three spellings of one thing, each taken only in its canonical form."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xrpl.core.addresscodec import classic_address_to_xaddress, encode_classic_address

from channeld.core.errors import BadValue
from channeld.core.units import Address, Payee
from channeld.wire.payee import parse_address, parse_payee

GENESIS = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
accounts = st.binary(min_size=20, max_size=20).map(encode_classic_address)
tags = st.none() | st.integers(0, 2**32 - 1)


@given(accounts, tags, st.sampled_from([0, 1, 2, 21_337]))
def test_every_spelling_gives_the_same_payee(account: str, tag: int | None, network_id: int) -> None:
    """Plain, with a tag, as an X-address of the right network; and `str` gives the first again."""
    payee = Payee(Address(account), tag)
    assert parse_payee(str(payee), "payee", network_id) == payee
    assert parse_payee(classic_address_to_xaddress(account, tag, network_id != 0), "payee", network_id) == payee


@given(accounts, tags, st.sampled_from([0, 1]))
def test_an_x_address_of_another_network_is_refused(account: str, tag: int | None, network_id: int) -> None:
    """It was meant for other money."""
    with pytest.raises(BadValue, match="network"):
        parse_payee(classic_address_to_xaddress(account, tag, network_id == 0), "payee", network_id)


@given(accounts, st.data())
def test_one_wrong_character_is_noticed(account: str, data: st.DataObject) -> None:
    """The checksum is verified; `str.lower` and look-alikes do not pass either."""
    position = data.draw(st.integers(0, len(account) - 1))
    character = data.draw(st.sampled_from("rpshnaf39wBUDNEGHJK0OIl: \n\uff11"))
    text = account[:position] + character + account[position + 1 :]
    if text != account:
        with pytest.raises(BadValue):
            parse_address(text, "address")


BAD = ["", "r", GENESIS[:-1], GENESIS + " ", " " + GENESIS, GENESIS + "\n", GENESIS.lower(), "X" * 47, "T" + "r" * 46]
BAD_TAGS = ["", "-1", "+1", "01", "4294967296", "1_0", "1 ", "\uff11", "1.0", "0x1", "1:2", "9" * 5000]


@pytest.mark.parametrize("text", [*BAD, *(f"{GENESIS}:{tag}" for tag in BAD_TAGS), None, 7, b"r", ["r"]])
def test_what_is_no_payee_is_refused_with_its_field(text: object) -> None:
    """Nothing is trimmed, guessed or corrected."""
    with pytest.raises(BadValue) as caught:
        parse_payee(text, "servers.a.payees[0]", 0)
    assert caught.value.field == "servers.a.payees[0]"


@given(st.text(max_size=60) | st.text("XTrps123:", max_size=60))
def test_no_text_crashes_the_parser(text: str) -> None:
    """It is a payee, or it is a `BadValue`."""
    with contextlib.suppress(BadValue):
        parse_payee(text, "payee", 0)


def test_tag_zero_is_not_no_tag() -> None:
    """They are two payees, and two channels."""
    assert parse_payee(f"{GENESIS}:0", "payee", 0) != parse_payee(GENESIS, "payee", 0)
