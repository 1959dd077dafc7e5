"""Who is let in: the policy's rules for `admit`, asked for every new request before it counts as demand.

Above the rules stand a person's word (somebody who is held back) and overrides. An answer is in proportion: `slow_down`
lets some through, `refuse` none for a while, `hold` none until a person thaws it. Where no rule acts, a pool's terms on
what is unusual say the same of a server, a user or a payee. A policy without any of that costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from channeld.core import allowance
from channeld.core.freezes import PAYEE, SERVER, USER, Cause, Freeze
from channeld.core.limits import Bucket
from channeld.core.policy import Policy
from channeld.core.requests import Ask, Because, Code, Refusal
from channeld.core.rules import Answer, Known, Rule, evaluate
from channeld.core.units import HOUR_S, Payee, RippleTime
from channeld.core.vocabulary import HOLD, PPM, VOCABULARY, Concern, Mode, Unit
from channeld.service.facts import Facts
from channeld.service.holdings import Group
from channeld.service.mirror import Mirror
from channeld.service.ports import Telemetry
from channeld.service.unusual import FACTS, Found, Seen

log = structlog.get_logger()

_HELD_RETRY_MS: Final = 60_000
_RETRY_S: Final = 60
"""When a refused request may come again, where no rule says."""
_NS: Final = 1_000_000_000
_MOST_BUCKETS: Final = 10_000
MOST_HELD_APART: Final = 1000
"""Users and payees held back at a time; beyond it the content server that names them is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the policy says to a request: by which `rule` (a label), what, and why in a sentence.

    `whom` is the scope that is slowed down or held. `path` and `facts` are for the history.
    """

    rule: str
    act: str
    why: str
    whom: str
    max_per_s: int
    retry_after: int
    path: tuple[str, ...]
    facts: Mapping[str, Known]


class Gatekeeper:
    """`opens` tells how many channels were opened for a payee after a moment, and may raise `StoreError`; `tier` the
    tier of a request. `facts` are what is counted for the rules, and may be asked for by whoever debits.
    """

    def __init__(
        self,
        mirror: Mirror,
        telemetry: Telemetry,
        monotonic: Callable[[], float],
        opens: Callable[[Payee, RippleTime], int],
        tier: Callable[[Ask, Payee], str | None],
    ) -> None:
        self._mirror, self._telemetry, self._monotonic = mirror, telemetry, monotonic
        self._tier, self.facts = tier, Facts(mirror, opens, tier)
        self._unusual = self.facts.unusual
        self._policy: Policy | None = None
        self._chain: tuple[Rule, ...] = ()
        self._buckets: dict[tuple[str, str], tuple[int, Bucket]] = {}
        self.on_hold: Callable[[str, str], None] = self._hold_in_memory
        """Told whom to hold back (a scope, `core.freezes.PEOPLE`), and what was found. May raise `StoreError`."""

    def _hold_in_memory(self, scope: str, found: str) -> None:
        self._mirror.stopped.freeze(Freeze(scope, Cause.HELD, found, "", 0))

    def _adopt(self, policy: Policy) -> None:
        self._policy, self._chain = policy, policy.chain(Concern.ADMIT)
        self.facts.adopt(policy)
        self._buckets.clear()

    # --- judging ------------------------------------------------------------------------------------------------------

    def free(self, server: str) -> bool:
        """Whether `judge` lets in whatever a content server asks now: no rule, override or person is in the way."""
        policy, mirror = self._mirror.policy, self._mirror
        if policy is not self._policy:
            self._adopt(policy)
        watched = self._chain or policy.overrides or self._unusual.watching
        return not (watched or mirror.held.get(server) or mirror.held_apart)

    def judge(self, ask: Ask, payee: Payee, group: Group, fresh: Mapping[str, int], now: int) -> Refusal | None:
        """Why a request is not let in, or None. `fresh` is what the group being decided has spent so far, by subject;
        `now` is in Unix seconds.
        """
        mirror, policy = self._mirror, self._mirror.policy
        held = mirror.held.get(ask.server) or (mirror.held_apart and self._held_apart(ask, payee))
        if held:
            return Refusal(Code.FROZEN, next(iter(held.values())), _HELD_RETRY_MS)
        if policy is not self._policy:
            self._adopt(policy)
        if policy.overrides and (refusal := self._overridden(policy, ask, payee, group)) is not None:
            return refusal
        said = self._said(Seen(ask, group.pool, payee, fresh, now // HOUR_S), group)
        return None if said is None else self._act(said, ask.server, policy.mode(Concern.ADMIT))

    def _held_apart(self, ask: Ask, payee: Payee) -> Mapping[str, str] | None:
        """Why the payee or the user of a request is held back, by cause."""
        held = self._mirror.held_apart
        found = held.get(PAYEE + str(payee))
        return found or (held.get(_user_scope(ask)) if ask.user else None)

    def _overridden(self, policy: Policy, ask: Ask, payee: Payee, group: Group) -> Refusal | None:
        header = self._mirror.header
        for override in policy.overrides:
            if Concern.ADMIT not in override.concerns or header is None or override.until <= header.close_time:
                continue
            tier = self._tier(ask, payee) if override.scope.tier is not None else None
            if override.scope.fits(channel_id=None, payee=str(payee), server=ask.server, pool=group.pool, tier=tier):
                left_ms = (override.until - header.close_time) * 1000
                return Refusal(Code.FROZEN, f"an override of the policy: {override.why}", max(1000, left_ms))
        return None

    def _said(self, seen: Seen, group: Group) -> _Said | None:
        """What the rules say, else the terms of the pool; None: it is let in."""
        if self._chain:
            facts = self.facts.of(seen, group)
            answer = evaluate(self._chain, facts, {})
            if answer.act is not None:
                return None if answer.act == "admit" else self._of_rule(answer, facts, seen.ask)
        pool = self._mirror.policy.pools.get(group.pool)
        if pool is None or pool.anomaly is None:
            return None
        found = self._unusual.found(pool.anomaly, seen)
        return None if found is None else self._of_terms(found, seen)

    def _of_rule(self, answer: Answer, facts: Mapping[str, Known], ask: Ask) -> _Said:
        assert answer.act is not None
        rule = answer.path[-1]
        return _Said(
            rule=rule,
            act=answer.act,
            why=f"rule {rule} of the policy: {self._because(rule, facts)}",
            whom=SERVER + ask.server,
            max_per_s=_number(answer, "max_per_s", 1),
            retry_after=_number(answer, "retry_after", _RETRY_S),
            path=tuple(f"{Concern.ADMIT.value}/{name}" for name in answer.path),
            facts=facts,
        )

    def _of_terms(self, found: Found, seen: Seen) -> _Said:
        (ask, pool, payee, *_), fact, terms = seen, FACTS[found.whom], found.terms
        scopes = {"server": SERVER + ask.server, "payee": PAYEE + str(payee)}
        since = "this hour" if found.whom == "server" else "today"
        facts: dict[str, Known] = {
            fact: found.ratio,
            "drops": ask.drops,
            "spent": found.drops,
            "server": ask.server,
            "pool": pool,
        }
        return _Said(
            rule=fact,
            act=found.act,
            why=f"{found.drops} drops {since} are {found.ratio / PPM:.2f} times what is usual for this {found.whom}",
            whom=scopes.get(found.whom) or _user_scope(ask),
            max_per_s=terms.max_per_s,
            retry_after=terms.retry_after,
            path=(f"pools/{pool}/anomaly",),
            facts=facts,
        )

    def _act(self, said: _Said, server: str, mode: Mode) -> Refusal | None:
        """Do as the policy says, or only count it where the mode does not apply it."""
        wait_ms = None
        if said.act == "slow_down" and (wait_ms := self._slow_down(said)) is None:
            return None
        self._telemetry.admitted(said.rule, said.act, mode.value)
        if mode is not Mode.APPLY:
            return None
        because = Because(said.path, said.act, said.facts, self._mirror.policy.hash)
        if said.act == HOLD:
            self._hold(said, server)
            return Refusal(Code.FROZEN, f"{said.why}; a person looks at it", _HELD_RETRY_MS, because)
        if wait_ms is not None:
            why = f"{said.why}: slowed down to {said.max_per_s} requests a second"
            return Refusal(Code.LIMIT_EXCEEDED, why, wait_ms, because)
        return Refusal(Code.LIMIT_EXCEEDED, said.why, said.retry_after * 1000, because)

    def _hold(self, said: _Said, server: str) -> None:
        """Hold back whom it is about. A server that has very many held back is held back itself."""
        if said.whom.startswith(SERVER) or len(self._mirror.held_apart) < MOST_HELD_APART:
            self.on_hold(said.whom, said.why)
        else:
            self.on_hold(SERVER + server, f"{said.why}, and as many users and payees are held back as may be")

    def _slow_down(self, said: _Said) -> int | None:
        """Let through so many a second of those that are slowed down: how long the others wait, in milliseconds."""
        per_s, now = said.max_per_s, int(self._monotonic() * _NS)
        rate, bucket = self._buckets.get((said.rule, said.whom), (0, None))
        if bucket is None or rate != per_s:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets.clear()
            bucket = Bucket(per_s)
            self._buckets[said.rule, said.whom] = (per_s, bucket)
        if bucket.take(now, 1):
            return None
        return max(-(-bucket.promise(now, 1) // 1_000_000), 1)

    def _because(self, rule: str, facts: Mapping[str, Known]) -> str:
        """What a rule asked for, as it was."""
        (match,) = [r.match for r in self._chain if r.name == rule]
        kinds = VOCABULARY[Concern.ADMIT].facts
        return ", ".join(f"{fact} is {_told(kinds[fact].unit, facts[fact])}" for fact in match) or "always"


def _user_scope(ask: Ask) -> str:
    return f"{USER}{ask.server}/{allowance.user_hash(ask.user)}"


def _number(answer: Answer, setting: str, otherwise: int) -> int:
    value = answer.settings.get(setting, otherwise)
    assert isinstance(value, int)
    return value


def _told(unit: Unit, value: Known) -> str:
    if unit is Unit.RATIO and isinstance(value, int):
        return f"{value / PPM:.2f}"
    return f"{value} drops" if unit is Unit.DROPS else str(value)
