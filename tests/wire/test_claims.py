"""Whatever a content server sends is read or refused with a sentence; nothing raises, and nothing slips through."""

from __future__ import annotations

import json
import timeit
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import PAYEES

from channeld.core.requests import Ask, Code, Refusal
from channeld.wire.claims import ClaimReader
from channeld.wire.replies import reply
from channeld.wire.requests import Parsed, request_key
from channeld.wire.topics import Topics

READER = ClaimReader(0)
PAYEE = str(PAYEES[0])
HELD = {"channel_id": "a" * 64, "amount": "5", "signature": "00ff", "public_key": "ED"}
GOOD: dict[str, Any] = {"id": "r1", "drops": "5"}
FULL: dict[str, Any] = GOOD | {
    "payee": PAYEE,
    "user": "u",
    "content": "c",
    "tier": "gold",
    "region": "eu",
    "not_after": 9,
    "held": HELD,
}
ALLOWED = set(FULL)


def one(payload: bytes | str | dict[str, Any]) -> Parsed:
    """The only item of a payload that is no batch."""
    raw = json.dumps(payload).encode() if isinstance(payload, dict) else payload
    items, batch = READER.read("a", raw.encode() if isinstance(raw, str) else raw)
    assert not batch
    (item,) = items
    return item


def refused(payload: bytes | str | dict[str, Any]) -> Parsed:
    item = one(payload)
    assert isinstance(item.ask, Refusal), item
    assert item.ask.code is Code.BAD_REQUEST
    assert item.ask.retry_after_ms is None
    return item


def reason(item: Parsed) -> str:
    assert isinstance(item.ask, Refusal)
    return item.ask.reason


def test_a_request_is_read() -> None:
    item = one(FULL)
    assert isinstance(item.ask, Ask)
    assert (item.id, item.ask.drops, item.ask.payee, item.ask.not_after) == ("r1", 5, PAYEES[0], 9)
    assert item.ask.held is not None
    assert item.ask.held.channel_id == "A" * 64
    assert item.ask.key == request_key("a", "claim", "r1")


def test_what_is_held_is_at_most_what_there_is() -> None:
    item = one(GOOD | {"held": HELD | {"amount": "100000000000000000"}})
    assert isinstance(item.ask, Ask)
    assert item.ask.held is not None
    assert item.ask.held.amount == 10**17
    for amount in ("100000000000000001", "999999999999999999"):
        assert reason(refused(GOOD | {"held": HELD | {"amount": amount}})).startswith("held: amount: more drops than")


def test_what_is_no_utf8_is_told_with_its_place() -> None:
    """In the request as it was sent; in a batch, in its item."""
    bad = b'{"id":"r1","drops":"5","user":"\xc3\xa4\xff"}'
    for payload in (bad, b'[{"id":"r0","drops":"5"},' + bad + b"]"):
        *_, item = READER.read("a", payload)[0]
        assert f"byte 0xff in position {bad.index(0xFF)}:" in reason(item)


def test_null_means_absent() -> None:
    nulls = dict.fromkeys(ALLOWED - set(GOOD))
    assert one(GOOD | nulls).ask == one(GOOD).ask


@pytest.mark.parametrize(
    "payload",
    [b"", b" ", b"nonsense", b"{", b"}", b'{"id":"r1","drops":"5"', b'{"id":"r1","drops":"5"}x', b"\xff\xfe{}", b"null",
     b"true", b"5", b'"s"', b"\0", b'{"id":"r1","drops":"5"}\0', b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
     json.dumps(GOOD).encode("utf-16"), b'{"id":"r1","drops":"5","user":"\xc3"}', b'{"id":"\xed\xa0\x80","drops":"5"}',
     b'{"id":"r1","drops":"5","user":"\\ud800"}', b"NaN", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"{'id':'r1'}",
     b'{"id":"r1","drops":"5",}', b'{"id":"r1","drops":"5","x":Infinity}', b'{"id":"r1"/**/,"drops":"5"}'],
)  # fmt: skip
def test_what_is_no_request_is_a_bad_request(payload: bytes) -> None:
    refused(payload)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("drops", v) for v in ("0", "-1", "+5", "05", "5.0", "1e3", " 5", "5\n", "５", "1_0", "", "9" * 18)),
        *(("drops", v) for v in ("1" * 99, 5, None, True, [], {})),
        *(("id", v) for v in ("", "x" * 129, "ä", "a\n", "a\0", "\x7f", 5, None, ["r1"])),
        *(("payee", v) for v in ("", "r", PAYEE + " ", PAYEE + ":", PAYEE + ":-1", PAYEE + ":4294967296")),
        *(("payee", v) for v in (PAYEE + ":07", 5, "r" * 999, [PAYEE])),
        *(("user", v) for v in ("u" * 129, 5, [], {})),
        *(("content", v) for v in ("c" * 257, 5, "c" * 65_000)),
        *(("tier", v) for v in ("", "a b", "x" * 65, "é", "a\n")),
        *(("region", v) for v in ("", "a/b", 1)),
        *(("not_after", v) for v in (-1, 1.5, "9", 2**70, True, [])),
        *(("held", v) for v in ({}, 5, "x", [HELD], HELD | {"x": 1}, HELD | {"amount": "0"}, HELD | {"signature": "0"},
                                 HELD | {"signature": "abc"}, HELD | {"public_key": "abc"}, HELD | {"public_key": ""},
                                 HELD | {"signature": "a" * 162}, HELD | {"public_key": "a\n"},
                                 HELD | {"channel_id": "a" * 63}, HELD | {"amount": 5}, HELD | {"signature": "gg"})),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_the_fields_name_first_and_the_id_given_back(field: str, value: Any) -> None:
    item = refused(FULL | {field: value})
    assert reason(item).startswith(field)
    assert item.id == (None if field == "id" else "r1")


@pytest.mark.parametrize("number", ["NaN", "1e400", "-Infinity", "1E5000", "1" * 5000, "-0"])
def test_a_number_beyond_reason_is_no_time(number: str) -> None:
    item = one(f'{{"id":"r1","drops":"5","not_after":{number}}}')
    assert isinstance(item.ask, Refusal) or item.ask.not_after == 0


@pytest.mark.parametrize("extra", ["Id", "ID", "drops ", "x", "", "covers", "ｉｄ", "\u0131d"])
def test_an_unknown_field_is_refused(extra: str) -> None:
    assert refused(GOOD | {extra: "1"}).id == "r1"


def escaped(name: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in name)


@pytest.mark.parametrize("field", sorted(ALLOWED))
@pytest.mark.parametrize("spell", [str, escaped, lambda n: escaped(n[0]) + n[1:]], ids=["plain", "escaped", "half"])
@pytest.mark.parametrize("null", [False, True])
def test_a_repeated_field_is_refused_however_it_is_spelled(field: str, spell: Any, null: bool) -> None:
    again = "null" if null and field not in GOOD else json.dumps(FULL[field])
    assert reason(refused(json.dumps(FULL)[:-1] + f', "{spell(field)}": {again}}}'))


@pytest.mark.parametrize("field", sorted(HELD))
@pytest.mark.parametrize("spell", [str, escaped], ids=["plain", "escaped"])
def test_a_repeated_field_inside_held_is_refused(field: str, spell: Any) -> None:
    held = json.dumps(HELD)[:-1] + f', "{spell(field)}": "{HELD[field]}"}}'
    assert refused(f'{{"id":"r1","drops":"5","held":{held}}}').id == "r1"


def test_an_id_that_stands_there_twice_is_not_given_back() -> None:
    assert refused('{"id":"r1","id":"r2","drops":"5"}').id is None


def test_escapes_are_one_spelling_of_the_same_request() -> None:
    assert one('{"\\u0069d":"\\u0072\\u0031","drops":"\\u0035"}').ask == one(GOOD).ask


@pytest.mark.parametrize("size", [65_000, 65_536, 65_537, 300_000])
def test_a_long_string_is_refused(size: int) -> None:
    refused(GOOD | {"user": "x" * size})


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["5", "r1", PAYEE]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(ALLOWED)) | st.text(max_size=3), inner)
    ),
    max_leaves=6,
)
VALUES = {
    "id": st.sampled_from(["r1", " ", "~"]),
    "drops": st.sampled_from(["1", "5", "100000000000000000"]),
    "payee": st.sampled_from([PAYEE, PAYEE + ":7", None]),
    "user": st.text(max_size=5) | st.none(),
    "content": st.text(max_size=5) | st.none(),
    "tier": st.sampled_from(["gold", None]),
    "region": st.sampled_from(["eu", None]),
    "not_after": st.integers(0, 2**33) | st.none(),
    "held": st.just(HELD) | st.none(),
}


@st.composite
def objects(draw: st.DrawFn) -> str:
    """JSON text of an object that is often a request, with names repeated, unknown or escaped now and then."""
    names = ["id", "drops", *draw(st.lists(st.sampled_from([*sorted(ALLOWED), "x"]), max_size=5))]
    pairs = []
    for name in draw(st.permutations(names)):
        value = draw(JSONISH if name == "x" or draw(st.integers(0, 9)) == 0 else VALUES[name])
        spelled = json.dumps(name) if draw(st.integers(0, 4)) else f'"{escaped(name)}"'
        pairs.append(f"{spelled}:{json.dumps(value, ensure_ascii=draw(st.booleans()))}")
    return "{" + ",".join(pairs) + "}"


def slow(text: str) -> list[tuple[str, Any]]:
    """The pairs of every object in a text, by another parser."""
    seen: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        seen.append(("repeated", sorted({n for n in names if names.count(n) > 1})))
        return dict(pairs)

    seen.append(("whole", json.loads(text, object_pairs_hook=keep)))
    return seen


@given(objects())
@settings(max_examples=5 * settings().max_examples)
def test_what_is_accepted_has_no_repeated_and_no_unknown_field_and_says_what_it_said(text: str) -> None:
    item = one(text.encode("utf-8", "surrogatepass"))
    if isinstance(item.ask, Refusal):
        return
    facts = slow(text)
    assert not any(names for what, names in facts if what == "repeated")
    whole = dict(facts)["whole"]
    assert set(whole) <= ALLOWED
    assert (item.id, str(item.ask.drops)) == (whole["id"], whole["drops"])
    assert (None if item.ask.payee is None else str(item.ask.payee)) == whole.get("payee")
    assert item.ask.not_after == whole.get("not_after")
    assert (item.ask.held is None) == (whole.get("held") is None)


@given(st.binary(max_size=200) | JSONISH.map(lambda v: json.dumps(v).encode("utf-8", "surrogatepass")))
@settings(max_examples=5 * settings().max_examples)
def test_no_payload_raises_and_every_one_can_be_answered(payload: bytes) -> None:
    items, _ = READER.read("a", payload)
    assert items
    for item in items:
        json.loads(reply(item.id, item.ask if isinstance(item.ask, Refusal) else Refusal(Code.BUSY, "later", 5)))


SAID = ("drops", "user", "content", "tier", "region", "not_after")


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    return {name: draw(VALUES[name]) for name in sorted(ALLOWED)}


@given(requests(), requests(), st.sets(st.sampled_from(sorted(ALLOWED))))
@settings(max_examples=3 * settings().max_examples)
def test_contents_are_equal_exactly_when_everything_but_id_payee_and_held_is(
    a: dict[str, Any], b: dict[str, Any], shared: set[str]
) -> None:
    b |= {name: a[name] for name in shared}
    one_ask, other = one(a).ask, one(b).ask
    assert isinstance(one_ask, Ask)
    assert isinstance(other, Ask)
    assert (one_ask.contents == other.contents) == all(a[name] == b[name] for name in SAID)
    assert (one_ask.key == other.key) == (a["id"] == b["id"])


def test_fields_that_swap_their_values_are_other_contents() -> None:
    asks = [one(GOOD | {f: "x"}).ask for f in ("user", "content", "tier", "region")]
    assert len({a.contents for a in asks if isinstance(a, Ask)}) == 4


def test_a_requests_key_tells_server_topic_and_id_apart() -> None:
    keys = {request_key(s, t, i) for s in ("a", "ab") for t in ("claim", "query") for i in ("b", "bb", "claim")}
    assert len(keys) == 12


# --- batches ---------------------------------------------------------------------------------------------------------


def batch(count: int) -> bytes:
    return json.dumps([GOOD | {"id": f"r{n}"} for n in range(count)]).encode()


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_a_batch_is_read_in_its_order(count: int) -> None:
    items, is_batch = READER.read("a", b" \n" + batch(count))
    assert is_batch
    assert [item.id for item in items] == [f"r{n}" for n in range(count)]
    assert all(isinstance(item.ask, Ask) for item in items)


_ITEMS = st.one_of(
    st.sampled_from(
        [b"1", b" -2.5e3 ", b"null", b'""', b'"a,b"', b' "]" ', b"{}", b"[]", b'{"a":1,"b":"},"}', b"[1,2]"]
    ),
    st.sampled_from([b'"\\""', b"[[],[]]", b'{"a":{}}', b'{"a":[1]}', b'"\\\\"', b'{"a":"\\"},{"}']),
)


@given(st.lists(_ITEMS, min_size=1, max_size=6), st.integers(998, 1003), st.sampled_from([b"[", b" [ "]))
def test_an_array_is_too_long_exactly_when_it_has_too_many_items(items: list[bytes], count: int, start: bytes) -> None:
    """Whatever its commas and brackets look like, inside of texts, too."""
    filler = b'"' + b"," * 16_001 + b'"'
    payload = start + b",".join([items[n % len(items)] for n in range(count - 1)] + [filler]) + b"]"
    said, batch = READER.read("a", payload)
    assert (batch, len(said)) == ((True, count) if count <= 1000 else (False, 1))
    assert batch or "1 to 1000 items" in reason(said[0])


@pytest.mark.parametrize("item", [b"1", b'""', b"{}", b"[]", b'"a"', b"[0]"])
def test_it_is_cheap_to_see_that_an_array_is_far_too_long(item: bytes) -> None:
    """Much less than reading it takes, or who sends such arrays could keep us busy."""
    payload = b"[" + b",".join([item] * (262_000 // (len(item) + 1))) + b"]"

    def fastest(what: Callable[[], Any]) -> float:
        return min(timeit.repeat(what, number=1, repeat=7))

    assert not READER.read("a", payload)[1]
    reads_all = fastest(lambda: msgspec.json.decode(payload, type=list[msgspec.Raw]))
    assert fastest(lambda: READER.read("a", payload)) < reads_all / 2


@pytest.mark.parametrize("space", [b" ", b"\n\t", b"\r\n"])
def test_a_batch_may_have_any_space_before_it(space: bytes) -> None:
    items, is_batch = READER.read("a", space * 100 + batch(2))
    assert is_batch
    assert [item.id for item in items] == ["r0", "r1"]


def test_half_of_a_surrogate_pair_is_named() -> None:
    for half in ("\\ud800", "\\uDFFF", "\\ud83d\\u0041", "\\ude00\\ud83d"):
        assert "surrogate" in reason(refused('{"id":"r1","drops":"5","user":"' + half + '"}'))
    assert isinstance(one('{"id":"r1","drops":"5","user":"\\ud83d\\uDE00"}').ask, Ask)
    assert "surrogate" not in reason(refused('{"id":"r1","drops":"5","user":"\\ud83d\\ude00"'))


def test_the_id_is_given_back_beside_a_number_of_five_thousand_digits() -> None:
    assert refused('{"id":"r1","drops":"5","not_after":' + "9" * 5000 + "}").id == "r1"


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"[ ]", batch(1001), b"[", b"]", b"[1", b"[]x", b"[[" * 5000 + b"]]" * 5000, b"[" * 100_000,
     b'[{"id":"r1","drops":"5"},]', b"[" + b" " * 262_144 + b"]", b'[{"a":' * 10_000],
)  # fmt: skip
def test_a_batch_that_is_none_gets_one_answer_without_an_id(payload: bytes) -> None:
    items, is_batch = READER.read("a", payload)
    if is_batch:  # one item that is an array itself: nested, and refused as an item
        assert len(items) == 1
        assert isinstance(items[0].ask, Refusal)
        return
    assert items[0].id is None
    assert isinstance(items[0].ask, Refusal)


def test_items_of_a_batch_fail_one_by_one() -> None:
    good, bad, twice = b'{"id":"a","drops":"5"}', b'{"id":"b","drops":"-5"}', b'{"id":"c","drops":"5","drops":"6"}'
    mixed = b"[" + b",".join([good, bad, b"7", b"null", b"[]", b'"x"', twice, b'{"id":"d","drops":"6"}']) + b"]"
    items, is_batch = READER.read("a", mixed)
    assert is_batch
    assert [item.id for item in items] == ["a", "b", None, None, None, None, "c", "d"]
    assert [isinstance(item.ask, Ask) for item in items] == [True, *[False] * 6, True]


def is_json(text: str) -> bool:
    """Whether a text is JSON and Unicode: with an item that is not, there is no array to be read."""
    try:
        text.encode()
        json.loads(text, parse_constant=int)
    except ValueError:
        return False
    return True


@given(st.lists(objects().filter(is_json), min_size=1, max_size=4))
@settings(max_examples=3 * settings().max_examples)
def test_an_array_is_read_as_its_items_are(texts: list[str]) -> None:
    """One item that needs a closer look, or is bad, changes nothing for the others."""
    items, is_batch = READER.read("a", ("[" + ",".join(texts) + "]").encode("utf-8", "surrogatepass"))
    assert is_batch
    assert items == [one(text.encode("utf-8", "surrogatepass")) for text in texts]


@pytest.mark.parametrize("inner", [batch(2), b"[null]", b"[[]]", b'[["id","r1"]]', b"[1]", b'["id"]', b"[{}]"])
def test_a_batch_in_a_batch_is_no_batch(inner: bytes) -> None:
    items, _ = READER.read("a", b"[" + inner + b"]")
    assert [item.id for item in items] == [None]
    assert isinstance(items[0].ask, Refusal)


def test_nothing_is_kept_of_what_strangers_invent() -> None:
    """Payees that are none and topics that are no request's, each as large as it may be, cost no memory afterwards."""
    reader, topics = ClaimReader(0), Topics("channeld/v1", "d")
    tracemalloc.start()
    try:
        for n in range(300):
            padding = b" " * 60_000
            reader.read("a", b'{"id":"1","drops":"1","payee":"r%d"%s}' % (n, padding))
            topics.request(f"channeld/v1/servers/{n}{'x' * 60_000}/claim")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
