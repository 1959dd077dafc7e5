"""Cooldowns of the policy: what was done lately is not done again, unless a deadline asks for it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from worlds import NOW, Case, cases

from channeld.core.decide import decide
from channeld.core.intents import Kind
from channeld.core.rules import Rule
from channeld.core.units import RippleTime
from channeld.core.vocabulary import Concern
from channeld.core.world import Decision, Reason, World

COOLDOWN = 20
CONCERNS = {Kind.OPEN: Concern.OPEN, Kind.FUND: Concern.FUND, Kind.SETTLE: Concern.SETTLE}
AGO = (None, 0, 1, COOLDOWN - 1, COOLDOWN, COOLDOWN + 1)
HAS_A_DEADLINE = ("owed_before_close", "owed_before_end")


def acted(case: Case) -> World:
    """The world with steps of all kinds in its past, most of them about a cooldown ago."""
    r = Random(case.seed + 1)

    def moment() -> RippleTime | None:
        ago = r.choice(AGO)
        return None if ago is None else RippleTime(NOW - ago)

    groups = []
    for group in case.world.groups:
        views = tuple(replace(v, funded_at=moment(), settled_at=moment()) for v in group.channels)
        groups.append(replace(group, channels=views, opened_at=moment()))
    return replace(case.world, groups=tuple(groups))


def spaced(case: Case, world: World) -> Decision:
    """What is decided under a policy that spaces everything it can."""
    rules = {concern: (Rule("slowly", set={"cooldown": COOLDOWN}),) for concern in CONCERNS.values()}
    return decide(world, replace(case.policy, rules=rules))


def hot(world: World, kind: Kind, subject: str) -> bool:
    """Whether a step of a kind on a subject would come too soon."""
    for group in world.groups:
        ours = {("/".join(group.key), Kind.OPEN): group.opened_at}
        for view in group.channels:
            ours |= {
                (view.channel.channel_id, k): at
                for k, at in ((Kind.FUND, view.funded_at), (Kind.SETTLE, view.settled_at))
            }
        if (at := ours.get((subject, kind))) is not None and at + COOLDOWN > NOW:
            return True
    return False


def subject(action: object) -> str:
    return f"{action.pool}/{action.subject}" if hasattr(action, "pool") else action.channel_id  # type: ignore[attr-defined]


@given(cases())
def test_nothing_is_repeated_within_its_cooldown_but_what_has_a_deadline(case: Case) -> None:
    world = acted(case)
    for planned in spaced(case, world).planned:
        intent = planned.intent
        if intent.action.kind in CONCERNS and intent.reason not in HAS_A_DEADLINE:
            assert not hot(world, intent.action.kind, subject(intent.action)), intent


@given(cases())
def test_deadline_work_is_the_same_with_cooldowns_as_without(case: Case) -> None:
    world = acted(case)
    free, slow = decide(world, case.policy), spaced(case, world)
    urgent = [[p.intent.action for p in d.planned if p.intent.reason in HAS_A_DEADLINE] for d in (free, slow)]
    assert urgent[0] == urgent[1]


@given(cases())
def test_what_cools_down_says_so_and_until_when(case: Case) -> None:
    world = acted(case)
    for hold in spaced(case, world).holds:
        if hold.reason is Reason.COOLDOWN:
            assert hold.until is not None
            assert hold.until > NOW


@given(cases())
def test_a_cooldown_that_is_over_holds_nothing_back(case: Case) -> None:
    long_ago = RippleTime(NOW - COOLDOWN)
    groups = tuple(
        replace(
            group,
            opened_at=long_ago,
            channels=tuple(replace(v, funded_at=long_ago, settled_at=long_ago) for v in group.channels),
        )
        for group in case.world.groups
    )
    world = replace(case.world, groups=groups)
    bare = [(p.group, p.intent.action) for p in decide(world, case.policy).planned]
    assert [(p.group, p.intent.action) for p in spaced(case, world).planned] == bare
