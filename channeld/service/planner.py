"""Groups that are due are decided again, a slice at a time, and what becomes of the decision.

Nothing loops over all groups: which are due the agenda knows. A slice of them is shown to `core.decide` in one turn of
the loop, so that it sees one ledger, one policy and one state of what is signed; its intents are journaled in one
transaction, and its reasons are kept where servers and operators ask for them. Between two slices claims are answered.
What one slice decided is in flight for the next, at its worst: so caps, budgets and guards bind across slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from channeld.core.decide import decide
from channeld.core.docket import held_by_freeze
from channeld.core.intents import Intent, Kind, OpenChannel, RequestClose
from channeld.core.ledger import LedgerHeader
from channeld.core.outcome import subject_of
from channeld.core.records import Announced, JournalEntry
from channeld.core.sizing import reorder_point
from channeld.core.units import RippleTime, Seconds
from channeld.core.world import Hold, Notice, Planned, Reason, World
from channeld.service.agenda import Agenda
from channeld.service.deadline_purse import DeadlinePurse
from channeld.service.holdings import NO_TIME, Group
from channeld.service.mirror import Mirror
from channeld.service.news import closing_notices
from channeld.service.outlook import world_of
from channeld.service.pace import work_off
from channeld.service.ports import Store, Telemetry
from channeld.service.spending import Spending
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_WAITING = frozenset(
    {
        *(Reason.IN_FLIGHT, Reason.COOLDOWN, Reason.FROZEN_LAG, Reason.FROZEN, Reason.GUARD_RATE),
        *(Reason.FROZEN_RECONCILE, Reason.FEE_CLIMATE),
    }
)
"""Reasons that pass by themselves: what was asked for is kept. For all others the server is told, and asks again."""


SLICE: Final = 8
"""Groups decided in one turn of the loop: some 0.6 ms, with chains of rules some 1.2; claims wait for no more."""
URGENT_SLICE: Final = 16
"""So many of those that claims wait for."""

Decided = Callable[[World, Sequence[tuple[tuple[str, str], JournalEntry]], Sequence[Hold], Sequence[Planned]], None]


class Planner:
    """Decides what is due and journals it. `monotonic` is the one clock beside the ledger's.

    `on_planned` is called when there is something for the executor to do. `on_decided` hears of every decision: the
    world, what was journaled, each with its group, what was left alone, and what of that would be done otherwise.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        telemetry: Telemetry,
        monotonic: Callable[[], float],
        *,
        steps: Steps = UNWATCHED,
    ) -> None:
        self._mirror, self._store, self._telemetry, self._monotonic = mirror, store, telemetry, monotonic
        self._steps = steps
        self.spending = Spending(mirror, store.outlays)
        self.purse = DeadlinePurse(mirror, self.spending)
        self._agenda = Agenda(mirror.groups.values())
        for group in mirror.groups.values():
            self._watch(group, NO_TIME)
        self._work = asyncio.Event()
        self.on_planned: Callable[[], None] = lambda: None
        self.on_decided: Decided = lambda _world, _entries, _holds, _wishes: None

    # --- what is due --------------------------------------------------------------------------------------------------

    def touch(self, group: Group, *, low: bool) -> None:
        """A claim was issued: decide this group with the next ledger, or at once where headroom runs `low`.

        At once means once per ledger: what could not be funded then is not tried with every claim.
        """
        self._agenda.touch(group)
        if low and group.urged_at != self._mirror.processed:
            group.urged_at = self._mirror.processed
            self._agenda.want(group)

    def want(self, group: Group) -> None:
        """Something was asked for in vain: decide it at the next `decide_urgent`."""
        self._agenda.want(group)

    def urge(self, group: Group | None) -> None:
        """A ledger changed it, or an intent of it ended: decide it soon, with the next ledger at the latest. A channel
        that is in no group is not decided.
        """
        if group is not None:
            self._agenda.change(group)
            self._work.set()

    def touch_all(self) -> None:
        """The policy or the grants changed, or a freeze was lifted: decide everything again, and soon."""
        self._agenda.add_all(self._mirror.groups.values())
        self._work.set()

    def schedule(self, until: RippleTime, group: Group) -> None:
        """Decide the group again at `until`, if not before."""
        self._agenda.schedule(until, group)

    def ledger(self, close_time: RippleTime) -> None:
        """A ledger was processed whole: what waited for it and what has fallen due by its clock is decided on it."""
        self._mirror.demands.ledger(close_time)
        self._agenda.ledger(close_time)
        self._work.set()

    @property
    def waiting(self) -> int:
        """Groups that wait to be decided, the backlog included."""
        return self._agenda.waiting

    # --- when ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work off what waits, a slice at a time and at most half of the time. Until cancelled; raises `StoreError`."""
        await work_off(self._agenda, self._work, lambda: self.decide_slice(backlog=True), self._monotonic)

    async def decide_changed(self) -> None:
        """Decide what the last ledger processed changed, before anything else follows from it; claims are answered
        between two slices. Raises `StoreError`.
        """
        more = self.decide_slice()
        while more:
            await asyncio.sleep(0)
            more = self.decide_slice()

    def decide_urgent(self) -> None:
        """Decide what claims wait for, in this turn of the loop; of very many the rest in the next.

        Raises `StoreError`.
        """
        self._decide(self._agenda.next_urgent(URGENT_SLICE))
        if self._agenda.next_urgent(1):
            self._work.set()

    def decide_slice(self, *, backlog: bool = False) -> bool:
        """Decide a slice, of the `backlog` as well if it is asked for; whether more waits. Raises `StoreError`."""
        if self._mirror.header is None:
            return False
        self._decide(self._agenda.next(SLICE, backlog=backlog))
        return bool(self._agenda.next(1, backlog=backlog))

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, due: Sequence[Group]) -> None:
        """Decide these groups on the last processed ledger, and journal what is to be done in one transaction."""
        mirror = self._mirror
        if not due or mirror.header is None:
            return
        groups = {(g.pool, g.subject): g for g in due}
        now = mirror.header.close_time
        for group in due:
            self._observe(group, now)
        world = world_of(mirror, self.spending, due, self._monotonic())
        for group, view in zip(due, world.groups, strict=True):
            if (pool := mirror.policy.pools.get(group.pool)) is not None:
                group.low_mark = max(pool.fund.low, reorder_point(view.rate, pool.fund.runway_low))
        decision = decide(world, mirror.policy)
        free, kept = mirror.sift(decision.planned)
        entries = self._journal([planned.intent for planned in free], mirror.header, decision.notices)
        self._agenda.done(due)
        for group in due:
            group.answer, group.suggested = None, ()
        for planned in decision.suggested:
            groups[planned.group].suggested += (planned.intent,)
            self._suggest(planned.intent)
        holds = (*decision.holds, *map(held_by_freeze, kept))
        for hold in holds:
            self._held(hold, groups[hold.group])
        for group in due:
            self._watch(group, now)
            self._let_go(group)
        keyed = [(planned.group, entry) for planned, entry in zip(free, entries, strict=True)]
        self.on_decided(world, keyed, holds, (*decision.suggested, *kept))

    def _watch(self, group: Group, now: RippleTime) -> None:
        """Its next deadline after `now` brings it up by itself, whatever the answers were and whoever touches it; so
        does the next try of what failed while a payout is owed that has a deadline.
        """
        pool = self._mirror.policy.pools.get(group.pool)
        margin = pool.life_margin if pool else Seconds(0)
        moments = [at for state in group.channels for at in state.record.channel.turning_points(margin)]
        moments += [RippleTime(at) for state in group.channels if (at := state.again_at(now)) is not None]
        self._agenda.deadline(min((at for at in moments if at > now), default=None), group)

    def _let_go(self, group: Group) -> None:
        """Users who have nothing, and for whom nothing is to be done, are not kept: there may be any number of them."""
        nothing = not (group.channels or group.opening or group.wanted or group.setback)
        if group.user and nothing and not self._agenda.knows(group):
            self._mirror.forget(group)
        elif group.user and nothing and self._agenda.walking:
            self._agenda.touch(group)

    def _suggest(self, intent: Intent) -> None:
        kind, wallet = intent.action.kind.value, intent.action.wallet
        subject = subject_of(intent.action)
        log.info("suggested", kind=kind, wallet=wallet, subject=subject, reason=intent.reason, rules=intent.path)

    def _observe(self, group: Group, now: RippleTime) -> None:
        """Bring what is known of the group's demand up to now."""
        half_life = self._mirror.policy.guards.demand_half_life
        for compared in self._mirror.demands.observe(group, now, half_life) if group.asked else ():
            if group.pool in self._mirror.policy.pools and (most := max(compared)):
                self._telemetry.forecast(group.pool, compared.off / most)

    def _held(self, hold: Hold, group: Group) -> None:
        self._telemetry.held(hold.reason.value, hold.path)
        if hold.reason in (Reason.FROZEN_LAG, Reason.FROZEN):
            self._agenda.touch(group)
        if hold.until is not None:
            self.schedule(hold.until, group)
        if hold.subject == group.subject:
            group.answer = hold
            if hold.reason is Reason.GUARD_RATE:
                self._agenda.touch(group)
            elif hold.reason not in _WAITING:
                group.wanted = 0

    def _journal(self, intents: list[Intent], on: LedgerHeader, notices: Sequence[Notice]) -> list[JournalEntry]:
        """Write intents down, then act as written: closing stops issuing here in the same turn of the loop."""
        if not intents and not notices:
            return []
        mirror, announced = self._mirror, [self._announced(notice) for notice in notices]
        with self._steps(Step.JOURNALED):
            told = closing_notices(intents, notices, on.index, mirror)
            entries = self._store.journal(intents, on.index, told, announced, on.close_time)
        for notice in announced:
            mirror.announced(notice)
        eta = self._monotonic() + 2.2 * mirror.interval_s + 0.5
        for entry in entries:
            mirror.open_entry(entry)
            mirror.acted(entry.action, on.close_time)
            self._telemetry.planned(entry.action.kind.value, entry.intent.path)
            log.info(
                "intent_planned",
                intent=entry.number,
                kind=entry.action.kind.value,
                reason=entry.intent.reason,
                rules=entry.intent.path,
            )
            self._announce(entry, eta)
        self.purse.drawn(entries)
        self.on_planned()
        return entries

    def _announced(self, notice: Notice) -> Announced:
        """How far a close with notice has come by this."""
        state = self._mirror.channels[notice.channel_id]
        if notice.withdrawn:
            return Announced(notice.channel_id, None, None)
        due, told = notice.due_since or state.due_since, notice.noticed_at or state.noticed_at
        return Announced(notice.channel_id, due, told)

    def _announce(self, entry: JournalEntry, eta: float) -> None:
        action = entry.action
        if isinstance(action, OpenChannel):
            mirror_group = self._mirror.group(action.pool, action.payee, action.user)
            mirror_group.eta = eta
            return
        state = self._mirror.channels[action.channel_id]
        if isinstance(action, RequestClose):
            self._mirror.stop_issuing(state)
        if action.kind is Kind.FUND and state.group is not None:
            state.group.eta = eta
        elif action.kind is Kind.SETTLE and state.group is not None:  # what it makes room for comes a ledger later
            state.group.eta = max(state.group.eta, eta + self._mirror.interval_s)
