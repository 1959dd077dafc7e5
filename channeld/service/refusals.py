"""What a content server is told where no claim can be issued, and when it is worth asking again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from channeld.core.requests import Code, Refusal
from channeld.core.world import Hold, Reason
from channeld.service.holdings import Group
from channeld.service.mirror import Mirror

FROZEN_RETRY_MS: Final = 5000
LIMIT_RETRY_MS: Final = 60_000
_SHORTEST_RETRY_MS: Final = 100

_REFUSED: Final[Mapping[Reason, tuple[Code, str, int | None]]] = {
    Reason.TOO_LARGE: (Code.NO_HEADROOM, "larger than the largest channel the policy allows", None),
    Reason.NO_POOL: (Code.NO_HEADROOM, "the payee's pool is not in the policy", LIMIT_RETRY_MS),
    Reason.NO_WALLET: (Code.NO_HEADROOM, "the pool's wallet is not ready", FROZEN_RETRY_MS),
    Reason.CHANNELS_PER_PAYEE: (
        Code.NO_HEADROOM,
        "the payee has as many channels as the policy allows",
        LIMIT_RETRY_MS,
    ),
    Reason.GUARD_TREASURY: (Code.NO_HEADROOM, "the wallet is down to its floor: the budget is spent", LIMIT_RETRY_MS),
    Reason.CAP_LOCKED: (Code.LIMIT_EXCEEDED, "max_locked of this server is reached", LIMIT_RETRY_MS),
    Reason.CAP_CHANNELS: (Code.LIMIT_EXCEEDED, "max_open_channels of this server is reached", LIMIT_RETRY_MS),
    Reason.CAP_TIER: (Code.LIMIT_EXCEEDED, "max_locked of this tier is reached", LIMIT_RETRY_MS),
    Reason.CAP_USER: (Code.LIMIT_EXCEEDED, "max_locked_per_user of this tier is reached", LIMIT_RETRY_MS),
    Reason.CAP_PAYEE: (Code.LIMIT_EXCEEDED, "max_locked_per_payee of the payee's pool is reached", LIMIT_RETRY_MS),
    Reason.FROZEN: (Code.FROZEN, "the wallet is frozen", FROZEN_RETRY_MS),
    Reason.FROZEN_LAG: (Code.FROZEN, "the last validated ledger is too old", FROZEN_RETRY_MS),
    Reason.FROZEN_RECONCILE: (Code.NO_HEADROOM, "nothing is opened until the books are in order", FROZEN_RETRY_MS),
    Reason.FEE_CLIMATE: (Code.NO_HEADROOM, "nothing is opened while the network asks so much", FROZEN_RETRY_MS),
    Reason.RULE: (Code.NO_HEADROOM, "a rule of the policy holds it back", LIMIT_RETRY_MS),
    Reason.OVERRIDE: (Code.NO_HEADROOM, "the operator holds it back for now", LIMIT_RETRY_MS),
    Reason.OBSERVED: (Code.NO_HEADROOM, "the policy only observes", LIMIT_RETRY_MS),
    Reason.SUGGESTED: (Code.NO_HEADROOM, "the policy only suggests it", LIMIT_RETRY_MS),
    Reason.BUDGET_EXHAUSTED: (Code.NO_HEADROOM, "a budget of the policy is spent", LIMIT_RETRY_MS),
}

_LATER: Final[Mapping[Reason, str]] = {
    Reason.COOLDOWN: "it comes too soon after the last attempt to get more{ended}; the next is made then",
    Reason.EARLY_ENDS: "the payee keeps closing its channels: the next one is not opened before then",
}
"""Reasons that say until when, and what is told of them; `ended` is what the last attempt came to, where it failed."""

_MEANS: Final[Mapping[str, str]] = {
    "tecNO_DST": "the payee's account does not exist",
    "tecNO_PERMISSION": "the payee's account takes no channels",
    "tecDST_TAG_NEEDED": "the payee's account asks for a destination tag",
    "tecUNFUNDED": "the wallet has too little",
    "tecINSUFFICIENT_RESERVE": "the wallet has less than the ledger's reserve",
    "tecINSUFF_FEE": "the wallet has too little for the fee",
}
"""Codes of a failed open that say something to those who ask; of others they are told the code alone."""


def frozen(why: str) -> Refusal:
    """Issuing is stopped."""
    return Refusal(Code.FROZEN, why, FROZEN_RETRY_MS)


def conflict() -> Refusal:
    """An id was accepted before, as something else."""
    return Refusal(Code.ID_CONFLICT, "id: was accepted with other contents; take a new id for a new request")


def too_large() -> Refusal:
    """No channel could ever carry it."""
    return Refusal(*_REFUSED[Reason.TOO_LARGE])


def untold() -> Refusal:
    """There is a channel, and the broker is still to be handed what servers see of it: mostly for moments."""
    why = "the channel's retained object is on its way to the broker: no claim on it leaves before"
    return Refusal(Code.NO_HEADROOM, why, _SHORTEST_RETRY_MS)


def after_ledgers(mirror: Mirror, count: int) -> int:
    """Milliseconds in which so many ledgers usually close."""
    return int(mirror.interval_s * count * 1000)


def no_headroom(payees: Group, mirror: Mirror, now: float) -> Refusal:
    """Nothing can carry it at `now` (monotonic seconds): what is being done about it, or why nothing is."""
    hold = payees.answer
    if hold is not None and hold.reason in _REFUSED:
        return Refusal(*_REFUSED[hold.reason])
    wait = max(_SHORTEST_RETRY_MS, int((payees.eta - now) * 1000))
    if hold is not None and hold.reason in _LATER and mirror.header is not None:
        left = ((hold.until or 0) - mirror.header.close_time) * 1000
        why = _LATER[hold.reason].format(ended=_ended(payees, hold))
        return Refusal(Code.NO_HEADROOM, why, max(_SHORTEST_RETRY_MS, left))
    if hold is not None and hold.reason is Reason.GUARD_RATE:
        wait = max(wait, after_ledgers(mirror, 3))
        return Refusal(Code.NO_HEADROOM, "a channel is opened as soon as the guard on opens allows", wait)
    what = "a channel is being opened" if payees.opening else "more funds are on their way"
    return Refusal(Code.NO_HEADROOM, what, wait)


def _ended(payees: Group, hold: Hold) -> str:
    """What the last attempt ended with, if it is that which cools down and the ledger had a code for it."""
    setback = payees.setback
    if setback is None or not setback.code or setback.retry_at != hold.until:
        return ""
    means = _MEANS.get(setback.code)
    return f", which ended with {setback.code}" + (f" ({means})" if means else "")
