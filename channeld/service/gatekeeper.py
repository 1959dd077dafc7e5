"""Who is let in: the policy's rules for `admit`, asked for every new request before it counts as demand.

Above the rules stand a person's word (a content server that is held back) and overrides. A rule's answer is in
proportion: `slow_down` lets some through, `refuse` none for a while, `hold` none of that server until a person thaws
it. What the rules ask about is worked out only if one of them does; a policy without such rules costs nothing.

Everything a rule may count on is durable: sums are written with the claims they count, so that no restart forgives
anything. A rule that asks for a sum sees it with the request in it, so a bound in a rule is never passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from channeld.core import allowance
from channeld.core.allowance import DAY_HOURS, HOUR_S, MOST_SUBJECTS, Allowance
from channeld.core.limits import Bucket
from channeld.core.policy import Policy
from channeld.core.requests import Ask, Code, Refusal
from channeld.core.rules import Answer, Known, Rule, evaluate
from channeld.core.units import Payee, RippleTime
from channeld.core.vocabulary import HOLD, PPM, VOCABULARY, Concern, Mode, Unit
from channeld.service.holdings import Group
from channeld.service.mirror import Mirror
from channeld.service.ports import Telemetry

log = structlog.get_logger()

_HELD_RETRY_MS: Final = 60_000
_RETRY_S: Final = 60
"""When a refused request may come again, where no rule says."""
_NS: Final = 1_000_000_000
_DAY_S: Final = 86_400
_MOST_BUCKETS: Final = 10_000
_SUMS: Final = {
    "spent_hour": ("server", 1),
    "spent_day": ("server", DAY_HOURS),
    "user_spent_hour": ("user", 1),
    "user_spent_day": ("user", DAY_HOURS),
    "tier_spent_day": ("tier", DAY_HOURS),
    "payee_spent_hour": ("payee", 1),
    "payee_spent_day": ("payee", DAY_HOURS),
}
"""Facts that are sums: whose, and of how many hours."""
_EVERYBODY: Final = {"user": "/u", "tier": "/t", "payee": "/p"}
"""Where those are counted together that came after `MOST_SUBJECTS`."""


class Gatekeeper:
    """`opens` tells how many channels were opened for a payee after a moment, and may raise `StoreError`; `tier` the
    tier of a request.
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
        self._opens, self._tier = opens, tier
        self._allowance = Allowance(mirror.spent)
        self._policy: Policy | None = None
        self._chain: tuple[Rule, ...] = ()
        self._asked: frozenset[str] = frozenset()
        self._counted: frozenset[str] = frozenset()
        self._buckets: dict[tuple[str, str], tuple[int, Bucket]] = {}
        self._hour, self._subjects = 0, set[str]()
        self._opened: dict[Payee, int] = {}
        self._opened_at: object = None
        self.on_hold: Callable[[str, str], None] = self._hold_in_memory
        """Told which content server is to be held back, and what was found. May raise `StoreError`."""

    def _hold_in_memory(self, server: str, found: str) -> None:
        self._mirror.held.setdefault(server, {}).setdefault("held", found)

    def _adopt(self, policy: Policy) -> None:
        """Take over a policy: what its rules ask for, and whose spending is to be counted for them."""
        self._policy, self._chain = policy, policy.chain(Concern.ADMIT)
        self._asked = frozenset(fact for rule in self._chain for fact in rule.match)
        self._counted = frozenset(_SUMS[fact][0] for fact in self._asked & _SUMS.keys()) - {"server"}
        self._buckets.clear()

    # --- judging ------------------------------------------------------------------------------------------------------

    def free(self, server: str) -> bool:
        """Whether `judge` lets in whatever a content server asks now: no rule, override or person is in the way."""
        policy = self._mirror.policy
        if policy is not self._policy:
            self._adopt(policy)
        return not (self._chain or policy.overrides or self._mirror.held.get(server))

    def judge(self, ask: Ask, payee: Payee, group: Group, fresh: Mapping[str, int], now: int) -> Refusal | None:
        """Why a request is not let in, or None. `fresh` is what the group being decided has spent so far, by subject;
        `now` is in Unix seconds.
        """
        if held := self._mirror.held.get(ask.server):
            return Refusal(Code.FROZEN, next(iter(held.values())), _HELD_RETRY_MS)
        policy = self._mirror.policy
        if policy is not self._policy:
            self._adopt(policy)
        if policy.overrides and (refusal := self._overridden(policy, ask, payee, group)) is not None:
            return refusal
        if not self._chain:
            return None
        facts = self._facts(ask, payee, group, fresh, now // HOUR_S)
        answer = evaluate(self._chain, facts, {})
        if answer.act in (None, "admit"):
            return None
        return self._act(answer, facts, ask, policy.mode(Concern.ADMIT))

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

    def _act(self, answer: Answer, facts: Mapping[str, Known], ask: Ask, mode: Mode) -> Refusal | None:
        """Do as a rule says, or only count it where the mode does not apply it."""
        assert answer.act is not None
        rule, act = answer.path[-1], answer.act
        refusal = None
        if act == "slow_down":
            refusal = self._slow_down(answer, rule, ask.server)
            if refusal is None:
                return None
        self._telemetry.admitted(rule, act, mode.value)
        if mode is not Mode.APPLY:
            return None
        if refusal is not None:
            return refusal
        why = f"rule {rule} of the policy: {self._because(rule, facts)}"
        if act == HOLD:
            self.on_hold(ask.server, why)
            return Refusal(Code.FROZEN, f"{why}; a person looks at it", _HELD_RETRY_MS)
        return Refusal(Code.LIMIT_EXCEEDED, why, _number(answer, "retry_after", _RETRY_S) * 1000)

    def _slow_down(self, answer: Answer, rule: str, server: str) -> Refusal | None:
        """Let through so many a second of those that a rule slows down."""
        per_s, now = _number(answer, "max_per_s", 1), int(self._monotonic() * _NS)
        rate, bucket = self._buckets.get((rule, server), (0, None))
        if bucket is None or rate != per_s:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets.clear()
            bucket = Bucket(per_s)
            self._buckets[rule, server] = (per_s, bucket)
        if bucket.take(now, 1):
            return None
        wait_ms = -(-bucket.promise(now, 1) // 1_000_000)
        why = f"rule {rule} of the policy slows this server down to {per_s} requests a second"
        return Refusal(Code.LIMIT_EXCEEDED, why, max(wait_ms, 1))

    def _because(self, rule: str, facts: Mapping[str, Known]) -> str:
        """What a rule asked for, as it was."""
        (match,) = [r.match for r in self._chain if r.name == rule]
        kinds = VOCABULARY[Concern.ADMIT].facts
        return ", ".join(f"{fact} is {_said(kinds[fact].unit, facts[fact])}" for fact in match) or "always"

    # --- facts --------------------------------------------------------------------------------------------------------

    def _facts(self, ask: Ask, payee: Payee, group: Group, fresh: Mapping[str, int], hour: int) -> dict[str, Known]:
        """What the rules ask for, and nothing else."""
        asked = self._asked
        facts: dict[str, Known] = {"drops": ask.drops, "server": ask.server, "pool": group.pool}
        for fact in asked & _SUMS.keys():
            kind, hours = _SUMS[fact]
            if (subject := self._subject(kind, ask, payee)) is not None:
                facts[fact] = self._sum(subject, kind, hours, (hour, fresh)) + ask.drops
        if "tier" in asked:
            facts["tier"] = self._tier(ask, payee)
        if "region" in asked:
            pool = self._mirror.policy.pools.get(group.pool)
            facts["region"] = pool.regions[0] if pool is not None and len(pool.regions) == 1 else None
        if "locked" in asked:
            facts["locked"] = sum(state.record.channel.remaining for state in group.channels)
        if "payee_opens_day" in asked:
            facts["payee_opens_day"] = self._opens_day(payee)
        if "anomaly" in asked:
            others = tuple(self._mirror.grants)
            spent = self._allowance.spent(ask.server, hour, 0) + fresh.get(ask.server, 0) + ask.drops
            facts["anomaly"] = self._allowance.anomaly(ask.server, others, hour, spent)
        return facts

    def spent_today(self, server: str, now: int) -> int:
        """Drops accepted from a content server in the last 24 hours, the oldest hour counted whole."""
        return self._allowance.spent(server, now // HOUR_S, DAY_HOURS)

    def _sum(self, subject: str, kind: str, hours: int, now: tuple[int, Mapping[str, int]]) -> int:
        """What a subject spent in a window, and what those spent who are not counted apart."""
        hour, fresh = now
        spent = self._allowance.spent(subject, hour, hours) + fresh.get(subject, 0)
        if kind == "server":
            return spent
        everybody = _EVERYBODY[kind]
        return spent + self._allowance.spent(everybody, hour, hours) + fresh.get(everybody, 0)

    def _subject(self, kind: str, ask: Ask, payee: Payee) -> str | None:
        if kind == "server":
            return ask.server
        if kind == "payee":
            return allowance.payee_subject(payee)
        if kind == "user":
            return allowance.user_subject(ask.server, ask.user) if ask.user else None
        tier = self._tier(ask, payee)
        return None if tier is None else allowance.tier_subject(ask.server, tier)

    def _opens_day(self, payee: Payee) -> int:
        """Read from the store once a ledger, for nothing opens in between."""
        header = self._mirror.header
        assert header is not None
        if self._opened_at != header.index:
            self._opened_at = header.index
            self._opened.clear()
        if payee not in self._opened:
            self._opened[payee] = self._opens(payee, RippleTime(header.close_time - _DAY_S))
        return self._opened[payee]

    # --- counting -----------------------------------------------------------------------------------------------------

    def counts(self, ask: Ask, payee: Payee, now: int) -> list[str]:
        """Under which subjects beside its server the drops of a request that was let in are to be counted."""
        if not self._counted:
            return []
        if (hour := now // HOUR_S) != self._hour:
            self._turn(hour)
        found = []
        for kind in self._counted:
            subject = self._subject(kind, ask, payee)
            if subject is None:
                continue
            if subject not in self._subjects and len(self._subjects) >= MOST_SUBJECTS:
                subject = _EVERYBODY[kind]
            self._subjects.add(subject)
            found.append(subject)
        return found

    def _turn(self, hour: int) -> None:
        """A new hour: forget subjects of more than a day ago."""
        spent = self._mirror.spent
        self._hour = hour
        self._subjects = {subject for subject, h in spent if h == hour and subject.startswith(allowance.SHORT_LIVED)}
        old = [key for key in spent if key[1] < hour - DAY_HOURS and key[0].startswith(allowance.SHORT_LIVED)]
        for key in old:
            del spent[key]


def _number(answer: Answer, setting: str, otherwise: int) -> int:
    value = answer.settings.get(setting, otherwise)
    assert isinstance(value, int)
    return value


def _said(unit: Unit, value: Known) -> str:
    if unit is Unit.RATIO and isinstance(value, int):
        return f"{value / PPM:.2f}"
    return f"{value} drops" if unit is Unit.DROPS else str(value)
