"""Nodes come, go, lag, skip, repeat and forget in any order: in the end every ledger was processed whole and once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from service.several import Several

NODES = 3
which = st.integers(0, NODES - 1)


class Orders(RuleBasedStateMachine):
    """Any order of events at three nodes that agree, none of which lies."""

    @initialize(quorum=st.integers(1, 2))
    def begin(self, quorum: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.nodes = Several(Path(self.directory.name) / "store.db", nodes=NODES, quorum=quorum)
        for number in range(NODES):
            self.nodes.join(number)
        self.channel, self.paid = self.nodes.open_one(), 0
        self.seen = self.nodes.mirror.processed or 0

    @rule()
    def somebody_is_paid(self) -> None:
        if self.paid < 5:
            self.paid += 1
            self.nodes.kept.redeem(self.channel, self.paid)

    @rule(ledgers=st.integers(1, 3))
    def ledgers_close(self, ledgers: int) -> None:
        for _ in range(ledgers):
            self.nodes.kept.close()

    @rule(number=which)
    def a_node_announces(self, number: int) -> None:
        self.nodes.hear(number)

    @rule(number=which, back=st.integers(0, 3))
    def a_node_repeats(self, number: int, back: int) -> None:
        node = self.nodes.nodes[number]
        self.nodes.hear(number, max(100, node.at() - back))

    @rule(number=which, stands=st.booleans())
    def a_node_stands_still_or_goes_on(self, number: int, stands: bool) -> None:
        node = self.nodes.nodes[number]
        node.tip = node.at() if stands else None

    @rule(number=which, fails=st.booleans())
    def a_node_fails_to_answer_or_answers(self, number: int, fails: bool) -> None:
        self.nodes.nodes[number].lost = fails

    @rule(number=which, kept=st.integers(0, 6))
    def a_node_forgets(self, number: int, kept: int) -> None:
        self.nodes.nodes[number].first = max(0, self.nodes.nodes[number].at() - kept)

    @rule(number=which)
    def a_connection_is_lost(self, number: int) -> None:
        self.nodes.drop(number)

    @rule(number=which)
    def a_node_comes_back(self, number: int) -> None:
        if self.nodes.endpoints.all[number].session is None:
            self.nodes.join(number)

    @rule(seconds=st.sampled_from([0.1, 3, 30]))
    def time_passes(self, seconds: float) -> None:
        self.nodes.pass_time(seconds)
        self.nodes.step()

    @invariant()
    def what_is_processed_only_grows_and_is_as_it_was_then(self) -> None:
        if not hasattr(self, "nodes"):
            return
        mirror = self.nodes.mirror
        assert mirror.processed is not None
        assert mirror.processed >= self.seen
        self.seen = mirror.processed
        truth = self.nodes.kept.past[mirror.processed][2]
        believed = {i: (s.record.channel.amount, s.record.channel.balance) for i, s in mirror.channels.items()}
        assert believed == {i: (c.amount, c.balance) for i, c in truth.items()}
        paid = self.nodes.on_disk("SELECT ledger, count(*) FROM payment GROUP BY ledger")
        assert all(count == 1 for _, count in paid), "a ledger was counted twice"

    def teardown(self) -> None:
        if not hasattr(self, "nodes"):
            return
        whole = all(node.first == 0 for node in self.nodes.nodes)
        for number, node in enumerate(self.nodes.nodes):
            node.tip, node.lost = None, False
            if self.nodes.endpoints.all[number].session is None:
                self.nodes.join(number)
        for _ in range(4):
            self.nodes.kept.close()
            self.nodes.all_hear(15)
        assert self.nodes.mirror.processed == self.nodes.kept.index, self.nodes.follower.problem
        assert self.nodes.follower.problem is None
        assert not whole or self.nodes.true()
        self.nodes.kill()
        self.directory.cleanup()


TestOrders = Orders.TestCase
