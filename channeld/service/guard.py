"""Stopping and going on again, by name and for a reason: every freeze is on disk before it is in memory.

The guard is where anything but a processed ledger freezes (those write their freezes with the ledger), and the only
place that thaws. Lifting a freeze that put in doubt how far channels are signed retires every channel of the store:
what a store cannot know it must never sign on again, but new channels are as good as ever.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from channeld.core.errors import Refused
from channeld.core.freezes import EVERYTHING, PEOPLE, RETIRES, SELF, SERVER, Audit, Cause, Freeze
from channeld.service.mirror import Mirror
from channeld.service.ports import TruthStore

log = structlog.get_logger()


class Guard:
    """One for a daemon. `unix` is the clock that is written beside names.

    `objects(cause)` is asked why a freeze cannot be lifted yet, None where it can; `on_thawed(cause)` is called once
    one was, for whatever waits for that.
    """

    def __init__(self, mirror: Mirror, store: TruthStore, unix: Callable[[], float]) -> None:
        self._mirror, self._store, self._unix = mirror, store, unix
        self.objects: Callable[[Cause], str | None] = lambda cause: None
        self.on_thawed: Callable[[Cause], None] = lambda cause: None

    def now(self) -> int:
        """Unix seconds."""
        return int(self._unix())

    def doubt(self, cause: Cause, found: str) -> None:
        """The daemon itself found a reason to stop everything. Raises `StoreError`."""
        if cause.value not in self._mirror.frozen:
            self._freeze(Freeze(EVERYTHING, cause, found, SELF, self.now()))

    def hold(self, scope: str, found: str) -> None:
        """The policy holds a content server, a user or a payee back until a person has looked. Raises `StoreError`."""
        if Cause.HELD.value not in self._mirror.stopped.of(scope):
            self._freeze(Freeze(scope, Cause.HELD, found, SELF, self.now()))

    def freeze(self, scope: str, who: str, why: str) -> tuple[Freeze, bool]:
        """An operator says stop, for everything, one wallet or one content server. The freeze in force, and whether it
        was before: then it stands, one thaw lifts it, and the audit has the second wish.

        Raises `Refused` for one there is not.
        """
        self._known(scope)
        freeze, where = Freeze(scope, Cause.OPERATOR, f"frozen by {who}: {why}", who, self.now()), scope or "everything"
        if Cause.OPERATOR.value not in self._mirror.stopped.of(scope):
            self._freeze(freeze)
            return freeze, False
        self._store.audit(Audit(freeze.at, who, f"freeze {where} again: it was frozen", why))
        log.warning("frozen_already", scope=where, who=who, why=why)
        stands = (f for f in self._store.freezes() if (f.scope, f.cause) == (scope, Cause.OPERATOR))
        return next(stands), True

    def thaw(self, scope: str, cause: Cause | None, who: str, why: str) -> Cause:
        """An operator says go on: lift one cause, or the only one there is. The cause that was lifted.

        Raises `Refused` where nothing is frozen, where several are and none was named, and where it is too early.
        """
        self._known(scope)
        found = self._causes(scope)
        if cause is None and len(found) > 1:
            names = ", ".join(c.value for c in found)
            raise Refused(f"several causes are in force, name one at a time: {names}")
        lifted = cause or (found[0] if found else Cause.OPERATOR)
        where = scope or "everything"
        if (objection := self.objects(lifted)) is not None:
            raise Refused(objection)
        self._store.thaw(scope, lifted, Audit(self.now(), who, f"thaw {where} {lifted.value}", why))
        if lifted in RETIRES:
            self._retire()
        self._mirror.stopped.thaw(scope, lifted)
        log.warning("thawed", scope=where, cause=lifted.value, who=who, why=why)
        self.on_thawed(lifted)
        return lifted

    def _causes(self, scope: str) -> list[Cause]:
        """What is frozen and can be lifted by hand; what passes by itself is not among it."""
        frozen = self._mirror.stopped.of(scope)
        return [cause for cause in Cause if cause.value in frozen]

    def _known(self, scope: str) -> None:
        if scope.startswith(SERVER) and scope.removeprefix(SERVER) in {*self._mirror.grants, *self._mirror.held}:
            return
        if scope in self._mirror.held_apart:
            return
        if scope.startswith(PEOPLE):
            raise Refused(f"nobody of this name is held back: {scope}")
        if scope != EVERYTHING and scope not in self._mirror.wallets:
            raise Refused(f"no wallet is called {scope}: there are {', '.join(self._mirror.wallets)}")

    def _freeze(self, freeze: Freeze) -> None:
        self._store.freeze(freeze)
        self._mirror.stopped.freeze(freeze)
        log.error("frozen", scope=freeze.scope or "everything", cause=freeze.cause.value, reason=freeze.reason)

    def _retire(self) -> None:
        """The store has it: no channel that it knew is signed on any more, nor any that was under way."""
        self._mirror.retired = self._store.retired()
        for state in self._mirror.channels.values():
            if state.record.pool:
                self._mirror.stop_issuing(state)
                state.record.adopted = True
