"""Which topics are requests, and where a reply may go."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.wire.topics import Topics

TOPICS = Topics("channeld/v1", "d1")


@given(
    st.text()
    | st.from_regex(r"channeld/v1/servers/[a-zA-Z0-9_\-/+#]{0,70}/(claim|receive|query|reply)", fullmatch=True)
)
@settings(max_examples=3 * settings().max_examples)
def test_only_the_topics_of_servers_are_requests(topic: str) -> None:
    found = TOPICS.request(topic)
    if found is not None:
        server, verb = found
        assert topic == f"channeld/v1/servers/{server}/{verb}"
        assert 1 <= len(server) <= 64
        assert set(server) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        assert verb in ("claim", "receive", "query")


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [("reply", True), ("reply/x", True), ("reply/x/y", True), ("reply/", True), ("replyx", False), ("event", False),
     ("", False), ("reply/+", False), ("reply/#", False), ("reply/\0", False), ("reply/" + "x" * 1024, False),
     ("claim", False), ("../b/reply", False)],
)  # fmt: skip
def test_a_reply_goes_to_the_servers_own_reply_topic_or_below_it(topic: str, allowed: bool) -> None:
    assert TOPICS.allows_response("a", f"channeld/v1/servers/a/{topic}") is allowed
    assert not TOPICS.allows_response("b", f"channeld/v1/servers/a/{topic}")
    assert not TOPICS.allows_response("a", topic)
