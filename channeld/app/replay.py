"""A policy over recorded history: what it would have answered otherwise, decided again from what was recorded.

Each moment is decided by itself. What other payees took before it on the same ledger is not in its record, so where
money or caps were short, even the policy of the time may answer otherwise here than it did.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from channeld.adapters.sqlite.history import history_path
from channeld.adapters.sqlite.history_reader import Recorded, read_moments
from channeld.app.links import spoken
from channeld.app.present import answers_of
from channeld.core.collecting import Collecting, collect
from channeld.core.decide import decide
from channeld.core.errors import Unreachable
from channeld.core.history import Answered, collected
from channeld.core.policy import Policy
from channeld.core.units import RippleTime, to_ripple, to_unix
from channeld.core.world import Reason, World
from channeld.settings import Settings

_PAGE: Final = 500
MOST: Final = 200
"""Differences listed, the newest; the rest is counted."""


@dataclass(slots=True)
class _Tally:
    moments: int = 0
    answers: int = 0
    same: int = 0
    unreadable: int = 0
    policies: set[str] = field(default_factory=set)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    subjects: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    listed: list[dict[str, Any]] = field(default_factory=list)
    since: int | None = None
    until: int | None = None


def replay(settings: Settings, policy: Policy, since_unix: float | None = None) -> dict[str, Any]:
    """Decide what was recorded since a moment again. Raises `Unreachable` where nothing was ever recorded."""
    path = history_path(settings.store.path)
    if not path.is_file():
        raise Unreachable(f"there is no history yet: {path}")
    since, after, tally = 0 if since_unix is None else to_ripple(since_unix), 0, _Tally()
    while page := read_moments(path, since=since, after=after, limit=_PAGE):
        for recorded in page:
            _again(recorded, policy, tally)
        after = page[-1].number
    changes = [
        {"from": old, "to": new, "count": count, "subjects": sorted(tally.subjects[old, new])[:5]}
        for (old, new), count in tally.kinds.most_common()
    ]
    return {
        "policy_hash": policy.hash,
        "recorded_policies": sorted(tally.policies),
        "since_unix": tally.since,
        "until_unix": tally.until,
        "moments": tally.moments,
        "answers": tally.answers,
        "same": tally.same,
        "differing": sum(tally.kinds.values()),
        "subjects": len(set().union(*tally.subjects.values())) if tally.subjects else 0,
        "unreadable": tally.unreadable,
        "changes": changes,
        "differences": tally.listed[-MOST:],
    }


def _again(recorded: Recorded, policy: Policy, tally: _Tally) -> None:
    """One moment: what was answered then, against what the policy answers."""
    at = to_unix(recorded.close_time)
    tally.moments += 1
    tally.since, tally.until = at if tally.since is None else tally.since, at
    tally.policies.add(recorded.policy_hash)
    if recorded.situation is None:
        tally.unreadable += 1
        return
    now = answers(recorded.situation, recorded.close_time, policy)
    for told in recorded.answers:
        tally.answers += 1
        old, new = told.said, now.get(told.said.subject)
        if new is not None and alike(old, new):
            tally.same += 1
            continue
        change = (gist(old), gist(new))
        tally.kinds[change] += 1
        tally.subjects.setdefault(change, set()).add(old.subject)
        tally.listed.append(
            {
                "at_unix": at,
                "ledger": told.ledger,
                "subject": old.subject,
                "payee": told.payee,
                "recorded": spoken(old),
                "policy": spoken(new) if new else None,
            }
        )
        if len(tally.listed) > 2 * MOST:
            del tally.listed[:MOST]


def answers(situation: World | Collecting, now: RippleTime, policy: Policy) -> dict[str, Answered]:
    """What a policy answers about every subject of a recorded situation."""
    if isinstance(situation, World):
        return {said.subject: said for _, said in answers_of(decide(situation, policy))}
    channel_id = situation.held.channel.channel_id
    return {channel_id: collected(channel_id, collect(situation, policy, now))}


def alike(old: Answered, new: Answered) -> bool:
    """Whether a policy comes to what was recorded: the same is done, as far; or as little, for the same reason."""
    if old.reason == Reason.FROZEN.value:  # what a wallet's freeze kept back, no policy lets through
        return old.kind == new.kind
    return (old.kind, old.reason, old.target) == (new.kind, new.reason, new.target)


def gist(said: Answered | None) -> str:
    """An answer in two words."""
    if said is None:
        return "nothing"
    if not said.reason:
        return f"{said.kind.value if said.kind else 'nothing'}: {said.because}"
    return f"would {said.kind.value}: {said.reason}" if said.kind else f"left alone: {said.reason}"
