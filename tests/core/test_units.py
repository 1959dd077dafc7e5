"""The parsers of money, time and ids take exactly what they document, and nothing that merely looks like it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core.errors import BadValue
from channeld.core.units import (
    MAX_DROPS,
    RIPPLE_EPOCH,
    RippleTime,
    format_xrp,
    parse_channel_id,
    parse_drops,
    parse_duration,
    parse_money,
    to_ripple,
    to_unix,
)

NO_NUMBERS = [
    "", " ", "+1", "-1", "--1", "01", "00", "1_000", " 12", "12 ", " 12 ", "12\n", "\n12", "1.0", "1e3", "0x10",
    "1,000", "１２", "1２", "1٣", "٣", "१", "²", "1\0", "\ufeff1", "1\u200b", "NaN", "Infinity", "9" * 18, "1" * 5000,
]  # fmt: skip
NO_STRINGS = [None, True, 0, 12, 1.0, b"12", ["12"], {"12": 1}]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_plain_number_is_no_amount_anywhere(text: str) -> None:
    for parse in (parse_drops, parse_money):
        with pytest.raises(BadValue, match="the field"):
            parse(text, "the field")


@pytest.mark.parametrize("value", NO_STRINGS, ids=repr)
def test_what_is_no_string_is_refused_by_every_parser(value: object) -> None:
    for parse in (parse_drops, parse_money, parse_duration, parse_channel_id):
        with pytest.raises(BadValue):
            parse(value, "the field")


@given(st.text() | st.from_regex(r"[0-9+_ .\n-]{0,20}"))
def test_an_accepted_amount_is_its_own_canonical_spelling(text: str) -> None:
    try:
        drops = parse_drops(text, "drops")
    except BadValue:
        assert not (re.fullmatch(r"0|[1-9][0-9]*", text, re.ASCII) and len(text) < 19 and int(text) <= MAX_DROPS)
    else:
        assert str(drops) == text
        assert 0 <= drops <= MAX_DROPS


def test_all_the_xrp_there_is_can_be_read_and_not_a_drop_more() -> None:
    assert parse_drops("100000000000000000", "d") == parse_money("100000000000 XRP", "d") == MAX_DROPS
    for text in ("100000000000000001", "100000000000.000001 XRP", "100000000001 XRP"):
        with pytest.raises(BadValue):
            parse_money(text, "d")


@given(st.integers(0, MAX_DROPS))
def test_what_a_person_reads_can_be_typed_back(drops: int) -> None:
    assert parse_money(format_xrp(drops), "money") == drops


@given(st.integers(1, MAX_DROPS))
def test_a_negative_difference_reads_as_the_positive_one_with_a_sign(drops: int) -> None:
    assert format_xrp(-drops) == "-" + format_xrp(drops)


@pytest.mark.parametrize("text", ["25XRP", "25 XRP", "25.0 XRP", "25.000000XRP", "25000000"])
def test_the_spellings_of_an_amount_agree(text: str) -> None:
    assert parse_money(text, "money") == 25_000_000


@pytest.mark.parametrize(
    "text",
    ["25 xrp", "25  XRP", "25 XRP ", "25 XRP\n", ".5 XRP", "5. XRP", "0.0000001 XRP", "1e3 XRP", "-1 XRP", "+1 XRP",
     "01 XRP", "1_0 XRP", "１ XRP", "1\u00a0XRP", "1 XRP XRP", "1,5 XRP"],
)  # fmt: skip
def test_an_amount_of_xrp_is_read_strictly(text: str) -> None:
    with pytest.raises(BadValue):
        parse_money(text, "money")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("10m", 600), ("24h", 86_400), ("7 d", 604_800), ("2w", 1_209_600)]
)
def test_a_length_of_time_is_a_whole_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text, "time") == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1.5h", "-1s", "+1s", "01s", "1 s ", "1s\n", "1S", "1y", "１s", "1h30m"]
)
def test_a_length_of_time_is_read_strictly(text: str) -> None:
    with pytest.raises(BadValue):
        parse_duration(text, "time")


@given(st.binary(min_size=32, max_size=32), st.data())
def test_a_channel_id_is_read_in_either_case_and_kept_in_upper_case(raw: bytes, data: st.DataObject) -> None:
    text = "".join(data.draw(st.sampled_from([c.lower(), c.upper()])) for c in raw.hex())
    assert parse_channel_id(text, "id") == raw.hex().upper()
    for bad in (text[:-1], text + "0", text + "\n", " " + text, text[:-1] + "g", "０" + text[1:]):
        with pytest.raises(BadValue):
            parse_channel_id(bad, "id")


@given(st.integers(0, 2**32 - 1))
def test_ripple_time_and_unix_time_differ_by_the_epoch(time: int) -> None:
    assert to_unix(RippleTime(time)) == time + RIPPLE_EPOCH
    assert to_ripple(to_unix(RippleTime(time)) + 0.75) == time


def test_before_the_epoch_ripple_time_is_zero() -> None:
    assert to_ripple(0.0) == 0
