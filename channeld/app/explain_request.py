"""What a request was told: accepted, with the slice and the claim it got, or refused, as far as that is on record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channeld.adapters.sqlite.history_reader import read_refused
from channeld.adapters.sqlite.journal_reader import JournalReader
from channeld.adapters.sqlite.reader import read_request
from channeld.core.history import RefusedAsk, Told
from channeld.settings import Settings
from channeld.wire.receive import became
from channeld.wire.requests import request_key

_REFUSED_WHY: Final = "what was asked for counts as demand, and as wanted, until something can carry it"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is known: whose, for whom, when it was last decided (Unix seconds), and what to say of it."""

    server: str
    payee: str
    channel_id: str | None
    at: int | None
    answer: dict[str, Any]

    def concerns(self, told: Told) -> bool:
        """Whether an answer of the engine is about what this request touched."""
        return told.said.subject in (self.channel_id, told.place)


def asked_about(
    settings: Settings, journal: JournalReader, history: Path, *, server: str, request_id: str
) -> Asked | None:
    """A request of this id by this server; None if none was accepted and none is on record as refused."""
    key = request_key(server, "claim", request_id)
    refused = read_refused(history, key)
    accepted = read_request(settings.store.path, key)
    received = handed_in(journal, server, request_id)
    if accepted is not None:
        asked = _accepted(server, request_id, accepted, refused)
    elif refused:
        asked = _refused(settings, server, request_id, refused)
    else:
        return None if received is None else _received(server, request_id, received)
    if received is not None:
        asked.answer["received"] = received
    return asked


def handed_in(journal: JournalReader, server: str, request_id: str) -> dict[str, Any] | None:
    """What a claim that was handed in by this id was accepted as, and what becomes of it; None if it was not."""
    taken = journal.taken_in(request_key(server, "receive", request_id))
    held = None if taken is None else journal.incoming(taken["channel_id"])
    if taken is None or held is None:
        return None
    told = became(taken["drops"], taken["amount"], held)
    return {"topic": "receive", "accepted_at_unix": taken["at_unix"], **told, "payee": str(held.channel.payee)}


def _accepted(server: str, request_id: str, found: dict[str, Any], refused: list[RefusedAsk]) -> Asked:
    answer = {
        "server": server,
        "id": request_id,
        "answer": "accepted",
        **found,
        "claim": {"channel_id": found["channel_id"], "amount": found["amount"]},
        "demand": {"drops": found["drops"], "why": "it counts in the forecast of what its payee needs"},
        "refused_before": [_told(each) for each in refused],
    }
    return Asked(server, found["payee"], found["channel_id"], found["accepted_at_unix"], answer)


def _refused(settings: Settings, server: str, request_id: str, refused: list[RefusedAsk]) -> Asked:
    last = refused[-1]
    entry = settings.servers.get(server)
    only = str(entry.payees[0].payee) if entry is not None and len(entry.payees) == 1 else ""
    payee = last.payee or only
    waits = last.code.value == "no_headroom"
    answer = {
        "server": server,
        "id": request_id,
        "answer": "rejected",
        **_told(last),
        "payee": payee or None,
        "drops": str(last.drops),
        "demand": {"drops": str(last.drops) if waits else "0", "why": _REFUSED_WHY if waits else "it adds none"},
        "refused_before": [_told(each) for each in refused[:-1]],
    }
    return Asked(server, payee, None, refused[0].at, answer)


def _received(server: str, request_id: str, received: dict[str, Any]) -> Asked:
    answer = {"server": server, "id": request_id, "answer": "accepted", **received}
    return Asked(server, received["payee"], received["channel_id"], received["accepted_at_unix"], answer)


def _told(refused: RefusedAsk) -> dict[str, Any]:
    told = {"at_unix": refused.at, "code": refused.code.value, "reason": refused.reason}
    if refused.because is None:
        return told
    rules, act, facts, policy = refused.because
    return {**told, "rules": list(rules), "act": act, "inputs": dict(facts), "policy_hash": policy}
