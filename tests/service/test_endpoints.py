"""Several nodes that fail, lag, forget and lie: every ledger is processed whole and once, and no lie is believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine import LAG
from service.several import Several, closing, invented, made_up

from channeld.core.channel import Channel
from channeld.core.errors import Malformed
from channeld.core.ledger import Fees, NodeFacts, ValidatedTransaction
from channeld.core.requests import Code, Refusal
from channeld.core.units import Drops, LedgerIndex
from channeld.service.endpoint import names_of
from channeld.service.endpoints import LATE_S

Tell = Callable[[list[ValidatedTransaction]], list[ValidatedTransaction]]


@pytest.fixture
def two(tmp_path: Path) -> Several:
    made = Several(tmp_path / "store.db", nodes=2)
    made.join(0)
    made.join(1)
    return made


def three(tmp_path: Path, *, quorum: int = 2) -> Several:
    made = Several(tmp_path / "store.db", nodes=3, quorum=quorum)
    for number in range(3):
        made.join(number)
    made.step()
    return made


# --- failover --------------------------------------------------------------------------------------------------------


def test_the_quickest_node_is_followed_and_kept(two: Several) -> None:
    two.step()
    assert two.primary == 0
    two.endpoints.all[0].latency_s = 5
    two.close()
    assert two.primary == 0
    assert two.follower.problem is None


def test_when_the_followed_node_dies_the_next_goes_on_where_it_ended(two: Several) -> None:
    channel = two.open_one()
    two.kept.redeem(channel, 2)
    two.drop(0)
    two.kept.redeem(channel, 3)
    two.all_hear()
    assert (two.primary, two.mirror.processed) == (1, two.kept.index)
    assert two.true()


def test_a_node_that_stands_still_is_left_for_one_that_goes_on(two: Several) -> None:
    channel = two.open_one()
    two.nodes[0].tip = two.kept.index
    two.kept.redeem(channel, 2)
    two.all_hear(0.1)
    assert two.primary == 0, "it may only be a moment late"
    two.pass_time(LATE_S + 0.1)
    two.step()
    assert (two.primary, two.mirror.processed) == (1, two.kept.index)
    assert two.true()


def test_when_all_stand_still_nobody_is_left(two: Several) -> None:
    two.step()
    two.pass_time(100)
    two.step()
    assert two.primary == 0


def test_ledgers_the_new_node_does_not_have_are_asked_of_another(two: Several) -> None:
    channel = two.open_one()
    two.nodes[0].tip = two.kept.index
    for amount in (1, 2, 3):
        two.kept.redeem(channel, amount)
    two.nodes[1].first = two.kept.index
    two.nodes[0].tip = two.kept.index - 1
    two.all_hear(LATE_S + 1)
    two.pass_time(LATE_S + 1)
    two.step()
    two.step()
    assert two.primary == 1
    assert two.nodes[0].asked[-1].startswith(str(two.kept.index - 2)) or len(two.nodes[0].asked) > 1
    assert two.mirror.processed == two.kept.index
    assert two.true()


def test_what_no_node_has_is_a_gap_and_the_channels_are_read_whole(two: Several) -> None:
    channel = two.open_one()
    two.drop(0)
    two.kept.change(replace(two.kept.channels[channel], amount=Drops(77)))
    two.kept.close()
    two.nodes[1].first = two.kept.index
    two.all_hear()
    assert two.mirror.processed == two.kept.index
    assert two.mirror.channels[two.kept.channels[channel].channel_id].record.channel.amount == 77


def test_a_node_that_announces_a_ledger_and_cannot_tell_it_is_left(two: Several) -> None:
    channel = two.open_one()
    two.nodes[0].lost = True
    two.kept.redeem(channel, 2)
    two.all_hear()
    assert two.true()
    two.step()
    assert two.primary == 1


def test_a_node_that_is_blocked_by_an_amendment_is_not_followed(two: Several) -> None:
    two.endpoints.all[0].facts = NodeFacts(0, "old", LedgerIndex(1), LedgerIndex(2), blocked=True)
    two.step()
    assert two.primary == 1


def test_a_node_that_tells_two_ledgers_of_one_index_is_dropped(two: Several) -> None:
    two.step()
    with pytest.raises(Malformed):
        two.hear(0, header=made_up(two.kept))


def test_a_name_is_host_and_port_and_unique() -> None:
    assert names_of(["wss://xrplcluster.com/", "ws://a:6006", "ws://A:6006/x", "ws://[::1]:80"]) == [
        "xrplcluster.com:443",
        "a:6006",
        "a:6006#2",
        "::1:80",
    ]


# --- agreement -------------------------------------------------------------------------------------------------------


def test_two_that_contradict_each_other_freeze_issuing_until_a_third_decides(tmp_path: Path) -> None:
    nodes = Several(tmp_path / "store.db", nodes=3)
    nodes.join(0)
    nodes.join(1)
    nodes.step()
    before = nodes.mirror.processed
    nodes.kept.close()
    nodes.pass_time(10)
    nodes.hear(0, header=made_up(nodes.kept))
    nodes.hear(1)
    nodes.step()
    assert nodes.mirror.processed == before
    assert "contradict" in str(nodes.desk.stopped())
    nodes.join(2)
    nodes.step()
    nodes.step()
    assert (nodes.mirror.processed, nodes.primary) == (nodes.kept.index, 1)
    assert nodes.desk.stopped() is None


def test_a_ledger_that_too_few_tell_waits_and_the_lag_freezes_issuing_with_the_reason(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    before = nodes.mirror.processed
    nodes.drop(1)
    nodes.drop(2)
    nodes.kept.close()
    nodes.pass_time(4)
    nodes.hear(0)
    nodes.step()
    assert (nodes.mirror.processed, nodes.desk.stopped()) == (before, None)
    nodes.pass_time(30)
    nodes.step()
    assert "1 of 2 endpoints" in str(nodes.desk.stopped())
    nodes.join(1)
    nodes.step()
    nodes.step()
    assert (nodes.mirror.processed, nodes.desk.stopped()) == (nodes.kept.index, None)


# --- a ledger that is old already ------------------------------------------------------------------------------------


def joined(path: Path, *ages_s: float | None) -> Several:
    """Nodes that say their newest ledger is so old, just connected."""
    nodes = Several(path / "store.db", nodes=len(ages_s))
    for number, age_s in enumerate(ages_s):
        nodes.nodes[number].age_s = age_s
        nodes.join(number)
    nodes.step()
    assert nodes.mirror.processed == nodes.kept.index
    return nodes


@pytest.mark.parametrize("age_s", [LAG + 1.0, 10.0**6, None])
def test_at_the_start_a_ledger_that_is_old_already_stops_issuing_until_a_new_one_comes(
    tmp_path: Path, age_s: float | None
) -> None:
    """The node stands still, or does not say: nobody knows what happened since."""
    nodes = joined(tmp_path, age_s)
    assert "ledger" in str(nodes.desk.stopped())
    (answer,) = nodes.answer(nodes.ask("first", 5))
    assert isinstance(answer, Refusal)
    assert answer.code is Code.FROZEN
    assert nodes.mirror.journal == {}, "nor is anything opened"
    nodes.close()
    assert nodes.desk.stopped() is None
    nodes.answer(nodes.ask("first", 5))
    assert len(nodes.mirror.journal) == 1


def test_its_age_goes_on_from_what_the_node_said(tmp_path: Path) -> None:
    nodes = joined(tmp_path, LAG - 10.0)
    assert nodes.desk.stopped() is None
    nodes.pass_time(9.5)
    assert nodes.desk.stopped() is None
    nodes.pass_time(1)
    assert nodes.desk.stopped() is not None


def test_one_node_that_has_it_new_is_enough(tmp_path: Path) -> None:
    assert joined(tmp_path, LAG + 1.0, 0.0).desk.stopped() is None


def test_a_ledger_that_came_after_the_node_was_asked_is_new(tmp_path: Path) -> None:
    nodes = Several(tmp_path / "store.db", nodes=1)
    nodes.nodes[0].age_s = LAG + 1.0
    asked = nodes.nodes[0].facts_now()
    nodes.kept.close()
    nodes.nodes[0].facts_now = lambda: asked  # type: ignore[method-assign]
    nodes.join(0)
    nodes.step()
    assert nodes.desk.stopped() is None


def test_a_node_that_comes_later_with_an_old_ledger_is_taken_at_its_word(tmp_path: Path) -> None:
    """Newer than what we had, and yet old."""
    nodes = joined(tmp_path, 0.0)
    nodes.drop(0)
    nodes.kept.close()
    nodes.nodes[0].age_s = LAG + 1.0
    nodes.join(0)
    nodes.step()
    assert nodes.mirror.processed == nodes.kept.index
    assert nodes.desk.stopped() is not None
    nodes.close()
    assert nodes.desk.stopped() is None


def test_a_start_waits_for_the_quorum(tmp_path: Path) -> None:
    nodes = Several(tmp_path / "store.db", nodes=2, quorum=2)
    nodes.join(0)
    nodes.step()
    assert nodes.mirror.header is None
    assert "1 of 2" in str(nodes.follower.problem)
    nodes.join(1)
    nodes.step()
    assert nodes.mirror.header is not None


# --- lies ------------------------------------------------------------------------------------------------------------


def an_invented_channel(nodes: Several, liar: int) -> None:
    lie = invented(nodes.kept.index)
    nodes.nodes[liar].tell = lambda told: [*told, replace(lie, ledger_index=LedgerIndex(nodes.kept.index))]
    nodes.nodes[liar].show = lambda shown: [*shown, lie.channels[0].channel]


def a_raised_amount(nodes: Several, liar: int) -> None:
    def more(channel: Channel) -> Channel:
        return replace(channel, amount=Drops(channel.amount * 10))

    def tell(told: list[ValidatedTransaction]) -> list[ValidatedTransaction]:
        return [replace(t, channels=tuple(replace(c, channel=more(c.channel)) for c in t.channels)) for t in told]

    nodes.nodes[liar].tell = tell
    nodes.nodes[liar].show = lambda shown: [more(c) for c in shown]


def everything_hidden(nodes: Several, liar: int) -> None:
    nodes.nodes[liar].tell = lambda _: []
    nodes.nodes[liar].show = lambda shown: [replace(c, expiration=None) for c in shown]


LIES = [an_invented_channel, a_raised_amount, everything_hidden]


@pytest.mark.parametrize("liar", [0, 1, 2])
@pytest.mark.parametrize("lie", LIES)
def test_no_lie_of_one_in_three_is_believed(tmp_path: Path, lie: Callable[[Several, int], None], liar: int) -> None:
    nodes = three(tmp_path)
    channel = nodes.open_one()
    lie(nodes, liar)
    nodes.kept.redeem(channel, 2)
    nodes.all_hear()
    nodes.kept.change(closing(nodes.kept.channels[channel], nodes.kept.time))
    nodes.all_hear()
    assert nodes.mirror.processed == nodes.kept.index
    assert nodes.true()
    assert nodes.primary != liar
    nodes.drop((liar + 1) % 3)
    nodes.join((liar + 1) % 3)
    nodes.step()
    nodes.all_hear()
    assert nodes.true()


@pytest.mark.parametrize("lie", LIES)
def test_the_lies_of_these_tests_would_be_believed_of_a_single_node(
    tmp_path: Path, lie: Callable[[Several, int], None]
) -> None:
    nodes = three(tmp_path, quorum=1)
    channel = nodes.open_one()
    lie(nodes, 0)
    nodes.kept.redeem(channel, 2)
    nodes.all_hear()
    assert not nodes.true()


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_a_transaction_that_one_node_hides_is_not_dead(tmp_path: Path, liar: int) -> None:
    nodes = three(tmp_path)
    everything_hidden(nodes, liar)
    nodes.answer(nodes.ask("first", 5))
    nodes.step()
    for _ in range(20):
        nodes.close()
    assert len(nodes.kept.created) == 1
    assert nodes.on_disk("SELECT DISTINCT status FROM intent") == [("done",)]


@pytest.mark.parametrize("liar", [0, 1, 2])
@pytest.mark.parametrize("ahead", [0, 1, 1000])
def test_a_faked_index_or_hash_of_one_in_three_changes_nothing(tmp_path: Path, ahead: int, liar: int) -> None:
    nodes = three(tmp_path)
    channel = nodes.open_one()
    nodes.kept.redeem(channel, 2)
    nodes.pass_time(4)
    nodes.hear(liar, header=made_up(nodes.kept, ahead=ahead))
    for number in {0, 1, 2} - {liar}:
        nodes.hear(number)
    nodes.step()
    nodes.pass_time(LATE_S + 1)
    nodes.step()
    nodes.step()
    assert nodes.mirror.processed == nodes.kept.index
    assert nodes.true()
    assert nodes.desk.stopped() is None
    assert nodes.primary != liar


def test_three_stories_of_three_nodes_decide_nothing_and_freeze(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    channel = nodes.open_one()
    before = nodes.mirror.processed
    an_invented_channel(nodes, 0)
    everything_hidden(nodes, 1)
    nodes.kept.redeem(channel, 2)
    nodes.all_hear()
    assert nodes.mirror.processed == before
    assert "contradict" in str(nodes.desk.stopped())
    nodes.nodes[1].tell = lambda told: told
    nodes.nodes[1].show = lambda shown: shown
    nodes.pass_time(15)
    nodes.step()
    nodes.step()
    assert nodes.true()
    assert nodes.desk.stopped() is None


def test_absurd_fees_are_said_and_do_not_stop_claims(two: Several) -> None:
    two.step()
    two.kept.close()
    absurd = replace(two.kept.header(), fees=Fees(Drops(10**9), Drops(1000), Drops(200)))
    two.kept.past[two.kept.index] = (absurd, *two.kept.past[two.kept.index][1:])
    two.all_hear()
    assert "above fee_cap" in str(two.follower.problem)
    assert two.desk.stopped() is None
