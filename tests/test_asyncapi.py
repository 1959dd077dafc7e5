"""The contract as a document: valid, strict, the same as the code's, and no field of a message can change unseen."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import contract
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import KEY, PAYEES, SOURCE

from channeld.core.channel import Channel
from channeld.core.news import Event, News
from channeld.core.records import ChannelRecord
from channeld.core.requests import Ask, Code, Granted, Refusal, SignedClaim
from channeld.core.units import ChannelId, Drops, LedgerIndex, RippleTime, Seconds
from channeld.core.witness import Witness
from channeld.wire import query
from channeld.wire.claims import ClaimReader
from channeld.wire.daemons import marker_payload, status_payload, witness_payload
from channeld.wire.events import channel_payload, channel_topic, event_payload, event_topic
from channeld.wire.replies import replies, reply
from channeld.wire.topics import Topics

TOPICS = Topics("channeld/v1", "d1")
ID = ChannelId("A" * 64)
CHANNEL = Channel(
    ID, SOURCE, PAYEES[1].account, PAYEES[1].tag, KEY, Drops(90), Drops(5), Seconds(60), None, None, LedgerIndex(7)
)  # fmt: skip
RECORD = ChannelRecord(1, CHANNEL, 50, True, "p", "a", RippleTime(1), RippleTime(1), None, None)
CLAIM = SignedClaim(ID, KEY, SOURCE, PAYEES[1].account, PAYEES[1].tag, 50, b"\1" * 64, 40)
GRANTED = Granted(10, 20, CLAIM, True)
REFUSAL = Refusal(Code.BUSY, "come again", 100)
ASKED = query.Query("q", request="r")
EVENT = Event(News.SETTLED, ID, PAYEES[0].account, None, 90, 5, RippleTime(9), LedgerIndex(7), "B" * 64, 5, None)
HELD = {"channel_id": "a" * 64, "amount": "5", "signature": "ab", "public_key": "ed"}
MESSAGES: list[tuple[str, bytes]] = [
    (TOPICS.reply("a"), reply("r", GRANTED)),
    (TOPICS.reply("a") + "/x", reply("r", GRANTED._replace(claim=replace(CLAIM, paid=50)))),
    (TOPICS.reply("a"), reply(None, REFUSAL)),
    (TOPICS.reply("a"), replies([reply("r", GRANTED), reply("s", REFUSAL)])),
    (TOPICS.reply("a"), query.decided(ASKED, GRANTED, RECORD)),
    (TOPICS.reply("a"), query.unknown(ASKED)),
    (TOPICS.reply("a"), query.channels(query.Query("q", channels=True), [RECORD], more=True)),
    (
        TOPICS.reply("a"),
        query.totals(query.Query("q", totals=query.Span(5, 9)), [query.Total(None, "busy", 1, 0)], more=False),
    ),
    (TOPICS.reply("a"), b'{"id":"a1","status":"accepted","drops":"1000","amount":"90000","replayed":false}'),
    (event_topic(TOPICS, "a"), event_payload(1, EVENT)),
    (channel_topic(TOPICS, "a", ID), channel_payload(RECORD)),
    (TOPICS.status, status_payload("i", "1", [SOURCE], online=True)),
    (TOPICS.witness, witness_payload(Witness("s", 1))),
    (TOPICS.witness, marker_payload("m")),
    ("channeld/v1/servers/a/claim", json.dumps({"id": "r", "drops": "5", "held": HELD}).encode()),
    ("channeld/v1/servers/a/claim", json.dumps([{"id": "r", "drops": "5"}]).encode()),
    ("channeld/v1/servers/a/receive", json.dumps({"id": "r", "claim": HELD}).encode()),
    ("channeld/v1/servers/a/query", b'{"id":"q","totals":{"from":1,"to":2}}'),
]
MAY_BE_ABSENT = {"retry_after_ms", "held", "totals"}


def test_the_document_is_asyncapi() -> None:
    """Against the specification's own JSON Schema."""
    schema = json.loads((Path(__file__).parent / "vectors" / "asyncapi-3.0.0.json").read_text())
    errors = [
        f"{list(e.path)}: {e.message[:200]}"
        for e in jsonschema.Draft7Validator(schema).iter_errors(contract.document())
    ]
    assert errors == []
    broken = copy.deepcopy(contract.document())
    broken["operations"]["tellEvents"]["action"] = "shout"
    assert list(jsonschema.Draft7Validator(schema).iter_errors(broken))


def test_every_reference_leads_somewhere() -> None:
    for reference in _references(contract.document()):
        at: Any = contract.document()
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_object_is_strict_and_every_example_valid() -> None:
    def look(schema: Any, where: str) -> None:
        if isinstance(schema, dict):
            if "properties" in schema:
                assert schema.get("additionalProperties") is False, where
                assert set(schema.get("required", ())) <= schema["properties"].keys(), where
            for name, value in schema.items():
                look(value, f"{where}/{name}")
        elif isinstance(schema, list):
            for value in schema:
                look(value, where)

    look(contract.document()["components"]["schemas"], "schemas")
    for schema in contract.document()["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
    for name, message in contract.document()["components"]["messages"].items():
        for example in message.get("examples", ()):
            contract.check_message(name, example["payload"])


def test_the_topics_and_words_are_those_of_the_code() -> None:
    assert {contract.channel_of(topic.replace("+", "a")) for topic in TOPICS.requests} == {"claim", "receive", "query"}
    schemas = contract.document()["components"]["schemas"]
    assert {code.value for code in Code} <= set(schemas["Code"]["enum"])
    assert {news.value for news in News} == set(schemas["Event"]["properties"]["event"]["enum"])
    assert schemas["ClaimBatch"]["maxItems"] == 1000
    assert schemas["ChannelsPage"]["properties"]["channels"]["maxItems"] == query.PAGE


@pytest.mark.parametrize(("topic", "payload"), MESSAGES)
def test_what_the_code_writes_is_what_the_document_says_and_no_field_may_change(topic: str, payload: bytes) -> None:
    contract.check(topic, payload)
    for changed in _changed(json.loads(payload)):
        with pytest.raises(AssertionError):
            contract.check(topic, json.dumps(changed).encode())


def _changed(said: Any) -> Iterator[Any]:
    """The message with one thing wrong: a field gone, renamed or more, or a value of another kind, at any depth."""
    if isinstance(said, list):
        for place, item in enumerate(said):
            for changed in _changed(item):
                yield [*said[:place], changed, *said[place + 1 :]]
    elif isinstance(said, dict):
        yield said | {"surprise": 1}
        for name, value in said.items():
            renamed = {(f"{n}_" if n == name else n): v for n, v in said.items()}
            yield renamed
            if name not in MAY_BE_ABSENT:
                yield {n: v for n, v in said.items() if n != name}
            yield said | {name: 1.5}
            if isinstance(value, str):
                yield said | {name: ["x"]}
            for changed in _changed(value):
                yield said | {name: changed}


# --- what is accepted is what the document allows --------------------------------------------------------------------

TEXT = st.one_of(st.text(max_size=3), st.sampled_from(["5", "0", "05", "1" * 18, "r1", "gold", "a" * 129, "\t", "x\n"]))
VALUES = st.one_of(TEXT, st.integers(-1, 2**35), st.none(), st.booleans(), st.just(HELD), st.just({}), st.floats(0, 2))
FIELDS = ("user", "content", "tier", "region", "not_after", "held", "payee", "other")


@given(
    st.fixed_dictionaries({"id": st.one_of(st.just("r1"), VALUES), "drops": st.one_of(st.just("5"), VALUES)}),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
)
def test_a_request_is_read_if_and_only_if_the_document_has_it(must: dict[str, Any], may: dict[str, Any]) -> None:
    """But for what no schema can say: which addresses are one, and how many drops there are."""
    request = must | may
    (parsed,), _ = ClaimReader(0).read("a", json.dumps(request).encode())
    valid = contract.validator("claimRequest").is_valid(request)
    if isinstance(parsed.ask, Ask):
        assert valid
    elif valid:
        assert parsed.ask.reason.startswith(("payee:", "drops: more than exist"))


QUERY_FIELDS = ("id", "request", "channels", "totals", "after", "x")
QUERY_VALUES = st.one_of(TEXT, st.booleans(), st.none(), st.just({"from": 1, "to": 2}))


@given(st.dictionaries(st.sampled_from(QUERY_FIELDS), QUERY_VALUES))
def test_a_query_that_is_read_is_one_of_the_document(said: dict[str, Any]) -> None:
    read = query.read_query(json.dumps(said).encode())
    if isinstance(read, query.Query):
        contract.check_message("query", said)
    elif contract.validator("query").is_valid(said):
        assert (said.get("request") is not None) + (said.get("channels") is True) + bool(said.get("totals")) != 1
