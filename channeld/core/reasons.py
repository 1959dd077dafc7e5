"""Reasons in a sentence: why something is done, and why something is not, for people who ask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

DONE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "wanted": "a request was refused for want of headroom",
        "running_out": "headroom is below the low mark, or lasts less than the runway asks for",
        "spare": "the policy keeps a channel ready beside the one in use",
        "rule": "a rule of the policy says so",
        "worth_it": "what is owed is worth a transaction",
        "too_old": "something has been owed for as long as the policy allows",
        "make_room": "what is owed takes the room that is needed for funding",
        "owed_before_close": "the channel is being closed, and what was signed is paid before its end",
        "owed_before_end": "the channel's fixed end is near, and what was signed is paid before it",
        "issuing_stopped": "issuing on it was stopped for good",
        "life_over": "its fixed end is too near for another claim",
        "notified": "a rule of the policy still says so, after its content servers were told and given time",
        "idle": "nobody used it for as long as the policy allows",
        "expired": "its end has passed, and what remains comes back",
        "source_closes": "its source requested a close: what is held is collected before the end",
        "before_end": "its fixed end is near: what is held is collected before it",
    }
)
"""Why an intent is due."""

LEFT_ALONE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "within_band": "everything is within the bounds of the policy",
        "in_flight": "a transaction for it is under way",
        "closing": "it is being closed, and nothing is owed",
        "cooldown": "it comes too soon after the last such step, or after one that failed",
        "frozen_lag": "the last validated ledger is too old to decide on",
        "frozen": "the wallet is frozen: only what is owed is paid",
        "no_demand": "nothing was asked for that its channels cannot carry",
        "spare": "it is kept ready beside the one in use",
        "no_pool": "its pool is not in the policy",
        "too_large": "more was asked for at once than the largest channel may hold",
        "channels_per_payee": "the payee has as many channels as the policy allows",
        "guard_rate": "as many channels were opened or closed as a guard allows for now",
        "guard_treasury": "the wallet is down to what it keeps: the reserve, the floor, the purse for deadlines",
        "cap_locked": "max_locked of the content server is reached",
        "cap_channels": "max_open_channels of the content server is reached",
        "cap_tier": "max_locked of its tier is reached",
        "cap_user": "max_locked_per_user of its tier is reached by its user",
        "cap_payee": "max_locked_per_payee of its pool is reached",
        "no_wallet": "the wallet is not in the config, or no validated ledger showed it yet",
        "nothing_held": "nothing is held that was not paid",
        "expired": "its end has passed: nothing can be collected any more",
        "rule": "a rule of the policy says hold",
        "no_rule": "no rule decided, and the pool has no terms for it",
        "override": "an override of the policy holds it",
        "observed": "the policy's mode is observe: nothing is done",
        "suggested": "the policy's mode is suggest: it waits for a person",
        "below_min_step": "the step would be smaller than the policy allows",
        "budget_exhausted": "a budget of the policy is spent, or set aside for what is under way",
        "frozen_reconcile": "the books differ from the ledger: a guard freezes all but what is owed",
        "fee_climate": "the network asks more for a transaction than a guard allows",
        "notice_pending": "its content servers were told that it is to be closed, and are given time",
        "early_ends": "its payee keeps closing its channels: the next is opened later, each time twice as late",
        "patience": "what makes it due must hold for longer",
        "low_confidence": "too little is known to decide",
    }
)
"""Why something is left alone."""


def why(reason: str, *, done: bool) -> str:
    """A reason in a sentence; one that has none is spelled out."""
    return (DONE if done else LEFT_ALONE).get(reason) or reason.replace("_", " ")
