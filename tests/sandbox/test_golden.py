"""Every recording of a real node replays without a difference."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from channeld.sandbox.stage import free_port
from tests.sandbox.replay import replay

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.fixture
def url() -> Iterator[str]:
    """A fresh ledger in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "channeld.sandbox.ledger", "--port", str(port), "--manual"]
    process = subprocess.Popen(command)
    try:
        url = f"ws://127.0.0.1:{port}"
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        assert process.poll() is None, "the ledger ended"
        try:
            with connect(url, open_timeout=1):
                return
        except (OSError, WebSocketException):
            process.poll()
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the ledger does not listen")


def test_recordings(url: str) -> None:
    """The node's answers, metadata and stream messages are those of rippled 2.3.0.

    One test, for the recordings follow each other on one ledger, as they were made.
    """
    different = {path.stem: asyncio.run(replay(url, json.loads(path.read_text()))) for path in GOLDEN}
    assert {stem: found for stem, found in different.items() if found} == {}


def test_all_recordings_are_here() -> None:
    """None got lost."""
    assert len(GOLDEN) == 18
