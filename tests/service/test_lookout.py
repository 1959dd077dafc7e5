"""One node in three shows the end of a channel: issuing pauses at once, and goes on unless the others confirm it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from service.several import Several, closing, made_up
from service.test_endpoints import three
from worlds import PAYEES

from channeld.core.channel import Channel
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.units import ChannelId, Drops, LedgerIndex
from channeld.sandbox.stage import PATIENCE_S
from channeld.service.deciding import Line
from channeld.service.lookout import AHEAD


@pytest.fixture
def nodes(tmp_path: Path) -> Several:
    made = three(tmp_path)
    made.open_one()
    made.close()
    return made


def the_channel(nodes: Several) -> Channel:
    (state,) = nodes.mirror.channels.values()
    return state.record.channel


def asked(nodes: Several, number: str) -> Granted | Refusal:
    (answer,) = nodes.answer(nodes.ask(number, 1))
    return answer


def lies(nodes: Several, liar: int, *, deleted: bool = False, ledger: int | None = None) -> None:
    """The node shows the end of our channel, in the newest ledger or in a given one; nobody else does."""
    channel = the_channel(nodes)
    ended = channel if deleted else closing(channel, nodes.kept.time)

    def tell(told: list[ValidatedTransaction]) -> list[ValidatedTransaction]:
        index = LedgerIndex(nodes.kept.index if ledger is None else ledger)
        head = ("D" * 64, index, 0, PAYEES[0].account, 10**6, False, "PaymentChannelClaim", "tesSUCCESS", Drops(10))
        return [*told, ValidatedTransaction(*head, (ChannelChange(ended, False, deleted, Drops(0)),), ())]

    nodes.nodes[liar].tell = tell


def alone(nodes: Several, teller: int) -> None:
    """A ledger closes, and only one node announces it yet."""
    nodes.pass_time(4)
    nodes.hear(teller)
    nodes.look(teller)


@pytest.mark.parametrize("teller", [0, 1, 2])
@pytest.mark.parametrize("deleted", [False, True])
def test_what_the_first_node_tells_pauses_at_once_and_is_booked_with_the_others(
    nodes: Several, teller: int, deleted: bool
) -> None:
    channel = the_channel(nodes)
    if deleted:
        nodes.kept.index, nodes.kept.time = nodes.kept.index + 1, nodes.kept.time + 4
        gone = nodes.kept._delete(channel, 0)
        nodes.kept._record("C" * 64, channel.destination_account, 9, "tesSUCCESS", 10, [gone], 0)
        nodes.kept.keep()
    else:
        nodes.kept.change(closing(channel, nodes.kept.time))
    before = nodes.mirror.processed
    assert isinstance(asked(nodes, "before"), Granted)
    alone(nodes, teller)
    told = asked(nodes, "paused")
    assert isinstance(told, Refusal)
    assert (told.code, told.retry_after_ms is not None) == (Code.FROZEN, True)
    assert f"node{teller}:6006" in told.reason
    assert (the_channel(nodes), nodes.mirror.processed) == (channel, before), "booked on one node's word"
    nodes.step()
    assert isinstance(asked(nodes, "still"), Refusal)
    nodes.all_hear(1)
    assert nodes.true()
    assert nodes.mirror.cautions == {}
    assert deleted or the_channel(nodes).expiration is not None
    assert isinstance(asked(nodes, "after"), Refusal)
    assert all(endpoint.blames == 0 for endpoint in nodes.endpoints.all)


@pytest.mark.parametrize("liar", [0, 1, 2])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_liar_pauses_a_channel_for_a_ledger_and_moves_nothing(nodes: Several, liar: int, deleted: bool) -> None:
    lies(nodes, liar, deleted=deleted)
    nodes.kept.close(4)
    alone(nodes, liar)
    assert isinstance(asked(nodes, "paused"), Refusal)
    nodes.all_hear(1)
    assert nodes.mirror.cautions == {}
    assert isinstance(asked(nodes, "after"), Granted)
    assert nodes.endpoints.unfit(nodes.endpoints.all[liar]) is not None
    assert nodes.true()
    assert nodes.on_disk("SELECT DISTINCT kind FROM intent") == [("open",)]
    assert len(nodes.kept.created) == 1


@pytest.mark.parametrize("ahead", [False, True])
def test_a_node_that_lies_all_the_time_slows_a_channel_and_does_not_stop_it(nodes: Several, ahead: bool) -> None:
    """Also where it speaks of ledgers to come, so as not to be refuted."""
    paused = 0
    for number in range(40):
        nodes.kept.close(4)
        lies(nodes, 2, ledger=nodes.kept.index + AHEAD - 1 if ahead else None)
        if ahead:
            nodes.pass_time(4)
            nodes.hear(2, header=made_up(nodes.kept, ahead=1000 + number))
            nodes.look(2)
        else:
            alone(nodes, 2)
        paused += not isinstance(asked(nodes, f"n{number}"), Granted)
        nodes.pass_time(1)
        for honest in (0, 1):
            nodes.hear(honest)
        nodes.step()
        nodes.step()
    assert 1 <= paused <= 25
    assert len(nodes.kept.created) == 1
    assert "request_close" not in {k for (k,) in nodes.on_disk("SELECT kind FROM intent")}


def test_a_node_is_not_asked_about_ledgers_far_ahead(nodes: Several) -> None:
    nodes.nodes[2].asked.clear()
    nodes.pass_time(4)
    nodes.hear(2, header=made_up(nodes.kept, ahead=1000))
    nodes.look(2)
    assert nodes.nodes[2].asked == [f"{nodes.kept.index + 1}..{nodes.kept.index + AHEAD}"]


def test_what_the_quorum_already_told_needs_no_pause(nodes: Several) -> None:
    """A node that is late, or speaks of the past, is not heard on it."""
    lies(nodes, 2, ledger=nodes.kept.index)
    nodes.kept.close(4)
    nodes.all_hear()
    nodes.look(2)
    assert nodes.mirror.cautions == {}


def test_a_node_alone_needs_no_lookout(tmp_path: Path) -> None:
    nodes = three(tmp_path, quorum=1)
    nodes.open_one()
    nodes.kept.close(4)
    before = list(nodes.nodes[2].asked)
    alone(nodes, 2)
    assert nodes.nodes[2].asked == before


def test_an_announcement_is_all_it_takes(nodes: Several) -> None:
    """The loop asks by itself, and again while the node does not have its own ledger yet."""
    lookout, teller = nodes.follower.lookout, nodes.nodes[1]
    nodes.kept.change(closing(the_channel(nodes), nodes.kept.time))
    teller.late_history = 1

    async def life() -> None:
        running = asyncio.create_task(lookout.run())
        nodes.hear(1)
        while len(teller.asked) < 40 and not nodes.mirror.cautions:
            await asyncio.sleep(0.01)
            teller.late_history = 0
        running.cancel()

    nodes.loop.run_until_complete(asyncio.wait_for(life(), PATIENCE_S))
    assert list(nodes.mirror.cautions.values()) == [{"node1:6006": nodes.kept.index}]


def test_the_other_channel_of_a_payee_carries_on(nodes: Several) -> None:
    """A pause is of one channel; what is asked for is issued on another where there is one."""
    other = replace(the_channel(nodes), channel_id=ChannelId("B" * 64), amount=Drops(50))
    (state,) = nodes.mirror.channels.values()
    nodes.mirror.add(replace(state.record, row=state.record.row + 1000, channel=other, authorized=0))
    nodes.mirror.cautions[state] = {"node1:6006": LedgerIndex(nodes.kept.index + 1)}
    assert state.group is not None
    chosen = nodes.desk._choice.channel(state.group, 1, {})
    assert isinstance(chosen, Line)
    assert chosen.claim.channel_id == "B" * 64
