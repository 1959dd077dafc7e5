"""What the engine answered about a channel or payee, and on what: the values of which its history is made.

An answer is kept where it differs from the last one about its subject: everything that was done, and of what was left
alone each change of reason. What waits for an intent in flight is no news: the intent was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from channeld.core.caps import names_of
from channeld.core.collecting import Collecting, Wait
from channeld.core.intents import FinalizeClose, FundChannel, Intent, Kind, OpenChannel, RequestClose
from channeld.core.policy import Policy
from channeld.core.requests import Because, Code
from channeld.core.units import LedgerIndex, RippleTime
from channeld.core.world import GroupView, Hold, World

_T = TypeVar("_T")
Gist = tuple[str, str, tuple[str, ...]]
"""What makes two answers the same: what is done (empty: nothing), why not (empty: it is), and the rules that held."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer about one subject: a channel id, or pool and payee joined by a slash.

    `kind` is what is done, or would be: None where nothing is due. `because` is why it is due. `reason` is why it is
    not done, empty where it is; then `intent` is its number in the journal. `target` is the action's, in drops. What is
    left alone is looked at again at `until`, None: when it changes. `path` names the rules that held.
    """

    subject: str
    kind: Kind | None
    because: str
    reason: str
    path: tuple[str, ...]
    target: int | None = None
    until: RippleTime | None = None
    intent: int | None = None

    @property
    def gist(self) -> Gist:
        return ("" if self.kind is None else self.kind.value, self.reason, self.path)


@dataclass(frozen=True, slots=True)
class Moment:
    """What was answered about one group on one ledger, and all that it was decided from.

    `world` is the world that was decided on, its groups left out but for `group`; `collecting` stands in the place of
    both for a channel that pays us. `where` is the pool (a wallet, where it pays us) and what else names the group.
    """

    ledger: LedgerIndex
    close_time: RippleTime
    policy: Policy
    where: tuple[str, ...]
    payee: str
    answers: tuple[Answered, ...]
    world: World | None = None
    group: GroupView | None = None
    collecting: Collecting | None = None

    @property
    def situation(self) -> World | Collecting:
        """What it was decided from and nothing else: enough to decide it again."""
        if self.collecting is not None:
            return self.collecting
        assert self.world is not None
        assert self.group is not None
        return alone(self.world, self.group, self.policy)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as the history has it: when and about which group it was given, on what, under which policy.

    `place` is the group's name: pool and payee, or the wallet of a channel that pays us. `inputs` are named facts.
    """

    number: int
    ledger: LedgerIndex
    close_time: RippleTime
    place: str
    payee: str
    policy_hash: str
    said: Answered
    inputs: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RefusedAsk:
    """A claim request that was refused, by its `key`. `at` is in Unix seconds; `payee` is empty where none was read.

    `because` is there where the policy refused it.
    """

    at: int
    key: bytes
    server: str
    payee: str
    drops: int
    code: Code
    reason: str
    because: Because | None = None


def alone(world: World, group: GroupView, policy: Policy) -> World:
    """The part of a world that a decision about one group of it can depend on, but for what others take before it."""
    pool = policy.pools.get(group.pool)
    wallets = {pool.wallet} if pool else set()
    servers = {group.server, *(view.server for view in group.channels)}
    return replace(
        world,
        groups=(group,),
        wallets=_only(world.wallets, wallets),
        servers=_only(world.servers, servers),
        locked=_only(world.locked, names_of(group)),
    )


def _only(given: Mapping[str, _T], names: set[str]) -> dict[str, _T]:
    return {name: given[name] for name in sorted(names) if name in given}


def subject_of_hold(hold: Hold) -> str:
    """How a hold's subject is called in the history."""
    return "/".join(hold.group) if hold.subject == hold.group[1] else hold.subject


def answered(intent: Intent, subject: str, *, number: int | None) -> Answered:
    """The answer that an intent is."""
    return Answered(subject, intent.action.kind, intent.reason, "", intent.path, target_of(intent), intent=number)


def left_alone(hold: Hold, wish: Intent | None) -> Answered:
    """The answer that a hold is; `wish` is what would be done but for it."""
    said = Answered(subject_of_hold(hold), None, "", hold.reason.value, hold.path, until=hold.until)
    if wish is None:
        return said
    kind, path = wish.action.kind, wish.path or hold.path
    return replace(said, kind=kind, because=wish.reason, path=path, target=target_of(wish))


def collected(channel_id: str, answer: Intent | Wait, number: int | None = None) -> Answered:
    """The answer about a channel that pays us; `number` is that of its intent in the journal, if it has one."""
    if isinstance(answer, Intent):
        return answered(answer, channel_id, number=number)
    wish = answer.wish
    kind, because, target = (wish.action.kind, wish.reason, target_of(wish)) if wish else (None, "", None)
    return Answered(channel_id, kind, because, answer.reason.value, answer.path, target, answer.until)


def target_of(intent: Intent) -> int | None:
    """The drops an intent aims at: what a channel holds or has paid afterwards, None where it ends."""
    action = intent.action
    if isinstance(action, OpenChannel):
        return action.amount
    if isinstance(action, RequestClose | FinalizeClose):
        return None
    return action.target_amount if isinstance(action, FundChannel) else action.target_balance
