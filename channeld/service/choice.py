"""Which channel of a payee carries a request: the one in use as long as it can, and then at once the next.

Staying with one channel costs one look for a request, however many channels a payee has; requests that come together
share one signature; and the spares keep what they hold for when they are needed. Whenever the channel in use closes, is
paused, nears its end or runs out, the next is taken in the order of `core.spares.turn`.
"""

from __future__ import annotations

from collections.abc import Container

from channeld.core.channel import Phase
from channeld.core.policy import Pool
from channeld.core.records import ChannelRecord
from channeld.core.requests import unsigned
from channeld.core.spares import turn
from channeld.service.deciding import Line
from channeld.service.holdings import ChannelState, Group
from channeld.service.mirror import Mirror

Lines = dict[ChannelState, Line]
"""What a group of requests has left of each channel that it has looked at."""


class Choice:
    """Chooses. Claims can be signed under the public keys in `keys` only."""

    def __init__(self, mirror: Mirror, keys: Container[str]) -> None:
        self._mirror, self._keys = mirror, keys

    def channel(self, payees: Group, drops: int, lines: Lines) -> Line | str | None:
        """The channel that carries so many drops; None: none can; a text: only one can that is paused, and why.

        `lines` is filled as far as it is needed.
        """
        current, cautions = payees.current, self._mirror.cautions
        if current is not None and (line := self._line(current, lines)).left >= drops and current not in cautions:
            return line
        able = [state for state in payees.channels if self._line(state, lines).left >= drops]
        chosen = max((state for state in able if state not in cautions), key=_turn, default=None)
        if chosen is not None:
            payees.current = chosen
            return lines[chosen]
        return self._mirror.cautious(able[0]) if able else None

    def _line(self, state: ChannelState, lines: Lines) -> Line:
        found = lines.get(state)
        if found is None:
            headroom, channel = self.headroom(state), state.record.channel
            found = lines[state] = Line(state, state.record.row, channel.amount, headroom, headroom, unsigned(channel))
        return found

    def headroom(self, state: ChannelState) -> int:
        """Drops that may be signed on a channel now, 0 where nothing may be issued, any more or yet."""
        return self._room(state) if state.told else 0

    def untold(self, payees: Group, drops: int) -> bool:
        """Whether a channel carries so many drops as soon as content servers were told of it."""
        return any(not state.told and self._room(state) >= drops for state in payees.channels)

    def _room(self, state: ChannelState) -> int:
        """The same, whether content servers were told of it or not."""
        return 0 if self._mirror.header is None else self.room(state.record)

    def room(self, record: ChannelRecord) -> int:
        """Drops that may still be signed on a channel, 0 where nothing may be issued any more.

        Remaining life is judged by the validated close time plus the largest lag allowed, so that a claim issued on an
        old ledger still leaves the payee its full settle delay.
        """
        channel, header = record.channel, self._mirror.header
        if not record.issuing or channel.public_key not in self._keys or channel.expiration is not None:
            return 0
        if channel.cancel_after is not None and header is not None:
            pool = self._mirror.policy.pools.get(record.pool)
            latest = header.close_time + self._mirror.policy.guards.ledger_lag
            if channel.phase(header.close_time) is not Phase.OPEN or not _alive(pool, record, latest):
                return 0
        return channel.headroom(record.authorized)


def _turn(state: ChannelState) -> tuple[bool, int, int, str]:
    record = state.record
    return turn(record.channel, record.authorized, record.last_claim_at)


def _alive(pool: Pool | None, record: ChannelRecord, latest: int) -> bool:
    """Whether a channel with a fixed end has life enough for one more claim at `latest`."""
    last = None if pool is None else record.channel.last_claim_time(pool.life_margin)
    return last is None or latest <= last
