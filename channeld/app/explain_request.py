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
    if accepted is not None:
        return _accepted(server, request_id, accepted, refused)
    if refused:
        return _refused(settings, server, request_id, refused)
    taken = journal.taken_in(request_key(server, "receive", request_id))
    return None if taken is None else _taken(journal, server, request_id, taken)


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


def _taken(journal: JournalReader, server: str, request_id: str, found: dict[str, Any]) -> Asked:
    held = journal.incoming(found["channel_id"])
    payee = str(held.channel.payee) if held else ""
    answer = {
        "server": server,
        "id": request_id,
        "answer": "accepted",
        "topic": "receive",
        "accepted_at_unix": found["at_unix"],
        "channel_id": found["channel_id"],
        "drops": str(found["drops"]),
        "amount": str(found["amount"]),
        "payee": payee or None,
    }
    return Asked(server, payee, found["channel_id"], found["at_unix"], answer)


def _told(refused: RefusedAsk) -> dict[str, Any]:
    told = {"at_unix": refused.at, "code": refused.code.value, "reason": refused.reason}
    if refused.because is None:
        return told
    rules, act, facts, policy = refused.because
    return {**told, "rules": list(rules), "act": act, "inputs": dict(facts), "policy_hash": policy}
