"""A node's answers broken anywhere: whoever asked is told by an error of ours, never by a defect."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import Lab, NearSession, terms
from sandbox.rig import address
from wire.test_ledger import STRANGE, places

from channeld.adapters.xrpl_node import NodeSession
from channeld.core.errors import LedgerError, Malformed
from channeld.core.units import Address, LedgerIndex
from channeld.sandbox.stage import PATIENCE_S

HOT = Address(address("hot"))
ASKED: dict[str, Callable[[NodeSession, LedgerIndex], Awaitable[object]]] = {
    "facts": lambda node, at: node.facts(),
    "history": lambda node, at: node.history(HOT, LedgerIndex(at - 20), at),
    "amendments": lambda node, at: node.amendments(),
    "channels": lambda node, at: node.channels(HOT, at),
    "incoming": lambda node, at: node.incoming(Address(address("bob")), at),
    "account": lambda node, at: node.account(HOT, at),
    "tickets": lambda node, at: node.tickets(HOT, at),
    "open_fees": lambda node, at: node.open_fees(),
    "submit": lambda node, at: node.submit("00"),
}


OTHERS = {
    "submit": {"engine_result": "tesSUCCESS", "queued": False, "engine_result_message": "m"},
    "server_info": {
        "info": {
            "build_version": "3.0.0",
            "complete_ledgers": "2-5,7-90",
            "network_id": 3,
            "validated_ledger": {"age": 2, "seq": 90},
            "warnings": [{"id": 1004, "message": "w"}],
        }
    },
}
"""What a node without a server has no answer to."""


class Recorded(NearSession):
    """Answers what `answers` says, in order, and then the last one again and again."""

    answers: list[Any]

    async def request(self, command: str, **parameters: Any) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else copy.deepcopy(self.answers[0])


class Recording(NearSession):
    """The node's own answers, kept."""

    kept: list[Any]

    async def request(self, command: str, **parameters: Any) -> Any:
        if command in OTHERS:
            answer: Any = OTHERS[command]
        else:
            answer = await super().request(command, **parameters)
        self.kept.append(copy.deepcopy(answer))
        return answer


@cache
def good() -> tuple[Any, LedgerIndex, dict[str, list[Any]]]:
    """A node with a channel that was used, and what it answers to everything we ask."""
    with TemporaryDirectory() as directory:
        lab = Lab(Path(directory) / "s.db", terms(stock=2))
        for n in range(8):
            lab.ask(str(n), 5)
            lab.tick()
        at, answers = lab.session.header().index, {}
        for name, ask in ASKED.items():
            node = Recording(lab.rig)
            node.kept = []
            asyncio.run(told(ask(node, at)))
            answers[name] = node.kept
        lab.store.close()
        return lab.rig, at, answers


async def told(answer: Awaitable[object]) -> object:
    return await answer


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_that_is_not_broken_is_read(name: str) -> None:
    rig, at, answers = good()
    node = Recorded(rig)
    node.answers = copy.deepcopy(answers[name])
    asyncio.run(told(ASKED[name](node, at)))


@pytest.mark.parametrize("name", ASKED)
@given(data=st.data())
def test_an_answer_broken_anywhere_is_malformed_or_still_readable(name: str, data: st.DataObject) -> None:
    rig, at, answers = good()
    node = Recorded(rig)
    node.answers = copy.deepcopy(answers[name])
    for _ in range(data.draw(st.integers(1, 3))):
        holder: Any = data.draw(st.sampled_from(node.answers))
        if not (found := places(holder)[1:]):
            continue
        path = data.draw(st.sampled_from(found))
        for key in path[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[path[-1]] = data.draw(STRANGE)
        else:
            del holder[path[-1]]
    with contextlib.suppress(Malformed, LedgerError):
        asyncio.run(asyncio.wait_for(told(ASKED[name](node, at)), PATIENCE_S))


def test_a_session_is_gone_once_its_connection_is_lost_and_stays_gone() -> None:
    session = NodeSession("ws://node", None)  # type: ignore[arg-type]
    assert not session.gone
    session.fail("connection lost")
    assert session.gone
