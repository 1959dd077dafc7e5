"""One link of a chain: what was decided when, on what, by what, and what came of it."""

from __future__ import annotations

from typing import Any

from channeld.adapters.sqlite.journal_reader import Carried, Sent
from channeld.core.history import Answered, Told, target_of
from channeld.core.intents import DEADLINES, Kind, Status
from channeld.core.reasons import why
from channeld.core.units import format_xrp, to_unix

_TERMS = "the pool's terms"
_RECEIVING = "the terms of [receive]"
_DEADLINE = "its deadline, which no rule holds back"


def told_link(told: Told, carried: Carried | None) -> dict[str, Any]:
    """A link from the history; `carried` is the intent that it is, as the journal has it."""
    said, inputs = told.said, dict(told.inputs)
    terms = inputs.pop("terms", {})
    return {
        "at_unix": to_unix(told.close_time),
        "ledger": told.ledger,
        "subject": said.subject,
        **spoken(said),
        "inputs": inputs,
        "terms": terms,
        "by": _by(said, receives="collectable" in inputs),
        "policy_hash": told.policy_hash,
        **(_outcome(carried) if said.intent is not None else {}),
    }


def carried_link(carried: Carried) -> dict[str, Any]:
    """A link of which only the journal is left: without inputs."""
    entry = carried.entry
    intent = entry.intent
    said = Answered("", intent.action.kind, intent.reason, "", intent.path, target_of(intent), None, entry.number)
    return {
        "at_unix": None,
        "ledger": entry.decided_at,
        "subject": entry.channel_id,
        **spoken(said),
        "inputs": None,
        "terms": None,
        "by": _by(said, receives=intent.action.kind is Kind.REDEEM),
        "policy_hash": intent.policy_hash,
        **_outcome(carried),
    }


def spoken(said: Answered) -> dict[str, Any]:
    """What an answer says: what is done, or would be, or why nothing is; and the rules that held."""
    done = not said.reason
    kind = said.kind.value if said.kind else None
    return {
        "answer": "done" if done else "would" if kind else "left_alone",
        "action": kind,
        "target": None if said.target is None else str(said.target),
        "because": said.because or None,
        "reason": said.reason or said.because,
        "why": why(said.because, done=True) if done else why(said.reason, done=False),
        "until_unix": None if said.until is None else to_unix(said.until),
        "rules": list(said.path),
    }


def _by(said: Answered, *, receives: bool) -> str:
    """What decided: a deadline, a rule of the policy, or behind all of them the terms of the pool, or of `receive`."""
    terms = _RECEIVING if receives else _TERMS
    if said.because in DEADLINES and not said.reason:
        return _DEADLINE
    if said.path and (said.reason == "rule" or said.because == "rule"):
        return f"rule {said.path[-1]}"
    if said.path:
        return f"{terms}, as laid by {', '.join(said.path)}"
    return terms


def _outcome(carried: Carried | None) -> dict[str, Any]:
    """What became of an intent; of one that the journal does not have, that."""
    if carried is None:
        text = "the journal has no such intent: the store was put back to an older one since"
        return {"intent": None, "status": "unknown", "transactions": [], "outcome": text}
    entry = carried.entry
    return {
        "intent": entry.number,
        "channel_id": entry.channel_id,
        "status": entry.status.value,
        "transactions": [_sent(sent) for sent in carried.sent],
        "outcome": _words(carried),
    }


def _sent(sent: Sent) -> dict[str, Any]:
    return {
        "hash": sent.hash,
        "number": sent.number,
        "fee": str(sent.fee),
        "result": sent.result,
        "ledger": sent.ledger,
        "paid": str(sent.paid),
    }


def _words(carried: Carried) -> str:
    """The outcome in a sentence."""
    entry, sent = carried.entry, carried.sent
    note = f" ({entry.note})" if entry.note and entry.note not in {s.result for s in sent} else ""
    if entry.status is Status.PLANNED:
        return "planned: nothing is signed for it now" + note
    if entry.status is Status.SIGNED:
        return "signed, and not validated yet" + note
    if entry.status is Status.MOOT:
        return "overtaken before anything was signed" + note
    last = next((s for s in reversed(sent) if s.ledger is not None), None)
    where = f" in ledger {last.ledger}" if last else ""
    paid = f", paid {format_xrp(last.paid)}" if last and last.paid else ""
    result = f": {last.result}" if last else ""
    return f"{'done' if entry.status is Status.DONE else 'failed'}{where}{result}{paid}{note}"
