"""Who listens to every daemon hears everything, also of one that is killed, and a changed field is a breach."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from heard import ENCODERS, HERE, Heard, judge
from test_asyncapi import MESSAGES

ROOT = Path(__file__).parents[1]
STATUS = b'{"status":"online","instance":"i","version":"1","wallets":[]}'
DAEMON = """
import os, signal, sys
from channeld.adapters.broker import Broker, BrokerSettings, Will
from channeld.wire.claims import ClaimReader

nothing = lambda *_: None
will = Will("p/daemons/d/status", sys.argv[1].encode())
broker = Broker(
    BrokerSettings("127.0.0.1", 1, "d"),
    subscriptions=(), will=will, on_messages=nothing, on_connected=nothing, on_lost=nothing,
)
broker.publish(sys.argv[2], sys.argv[3].encode())
ClaimReader(0).read("a", sys.argv[4].encode())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def apart() -> Iterator[Heard]:
    """Somebody else who listens, so that what is wrong on purpose fails nothing else."""
    heard = Heard()
    yield heard
    heard.close()


def live(heard: Heard, *said: bytes) -> None:
    """A daemon that leaves a will, publishes, takes a claim request, and is killed."""
    environment = {**os.environ, "CONTRACT_TAP": str(heard.directory), "PYTHONPATH": f"{HERE}:{ROOT}"}
    command = [sys.executable, "-c", DAEMON, *(os.fsdecode(word) for word in said)]
    assert subprocess.run(command, env=environment, check=False).returncode == -9


GOOD = (STATUS, b"p/daemons/d/status", STATUS, b'[{"id":"r","drops":"5"},{"id":"s"}]')


def test_all_of_it_is_heard(apart: Heard) -> None:
    live(apart, *GOOD)
    apart.judge()
    assert apart.judged == 3, "the will, what was published, and the one request of the batch that is one"


@pytest.mark.parametrize(
    ("place", "instead"),
    [(0, STATUS.replace(b"wallets", b"wallet")), (1, b"p/daemons/d/stat"), (2, STATUS.replace(b'"1"', b"1"))],
)
def test_what_is_not_of_the_contract_is_a_breach(apart: Heard, place: int, instead: bytes) -> None:
    live(apart, *(instead if n == place else word for n, word in enumerate(GOOD)))
    with pytest.raises(AssertionError, match="1 messages are not of the contract"):
        apart.judge()
    apart.judge()  # each is told once


def test_a_request_that_is_taken_and_that_the_document_does_not_have_is_a_breach(apart: Heard) -> None:
    judge("taken", "claims +-", b'[{"id":"r","drops":"5"},"\xff"]')
    for where, payload in (
        ("claims ++", b'[{"id":"r","drops":"5"},7]'),
        ("claim", b'{"id":"r","drops":5}'),
        ("read_query", b'{"id":"r","channel":true}'),
        ("read_hand_in", b'{"id":"r"}'),
    ):
        with pytest.raises(AssertionError):
            judge("taken", where, payload)


@pytest.mark.parametrize(("topic", "payload"), MESSAGES)
def test_a_daemon_that_sends_a_field_under_another_name_is_heard(apart: Heard, topic: str, payload: bytes) -> None:
    """Every kind of message that leaves a daemon; and it sends nothing where only content servers may."""
    mine = topic.rpartition("/")[2] not in ("claim", "receive", "query")
    if mine:
        judge("said", topic, payload)
    said = json.loads(payload)
    first = said[0] if isinstance(said, list) else said
    first["renamed"] = first.pop(next(iter(first)))
    with pytest.raises(AssertionError):
        judge("said", topic, json.dumps(said).encode())


def test_it_is_said_of_every_function_that_encodes_which_message_it_is() -> None:
    """Also of those that no test has called yet."""
    found = set()
    for file in (ROOT / "channeld" / "wire").glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if public and node.returns is not None and ast.unparse(node.returns) == "bytes":
                found.add(f"{file.stem}.{node.name}")
    assert found == set(ENCODERS)
