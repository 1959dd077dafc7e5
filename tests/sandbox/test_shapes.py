"""What the node says of itself has the fields and types that a real node's answers had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channeld.sandbox.ledger import SandboxLedger
from tests.sandbox.client import Client

RAW = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "raw").glob("*.json")}
FREE = {"job_types", "ports", "load"}
"""Lists of the recorded machine's own threads and ports."""
EQUAL = {"build_version", "expected_ledger_size", "max_queue_size", "levels", "features", "account_flags"}


def _differences(want: Any, got: Any, path: str) -> Iterator[str]:
    name = path.rpartition(".")[2]
    if name in FREE:
        return
    numbers = isinstance(want, int | float) and isinstance(got, int | float)
    if type(want) is not type(got) and not numbers:
        yield f"{path}: {want!r} became {got!r}"
    elif name in EQUAL:
        yield from [] if want == got else [f"{path}: differs"]
    elif isinstance(want, dict):
        for key in sorted(want.keys() ^ got.keys()):
            yield f"{path}.{key}: {'missing' if key in want else 'not expected'}"
        for key in want.keys() & got.keys():
            yield from _differences(want[key], got[key], f"{path}.{key}")


@pytest.mark.parametrize("name", sorted(RAW))
async def test_same_fields_and_types(name: str) -> None:
    """Values differ from machine to machine; names and types do not."""
    recorded = RAW[name]
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        await client.result("ledger_accept")
        await client.socket.send(json.dumps({"id": 1, **recorded["request"]}))
        answer = await client.receive()
    assert list(_differences(recorded["answer"], answer, "answer")) == []
