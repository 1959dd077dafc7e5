"""Content servers are told of their channels: what is retained for them, and what happens, in order.

**What is retained** follows the mirror. With the first connection, and with any that finds its session lost, the broker
shows what it holds of ours; a marker that comes behind it says that this is all. Then, and with every ledger, what is
not as it should be is published, and what should not be there is cleared: channels that are gone, and what was meant
for servers that are not configured any more, in this life of the daemon or in an earlier one. Nothing is kept on disk
for that. A channel whose state is not with the broker yet is not `told`, and no claim is issued on it: what was handed
over first arrives first, so a server that gets a claim has got the channel before.

Other daemons retain what is theirs beside it: ours is only what shows a channel of a wallet of ours. What somebody else
cleared or changed of that is put right with a ledger, and the later the more often it happens: two who disagree must
not shout at each other.

**What happens** waits in the store, where it was written with what caused it, until the broker has it. So a crash may
tell it twice with the same number, and never leaves a gap.

Both wait for the broker's word on no more than `MOST_UNSETTLED` messages, so that a thousand changes at once do not
stand between a claim and its server.

Sources: OASIS MQTT 5.0 sections 3.3.1.3 (retained messages), 3.8.3.1 (Retain Handling), 4.6 (message ordering).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

import structlog

from channeld.core.errors import StoreError
from channeld.core.units import ChannelId, LedgerIndex, Payee
from channeld.service.holdings import Group
from channeld.service.mirror import Mirror
from channeld.service.ports import EventStore, NoticeBoard, Waiting

log = structlog.get_logger()
MOST_UNSETTLED = 500
_SHOWN = 500
"""Changed channels looked at in one turn of the loop: claims may wait for them."""
_LOOKED_AT = 50
"""So many of all there are, for which nobody waits: some 1 ms."""
_READ = 1000
"""Events read from the store at once."""
_LONGEST_PAUSE = 64
"""Ledgers from one time that what somebody else changed is put right to the next: at first 1, and twice as many each
time as long as it goes on."""
_AHEAD = 256
"""Ledgers that another daemon may be ahead of us. What is shown as of a later one is of another network, or made up."""


class Herald:
    """One for a life of the daemon. `later` calls back in another turn of the loop.

    While it is `doubted` that this store is the newest and only one, another may know better what should be there.
    """

    def __init__(
        self, mirror: Mirror, store: EventStore, board: NoticeBoard, later: Callable[[Callable[[], None]], object]
    ) -> None:
        self._mirror, self._store, self._board, self._later = mirror, store, board, later
        self._shown: dict[str, dict[ChannelId, int]] = {}
        self._complete = self._looked = self._scheduled = self._unsure = False
        self._due: dict[ChannelId, Payee] = {}
        self._wrong: deque[tuple[str, ChannelId]] = deque()
        self._amiss: dict[tuple[str, ChannelId], LedgerIndex] = {}
        self._unknown: dict[tuple[str, ChannelId], LedgerIndex] = {}
        self._righting: dict[tuple[str, ChannelId], LedgerIndex] = {}
        self._pause = self._rests = 0
        self.doubted: Callable[[], bool] = lambda: False
        self._walk: list[ChannelId] = []
        self._checks: list[ChannelId] = []
        self._servers, self._server, self._whole = list[str](), "", False
        self._events: deque[Waiting] = deque()
        self._read_to, self._done = 0, list[int]()
        self._unsettled = 0
        mirror.tells = True
        for state in mirror.channels.values():
            state.told = False

    def shown(self, server: str) -> list[ChannelId]:
        """The channels that are retained for a server, in order."""
        return sorted(self._shown.get(server, ()))

    @property
    def waiting(self) -> int:
        """Channels that are still to be looked at, or shown, or cleared."""
        to_do = (self._due, self._wrong, self._walk, self._checks, self._amiss, self._righting)
        return sum(map(len, to_do)) + self._whole

    # --- what the broker holds ---------------------------------------------------------------------------------------

    def connected(self, *, session_present: bool) -> None:
        """A connection stands. Without its session the broker shows everything again, and may have lost any of it."""
        if session_present and self._complete:
            self._work()
            return
        if not session_present:
            self._complete = self._looked = False
            self._shown.clear()
            self._due.clear()
            self._wrong.clear()
            self._amiss.clear()
            self._unknown.clear()
            self._righting.clear()
            self._walk, self._checks, self._servers, self._whole = [], [], [], False

    def whole(self) -> None:
        """All connections to the broker stand again: what waited for that may go."""
        if self._complete:
            self._work()

    def found(self, server: str, channel_id: ChannelId, payload: bytes) -> None:
        """The broker shows what it holds for a server: from an earlier life, what was just published, or what somebody
        else put there or cleared.
        """
        said, shown = hash(payload) if payload else None, self._shown.get(server, {})
        state = self._mirror.channels.get(channel_id)
        if self._complete:
            if said == shown.get(channel_id):
                self._amiss.pop((server, channel_id), None)
            elif state is None and (as_of := self._as_of(payload)) is not None:
                self._amiss[server, channel_id] = as_of
            elif state is not None and state.group is not None:
                self._amiss[server, channel_id] = state.record.channel.ledger_index
        elif said is None:
            shown.pop(channel_id, None)
            self._unknown.pop((server, channel_id), None)
        elif state is not None:
            self._shown.setdefault(server, {})[channel_id] = said
        elif (as_of := self._as_of(payload)) is not None:
            self._shown.setdefault(server, {})[channel_id] = said
            self._unknown[server, channel_id] = as_of

    def _as_of(self, payload: bytes) -> LedgerIndex | None:
        """The ledger as of which a channel of a wallet of ours is shown; None: it is somebody else's, or none."""
        source = self._board.source(payload)
        return source[1] if source is not None and source[0] in self._mirror.by_address else None

    def marked(self) -> None:
        """Everything that the broker holds has been shown."""
        if not self._complete:
            self._complete = self._unsure = True
            for state in self._mirror.channels.values():
                state.told = False
            self._look_at_all()

    def reload(self, gained: Collection[Payee]) -> None:
        """Other servers or payees than before: what does not concern a server any more goes soon. For the payees that
        were `gained` some server charges that did not before, and no claim is issued until it was told: in this very
        turn, where they are not very many.
        """
        self._store.only(self._mirror.grants)
        if gained:
            for group in self._mirror.groups.values():
                if group.payee in gained:
                    self._untold(group)
        if self._complete:
            self._look_at_all(later=not gained)

    def _untold(self, group: Group) -> None:
        for state in group.channels:
            state.told = False
            self._due[state.record.channel.channel_id] = group.payee

    def _look_at_all(self, *, later: bool = False) -> None:
        """As soon as a ledger was seen, everything that should be there is looked at, and everything that is, a slice
        at a time; what changes meanwhile comes first.
        """
        header = self._mirror.header
        self._looked = header is not None
        if header is None:
            return
        for (server, channel_id), as_of in self._unknown.items():
            if as_of > header.index and channel_id not in self._mirror.channels:  # not gone: it is not there yet
                self._shown[server].pop(channel_id, None)
                self._amiss[server, channel_id] = as_of
        self._unknown.clear()
        self._due.update(self._mirror.changed)
        self._mirror.changed.clear()
        self._walk, self._checks, self._servers, self._whole = [], [], list(self._shown), True
        (self._go_on_later if later else self._work)()

    def look_again(self) -> None:
        """There was a doubt, and is none any more."""
        if self._complete:
            self._look_at_all(later=True)

    def _should_go(self, server: str, channel_id: ChannelId) -> bool:
        """Whether nothing should be there of what was found or shown. What is in quarantine is left alone: another
        store may have put it there; and so is what is shown by whoever has another copy of this store.
        """
        state = self._mirror.channels.get(channel_id)
        if self.doubted():
            return False
        return state is None or (
            bool(state.record.pool) and server not in self._mirror.servers_of(state.record.channel.payee)
        )

    # --- a ledger ----------------------------------------------------------------------------------------------------

    def ledger(self) -> None:
        """A ledger was processed and decided on. Raises `StoreError`."""
        if self._complete and not self._looked:
            self._look_at_all()
        elif self._complete:
            self._due.update(self._mirror.changed)
        self._mirror.changed.clear()
        if self._done:
            done, self._done = self._done, []
            self._store.done(done)
        self._read()
        self._begin_to_right()
        self._work()

    def _begin_to_right(self) -> None:
        """What is not as it was handed over goes back, once all of that was settled and the pause is over. What is
        shown as of a ledger that we have not seen waits for that one.
        """
        self._rests, header = max(0, self._rests - 1), self._mirror.header
        if self._rests or self._unsettled or self._righting or not self._looked or header is None or self.doubted():
            return
        amiss, index = self._amiss, header.index
        self._righting = {where: as_of for where, as_of in amiss.items() if as_of <= index}
        self._amiss = {where: as_of for where, as_of in amiss.items() if index < as_of <= index + _AHEAD}
        self._pause = min(max(1, self._pause * 2), _LONGEST_PAUSE) if self._righting else 0
        self._rests = self._pause
        if righting := len(self._righting):
            log.warning("channels_put_right", channels=righting, why="others cleared or changed what we retain")

    def _read(self) -> None:
        if not self._events:
            self._events.extend(self._store.waiting(self._read_to, _READ))
            if self._events:
                self._read_to = self._events[-1].number

    # --- telling -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Hand over what the broker may have now; the rest when it has settled some, or in another turn."""
        if not self._board.connected:
            return
        if self._looked and not (self._clear() and self._show()):
            return
        if self._looked and self._unsure and not self._look_on():
            return  # claims wait for it
        while self._events and self._unsettled < MOST_UNSETTLED:
            if not self._tell(self._events[0]):
                return
            self._events.popleft()
        if self._looked:
            self._look_on()

    def _go_on(self) -> None:
        self._scheduled = False
        self._work()

    def _clear(self) -> bool:
        """Clear what should not be there. False: some of it is left."""
        while self._wrong:
            server, channel_id = self._wrong[0]
            if self._should_go(server, channel_id) and (
                self._unsettled >= MOST_UNSETTLED or not self._publish(server, channel_id, b"")
            ):
                return False
            self._wrong.popleft()
        return True

    def _show(self) -> bool:
        """Show what is due as it is now. False: some of it is left."""
        for _ in range(min(_SHOWN, len(self._due))):
            channel_id = next(iter(self._due))
            if self._unsettled >= MOST_UNSETTLED or not self._show_channel(channel_id, self._due[channel_id]):
                return False
            del self._due[channel_id]
        if self._due:
            self._go_on_later()
        return not self._due

    def _show_channel(self, channel_id: ChannelId, payee: Payee) -> bool:
        """Hand over a channel for every server that it concerns. False: not for every one. In quarantine it is left
        alone.
        """
        state = self._mirror.channels.get(channel_id)
        if state is not None and not state.record.pool:
            return True
        wanted = self._board.render(state.record) if state is not None else b""
        for server in self._mirror.servers_of(payee):
            if self._shown.get(server, {}).get(channel_id) != (hash(wanted) if wanted else None) and (
                not self._publish(server, channel_id, wanted)
            ):
                return False
        if state is not None:
            state.told = True
        return True

    def _look_on(self) -> bool:
        """The next slice of everything: what others changed, what should not be there, and then what should. False:
        some of it is left.
        """
        room = _LOOKED_AT
        while room > 0 and (self._righting or self._checks or self._walk or self._whole):
            room -= 1
            if self._righting:
                where, as_of = self._righting.popitem()
                if self._unsettled >= MOST_UNSETTLED or not self._put_right(*where):
                    self._righting[where] = as_of
                    return False
            elif self._checks:
                if self._should_go(self._server, channel_id := self._checks.pop()):
                    self._wrong.append((self._server, channel_id))
            elif self._walk:
                state = self._mirror.channels.get(self._walk[-1])
                if self._unsettled >= MOST_UNSETTLED:
                    return False
                if state is not None and not self._show_channel(self._walk[-1], state.record.channel.payee):
                    return False
                self._walk.pop()
            else:
                room -= self._look_further()
        if left := bool(self._righting or self._checks or self._walk or self._wrong or self._whole):
            self._go_on_later()
        self._unsure &= left
        return not left

    def _put_right(self, server: str, channel_id: ChannelId) -> bool:
        """Hand over once more what a server is to see of a channel. False: there is no room."""
        state = self._mirror.channels.get(channel_id)
        if state is None:
            return self._publish(server, channel_id, b"")
        if state.group is None:
            return True
        told = server in self._mirror.servers_of(state.record.channel.payee)
        return self._publish(server, channel_id, self._board.render(state.record) if told else b"")

    def _look_further(self) -> int:
        """List what is shown to the next server, or, after the last one, all channels; how much that was."""
        if self._servers:
            self._server = self._servers.pop()
            self._checks = list(self._shown.get(self._server, ()))
        else:
            self._whole, self._walk = False, list(self._mirror.channels)
        return len(self._checks) + len(self._walk)

    def _go_on_later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._later(self._go_on)

    def _publish(self, server: str, channel_id: ChannelId, payload: bytes) -> bool:
        if not self._board.show(server, channel_id, payload, self._settled):
            return False
        self._unsettled += 1
        shown = self._shown.setdefault(server, {})
        if payload:
            shown[channel_id] = hash(payload)
        else:
            shown.pop(channel_id, None)
        return True

    def _tell(self, waiting: Waiting) -> bool:
        def told(taken: bool) -> None:
            self._done.append(waiting.number)
            self._settled(taken)

        if not self._board.tell(waiting, told):
            return False
        self._unsettled += 1
        return True

    def _settled(self, taken: bool) -> None:
        """The broker has one, or will never have it: an access list that forbids it must not stop the rest."""
        self._unsettled -= 1
        if not taken:
            log.error(
                "notice_refused", remedy="the broker's access list must let this daemon write events and channels"
            )
        if self._events or self._due or self._wrong or self._righting or self._walk or self._checks or self._whole:
            self._go_on_later()

    def close(self) -> None:
        """Forget on disk what the broker has."""
        try:
            self._store.done(self._done)
        except StoreError:
            log.warning("events_told_again", events=len(self._done))
