"""The AsyncAPI document as a judge: what a message on a topic must look like. Tests hand it what they see."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
import yaml

Validator = jsonschema.Draft7Validator


@cache
def document() -> dict[str, Any]:
    """The document as it is shipped in the package."""
    text = (resources.files("channeld.wire") / "asyncapi.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@cache
def validator(message: str) -> Any:
    """What judges the payload of a message."""
    return Validator(_plain(document()["components"]["messages"][message]["payload"]))


def _plain(node: Any) -> Any:
    """A schema without references, which take most of the time; and with patterns as Python is to read them: its `$`
    would let a line feed pass at the end.
    """
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(document()["components"]["schemas"][node["$ref"].removeprefix("#/components/schemas/")])
    return {k: v[:-1] + r"\Z" if k == "pattern" and isinstance(v, str) else _plain(v) for k, v in node.items()}


_LEVELS = {
    "{prefix}": ".+",
    "{server}": "[A-Za-z0-9_-]{1,64}",
    "{channel_id}": "[0-9A-F]{64}",
    "{name}": "[^/]+",
}


@cache
def topics() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Every channel's address as a pattern, with the channel's name; replies also below their topic."""
    found = []
    for name, channel in document()["channels"].items():
        levels = "/".join(_LEVELS.get(level, re.escape(level)) for level in channel["address"].split("/"))
        found.append((re.compile(levels + ("(/.+)?" if name == "reply" else "")), name))
    return tuple(found)


def channel_of(topic: str) -> str | None:
    """The name of the channel that a topic is of."""
    return next((name for pattern, name in topics() if pattern.fullmatch(topic)), None)


def reply_kind(said: Any) -> str:
    """Which message an answer must be."""
    if isinstance(said, list):
        return "batchReply"
    status = said.get("status") if isinstance(said, dict) else None
    if status == "accepted":
        if "request" in said:
            return "handInDecided" if "topic" in said else "requestDecided"
        return "claimAccepted" if "claim" in said else "receiveAccepted"
    if status == "ok":
        return "channelsPage" if "channels" in said else "totalsPage"
    return "requestUnknown" if status == "unknown" else "rejected"


def check(topic: str, payload: bytes) -> None:
    """Fail unless the contract has such a message on this topic."""
    channel = channel_of(topic)
    assert channel is not None, f"{topic}: the contract has no such topic"
    if channel == "channel" and not payload:
        return
    said = json.loads(payload)
    if channel == "reply":
        kind = reply_kind(said)
    elif channel == "claim":
        kind = "claimBatch" if isinstance(said, list) else "claimRequest"
    elif channel == "witness":
        kind = "marker" if "marker" in said else "witness"
    else:
        kind = {"receive": "receiveRequest"}.get(channel, channel)
    check_message(kind, said)
    if channel == "channel":
        assert topic.endswith(said["channel_id"])


def check_message(kind: str, said: Any) -> None:
    """Fail unless this is such a message."""
    error = jsonschema.exceptions.best_match(validator(kind).iter_errors(said))
    assert error is None, f"{kind}: {'/'.join(map(str, error.absolute_path))}: {error.message}"
