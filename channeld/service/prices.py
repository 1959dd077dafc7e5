"""What transactions cost now, and which of them wait because they cost too much.

A node is asked once a round, and what it says is only its word: an answer that is missing or makes no sense is held
against the node, makes ordinary work wait, and holds up nothing that is urgent (`core.fees`).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final

import structlog

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.fees import Urgency, fee
from channeld.core.ledger import OpenFees
from channeld.core.units import Drops, format_xrp
from channeld.service.mirror import Mirror
from channeld.service.ports import NodeSession

log = structlog.get_logger()

_ANSWER_WITHIN_S: Final = 5.0


class Dear(enum.Enum):
    """Why a transaction is not signed for what it would cost: a closed set, shown by status and metric."""

    FEE_CAP = "fee_cap"
    """The network asks more than the operator allows."""
    FEE_UNKNOWN = "fee_unknown"
    """The node does not tell what it asks."""


class Prices:
    """One for an executor. A round begins with `begin`, asks at most once, and ends with `tell`."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._known = False
        self._fees: OpenFees | None = None
        self._problem = ""
        self._held: dict[str, int] = {}
        self._told: str | None = None

    def begin(self) -> None:
        """Nothing is known of this round yet."""
        self._known = False
        self._held.clear()

    async def ask(self, session: NodeSession, on_trouble: Callable[[NodeSession, str], None]) -> None:
        """Ask what a node wants, unless this round did. Raises `Unreachable` where it is gone; silence is an answer."""
        if self._known:
            return
        try:
            self._fees, self._problem = await _told(session), ""
        except (Unreachable, LedgerError, Malformed) as error:
            if isinstance(error, Unreachable) and session.gone:
                raise
            self._fees, self._problem = None, str(error)
            on_trouble(session, f"fee: {error}")
        self._mirror.network_fee = self._fees.open_ledger if self._fees else None
        self._known = True

    def offer(self, urgency: Urgency, affordable: int) -> Drops | None:
        """Drops to offer for a transaction, for which its account has so much; None: it waits."""
        assert self._mirror.header is not None
        base = self._mirror.header.fees.base_fee
        return fee(urgency, self._mirror.policy.guards, base_fee=base, asked=self._fees, affordable=affordable)

    def refuses(self, offered: Drops) -> bool:
        """Whether the node says that so much is not enough."""
        return self._fees is not None and self._fees.least > offered

    def hold(self, wallet: str, count: int) -> None:
        """So many transactions of a wallet wait for what they cost."""
        self._held[wallet] = count

    def tell(self) -> None:
        """The round is over: say in the log what begins or ends to wait."""
        now, before = self.waits(), self._told
        if now != before:
            log.warning("work_waits" if now else "work_goes_on", reason=now or before)
        self._told = now

    @property
    def waiting(self) -> dict[Dear, int]:
        """How many transactions wait, by why that is."""
        why = Dear.FEE_UNKNOWN if self._fees is None else Dear.FEE_CAP
        return {dear: sum(self._held.values()) if dear is why else 0 for dear in Dear}

    def waits(self) -> str | None:
        """What waits and why, for a person; None if nothing does."""
        if not (count := sum(self._held.values())) or self._mirror.header is None:
            return None
        what = f"{count} transaction{'s wait' if count > 1 else ' waits'}"
        if self._fees is None:
            return f"{what}: the node does not tell its fee ({self._problem})"
        least = max(self._fees.least, self._mirror.header.fees.base_fee)
        cap = self._mirror.policy.guards.fee_cap
        return f"{what}: the node asks {format_xrp(least)} for one, and fee_cap is {format_xrp(cap)}"


async def _told(session: NodeSession) -> OpenFees:
    """What it wants. All that is to be signed waits for this, so not for as long as for other answers."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            return await session.open_fees()
    except TimeoutError:
        raise Unreachable(f"no answer within {_ANSWER_WITHIN_S:.0f} s") from None
