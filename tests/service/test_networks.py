"""A node of another network is not used; where there is no other at first contact, the config is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core.errors import ConfigError, Unreachable
from channeld.service.networks import Networks

OURS, NAMES = 7, ["a:1", "b:2", "c:3"]
EVENTS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([OURS, 8, 9, None])), min_size=1, max_size=12)


@given(EVENTS)
def test_it_ends_when_every_node_was_tried_and_none_of_ours_was_met(events: list[tuple[str, int | None]]) -> None:
    """Each event is an attempt: a node says its network and is lost later, or (None) does not answer at all."""
    networks = Networks(OURS, NAMES)
    for number, (name, found) in enumerate(events):
        if found is not None and found != OURS:
            with pytest.raises(Unreachable, match=rf"is on network {found}, not 7 as \[ledger\] network_id says"):
                networks.check(name, found)
        elif found is not None:
            networks.check(name, found)
        past = events[: number + 1]
        said = {found for _, found in past}
        if {name for name, _ in past} == set(NAMES) and OURS not in said and said != {None}:
            with pytest.raises(ConfigError, match=r"ledger\.network_id: it is 7, but .* is on network [89]"):
                networks.tried(name)
            return
        networks.tried(name)


def test_every_node_of_another_network_is_named() -> None:
    networks = Networks(OURS, NAMES[:2])
    for name, found in (("a:1", 0), ("b:2", 1)):
        with pytest.raises(Unreachable):
            networks.check(name, found)
    networks.tried("a:1")
    with pytest.raises(ConfigError, match=r"a:1 is on network 0, b:2 is on network 1 \(set it to the network meant"):
        networks.tried("b:2")
