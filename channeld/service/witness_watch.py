"""Nothing is issued before the world outside has been asked whether this store is the newest there is.

With every connection to the broker, in this order:

    1. messages are held: nobody's request is decided
    2. a marker of our own is published to the witness topic, which we are subscribed to with its retained message
    3. what comes on that topic before the marker is what was witnessed; the marker itself proves that there is no more,
       for messages of one topic arrive in the order in which the broker took them
    4. the store is compared with it; in doubt, issuing freezes until an operator thaws it
    5. else the data version rises: in the store, then in the file beside it, then on the broker
    6. when the broker has shown us the new version, requests are decided again

Without a connection nobody can ask for claims, so a daemon that lost its session to another one with its name has
stopped by that alone, and begins at 1 if it comes back: what the other one witnessed meanwhile freezes it.

If the marker or the version does not come back within `PATIENCE_S`, issuing stays frozen with that as the reason, and
requests are answered `frozen`: most likely the broker's access list does not let us use the topic.

Sources: OASIS MQTT 5.0 sections 3.8.3.1 (Retain Handling), 4.6 (message ordering).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import structlog

from channeld.core.errors import StoreError, Unreachable
from channeld.core.freezes import Cause
from channeld.core.witness import Witness, doubt_broker, doubt_file
from channeld.service.frozen import WITNESS
from channeld.service.guard import Guard
from channeld.service.mirror import Mirror
from channeld.service.ports import TruthStore, WitnessFile, WitnessTopic

log = structlog.get_logger()
PATIENCE_S: Final = 10.0
RAISE_EVERY_S: Final = 60.0
_WAITING: Final = WITNESS
_DOUBTS: Final = (Cause.OLD_STORE, Cause.OTHER_STORE, Cause.WITNESS_MISSING, Cause.MOVED)


class WitnessWatch:
    """One for a life of the daemon. `home` names this daemon on its broker; `monotonic` is in seconds.

    `release` lets requests be decided again. `failed` is told of a store that cannot be written; `on_marked` that all
    which the broker holds retained for us has come.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: TruthStore,
        guard: Guard,
        topic: WitnessTopic,
        file: WitnessFile,
        *,
        home: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._mirror, self._store, self._guard, self._topic, self._file = mirror, store, guard, topic, file
        self._home, self._monotonic = home, monotonic
        self.on_cleared: Callable[[], None] = lambda: None
        self.failed: Callable[[], None] = lambda: None
        self.on_marked: Callable[[], None] = lambda: None
        self._marker: str | None = None
        self._seen: list[Witness] = []
        self._shown: int | None = None
        self._since = self._raised_at = monotonic()
        mirror.frozen[_WAITING] = "the broker was not asked yet whether this store is the newest"
        self.look_at_file()

    def look_at_file(self) -> None:
        """Before anything else: the file beside the store. Raises `StoreError`."""
        if (doubt := doubt_file(self._store.identity(), self._file.read())) is not None:
            self._guard.doubt(doubt.cause, doubt.found)

    # --- asking ------------------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection stands: hold everything and ask."""
        self._marker, self._seen, self._shown = secrets.token_hex(8), [], None
        self._since = self._monotonic()
        self._mirror.frozen[_WAITING] = "the broker is being asked whether this store is the newest"
        self._topic.hold()
        self._topic.mark(self._marker)

    def witnessed(self, witness: Witness) -> None:
        """A witness came, retained or our own: the second kind shows that the broker has it."""
        if self._marker is not None:
            self._seen.append(witness)
            return
        identity = self._store.identity()
        if witness == identity.witness:
            self._show(witness.data_version)
        elif witness.store_id != identity.store_id or witness.data_version > identity.data_version:
            self._seen = [witness]
            self._judge()

    def marked(self, marker: str) -> None:
        """A marker came back. If it is the one of this connection, all that is witnessed has been seen."""
        if marker == self._marker:
            self._marker = None
            self._judge()
            self.on_marked()

    def _judge(self) -> None:
        try:
            identity, file = self._store.identity(), self._file.read()
            highest = max(self._seen, key=lambda w: (w.store_id != identity.store_id, w.data_version), default=None)
            doubt = doubt_broker(identity, file, highest, self._home)
            if doubt is not None:
                self._guard.doubt(doubt.cause, doubt.found)
            if self.doubted():
                self._done()
            else:
                self._raise(highest.data_version if highest else 0)
        except StoreError as error:
            log.error("store_failed", reason=str(error))  # noqa: TRY400 (no defect: no traceback)
            self.failed()

    def doubted(self) -> bool:
        """Whether it is in doubt that this store is the newest and the only one."""
        return any(cause.value in self._mirror.frozen for cause in _DOUBTS)

    # --- bearing witness ---------------------------------------------------------------------------------------------

    def _raise(self, at_least: int = 0) -> None:
        """A new data version: in the store, then in the file, then on the broker."""
        witness = self._store.raise_version(at_least, self._home).witness
        try:
            self._file.write(witness)
        except Unreachable as error:
            log.error("witness_file_failed", reason=str(error))  # noqa: TRY400 (the broker's witness remains)
        self._raised_at = self._monotonic()
        self._topic.publish(witness)

    def _show(self, version: int) -> None:
        """The broker has shown us our own version."""
        if self._shown != version:
            self._shown = version
            self._done()

    def _done(self) -> None:
        """The question is answered, one way or the other."""
        if self._mirror.frozen.pop(_WAITING, None) is not None:
            self.on_cleared()
        self._topic.release()

    def objects(self, cause: Cause) -> str | None:
        """Why a freeze cannot be lifted yet: this store would become the witnessed one, in the place of whatever the
        broker holds of a newer one.
        """
        waits = self._mirror.frozen.get(_WAITING) if cause in _DOUBTS else None
        return None if waits is None else f"{waits}: what it holds counts first, so lift {cause.value} after that"

    def thawed(self, cause: Cause) -> bool:
        """An operator lifted a freeze. Where it was the last doubt about the store, this one is the witnessed one from
        now on; whether it was.
        """
        if cause not in _DOUBTS or self.doubted():
            return False
        seen = [w.data_version for w in (self._file.read(), *self._seen) if w is not None]
        self._raise(max(seen, default=0))
        return True

    def bear(self) -> None:
        """Raise the data version now, as before and after a backup. Raises `StoreError`.

        Not before the broker was asked: an old store would come to pass what is witnessed of it. Nothing is signed
        until then, nor before the version has risen by itself.
        """
        if _WAITING not in self._mirror.frozen and not self.doubted():
            self._raise()

    def tick(self) -> None:
        """Every second or so: raise the version when it is time, and do not wait for an answer for ever.

        Raises `StoreError`.
        """
        now = self._monotonic()
        if _WAITING in self._mirror.frozen:
            if self._topic.connected and now - self._since > PATIENCE_S:
                self._mirror.frozen[_WAITING] = (
                    f"the broker does not show us {self._topic.name}: its access list must let this daemon read and"
                    " write it"
                )
                self._topic.release()
        elif now - self._raised_at >= RAISE_EVERY_S and not self.doubted():
            self._raise()
