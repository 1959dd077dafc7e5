"""Why, and why not: what is on record about a channel, a payee or a request, as one chain from inputs to outcome.

Read from the store and from the history beside it, so it answers the same whether the daemon runs or not. What was
decided comes from the history, with its inputs; what became of it from the journal. Where the history has a gap, what
the journal has of it stands in the chain all the same, without inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channeld.adapters.sqlite import history_reader
from channeld.adapters.sqlite.history import history_path
from channeld.adapters.sqlite.journal_reader import Carried, JournalReader, reading
from channeld.app.explain_request import Asked, asked_about
from channeld.app.links import carried_link, told_link
from channeld.core.errors import BadValue, Refused, Unreachable
from channeld.core.history import Told
from channeld.core.intents import OpenChannel
from channeld.core.outcome import subject_of
from channeld.core.records import Archived, ChannelRecord, Incoming
from channeld.core.units import (
    MAX_UINT32,
    RIPPLE_EPOCH,
    ChannelId,
    Payee,
    RippleTime,
    parse_channel_id,
    to_ripple,
    to_unix,
)
from channeld.settings import Settings
from channeld.wire.events import channel_object
from channeld.wire.payee import parse_payee
from channeld.wire.receive import held_state

_HEX: Final = re.compile(r"[0-9A-Fa-f]{4,64}", re.ASCII)
_REQUEST: Final = re.compile(r"([A-Za-z0-9_-]{1,64})/(.{1,128})", re.ASCII)
_FEWEST, _ALL = 8, 64
"""Digits of an id that are enough where something is done to its channel, and all of them."""
MOST: Final = 200
"""Links of a chain that are shown; the last of them."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where to read: the store's journal and the history, as of close time `until`."""

    journal: JournalReader
    history: Path
    until: RippleTime

    @property
    def span(self) -> dict[str, Any]:
        """How far back the history goes."""
        span = history_reader.read_span(self.history)
        since = span["since"]
        return {"since_unix": None if since is None else since + RIPPLE_EPOCH, "answers": span["answers"]}


def explain(settings: Settings, what: str, at_unix: float | None = None) -> dict[str, Any]:
    """What is known about `what`, up to a moment. Raises `Refused` where nothing is, `Unreachable` without a store."""
    if not settings.store.path.is_file():
        raise Unreachable(f"there is no store yet: {settings.store.path}")
    until = RippleTime(MAX_UINT32) if at_unix is None else to_ripple(at_unix)
    with reading(settings.store.path) as journal:
        archive = Archive(journal, history_path(settings.store.path), until)
        answer = _found(settings, archive, what.strip())
    if at_unix is not None:
        answer["at_unix"] = int(at_unix)
    return {**answer, "history": archive.span}


def _found(settings: Settings, archive: Archive, what: str) -> dict[str, Any]:
    """The answer about whatever is meant: a request named with its server, a channel, a payee, a request's id alone."""

    def asked(server: str, request_id: str) -> Asked | None:
        return asked_about(settings, archive.journal, archive.history, server=server, request_id=request_id)

    if (match := _REQUEST.fullmatch(what)) and (named := asked(match[1], match[2])):
        return _request(archive, named)
    if _HEX.fullmatch(what) and (ids := _ids(archive, what.upper())):
        return _channel(archive, _only(ids, what))
    if what[:1] in {"r", "X", "T"} and (payee := _payee(settings, what)) is not None:
        return _payees(archive, payee)
    found = [known for server in settings.servers if (known := asked(server, what))]
    if len(found) > 1:
        named_all = ", ".join(f"{known.server}/{what}" for known in found)
        raise BadValue("what", "several content servers have a request of this id", named_all)
    if found:
        return _request(archive, found[0])
    raise Refused(
        f"nothing is known of {what!r}: no channel's id begins so, it is no payee, and no request of that id was"
        " accepted or is on record as refused (requests: SERVER/ID)"
    )


def _ids(archive: Archive, prefix: str) -> list[str]:
    found = [*archive.journal.ids(prefix), *history_reader.find_subjects(archive.history, prefix)]
    return sorted({name for name in found if "/" not in name})


def _only(ids: Sequence[str], what: str, field: str = "what") -> str:
    if len(ids) > 1:
        raise BadValue(field, f"several channels' ids begin with {what}", f"more digits: {', '.join(ids)}")
    return ids[0]


def whole_ids(settings: Settings, beginnings: Sequence[str], field: str) -> list[ChannelId]:
    """Ids of channels from the beginnings of them, found as `explain` finds them, gone or not: of 8 digits or more.
    Nothing is looked up where all of them are whole.

    Raises `BadValue` naming `field` where it is none or several channels' ids begin so, `Refused` where no id does.
    """
    if any(len(beginning) != _ALL for beginning in beginnings):
        with reading(settings.store.path) as journal:
            archive = Archive(journal, history_path(settings.store.path), RippleTime(MAX_UINT32))
            beginnings = [_whole(archive, beginning, field) for beginning in beginnings]
    return [parse_channel_id(beginning, field) for beginning in beginnings]


def _whole(archive: Archive, beginning: str, field: str) -> str:
    if not _HEX.fullmatch(beginning) or len(beginning) < _FEWEST:
        raise BadValue(field, "not a channel id", f"64 hex digits, or the first {_FEWEST} or more of them")
    found = [beginning] if len(beginning) == _ALL else _ids(archive, beginning.upper())
    if not found:
        raise Refused(f"no channel's id begins with {beginning}: see `channeld channels`")
    return _only(found, beginning, field)


def _payee(settings: Settings, text: str) -> Payee | None:
    try:
        return parse_payee(text, "what", settings.ledger.network_id)
    except BadValue:
        if re.fullmatch(r"[rXT][A-Za-z0-9]{24,46}(:[0-9]+)?", text):
            raise
        return None


# --- channels --------------------------------------------------------------------------------------------------------


def _channel(archive: Archive, channel_id: str) -> dict[str, Any]:
    record, held = archive.journal.channel(channel_id), archive.journal.incoming(channel_id)
    kept: dict[str, Any] = {}
    if record is None and held is None and (entry := _archived(archive, channel_id)) is not None:
        record, held, kept = *_split(entry), _kept(entry)
    told = history_reader.read_answers(archive.history, channel_id, until=archive.until, limit=MOST)
    chain = chained(archive, told, archive.journal.of_channel(channel_id))
    return {"subject": "channel", **_facts(channel_id, record, held), **kept, "chain": chain}


def _archived(archive: Archive, channel_id: str) -> Archived | None:
    """Its entry in the store's archive: as one of ours, else as one that paid us."""
    ours = archive.journal.archived(channel_id, incoming=False)
    return ours or archive.journal.archived(channel_id, incoming=True)


def _split(entry: Archived) -> tuple[ChannelRecord | None, Incoming | None]:
    record = entry.record
    return (record, None) if isinstance(record, ChannelRecord) else (None, record)


def _kept(entry: Archived) -> dict[str, Any]:
    """What the archive has beside what a channel's row says."""
    record = entry.record
    opened = to_unix(record.opened_at) if isinstance(record, ChannelRecord) else None
    return {
        "archived": {
            "opened_at_unix": opened,
            "opened_by": entry.opened_by or None,
            "gone_at_unix": to_unix(entry.gone_at),
            "closed_by": record.closed_by or None,
            "transactions": entry.transactions,
            "fees": str(entry.fees),
            "payments": entry.payments,
            "paid": str(entry.paid),
        }
    }


def _facts(channel_id: str, record: ChannelRecord | None, held: Incoming | None) -> dict[str, Any]:
    """What the store says of it now."""
    if record is not None:
        return {
            **channel_object(record),
            "direction": "out",
            "authorized": str(record.authorized),
            "headroom": str(record.channel.headroom(record.authorized)),
            "payee": str(record.channel.payee),
            "pool": record.pool,
            "server": record.server,
        }
    if held is None:
        return {"channel_id": channel_id}
    channel = held.channel
    return {
        "channel_id": channel_id,
        "direction": "in",
        "state": held_state(held),
        "source_account": channel.source_account,
        "payee": str(channel.payee),
        "amount": str(channel.amount),
        "balance": str(channel.balance),
        "held": str(held.held),
        "collectable": str(held.collectable),
        "server": held.server,
    }


def chained(archive: Archive, told: Sequence[Told], carried: Sequence[Carried]) -> list[dict[str, Any]]:
    """Answers and intents as one chain, oldest first: each intent once, with its inputs where the history has them."""
    by_number = {each.entry.number: each for each in carried}
    links: list[tuple[int, int, dict[str, Any]]] = []
    seen: set[int] = set()
    for answer in told:
        own = _own(archive, by_number, answer)
        if own is not None:
            seen.add(own.entry.number)
        links.append((answer.ledger, answer.number, told_link(answer, own)))
    newest = MAX_UINT32 if archive.until == MAX_UINT32 else history_reader.ledger_at(archive.history, archive.until)
    for each in carried:
        if each.entry.number in seen or each.entry.decided_at > newest:
            continue
        if (opening := _opening(archive, each)) is not None:
            links.append((opening.ledger, -1, told_link(opening, each)))
        else:
            links.append((each.entry.decided_at, 0, carried_link(each)))
    return [link for *_, link in sorted(links, key=lambda item: item[:2])][-MOST:]


def _own(archive: Archive, carried: Mapping[int, Carried], answer: Told) -> Carried | None:
    """The intent that an answer is, None where it is none or the journal is of a store that was put back since."""
    number = answer.said.intent
    if number is None:
        return None
    found = carried.get(number) or archive.journal.intent(number)
    same = found is not None and (found.entry.decided_at, found.entry.action.kind) == (answer.ledger, answer.said.kind)
    return found if same else None


def _opening(archive: Archive, carried: Carried) -> Told | None:
    """The answer about a payee that opened a channel: it stands under the payee, not under the channel."""
    entry = carried.entry
    action = entry.action
    if not isinstance(action, OpenChannel):
        return None
    told = history_reader.read_intent(archive.history, subject_of(action), entry.number)
    return told if told is not None and told.ledger == entry.decided_at else None


# --- payees ----------------------------------------------------------------------------------------------------------


def _payees(archive: Archive, payee: Payee) -> dict[str, Any]:
    told = history_reader.read_payee(archive.history, str(payee), until=archive.until, limit=MOST)
    opened, records = archive.journal.of_payee(payee), archive.journal.channels_of(payee)
    records += [r for entry in archive.journal.archived_of(payee) for r in _split(entry)[:1] if r is not None]
    if not (told or opened or records):
        raise Refused(f"nothing is known of payee {payee}: nobody asked for it, and it has no channel")
    channels = []
    for record in records:
        channel_id = record.channel.channel_id
        last = history_reader.read_answers(archive.history, channel_id, until=archive.until, limit=1)
        shown = _facts(channel_id, record, None)
        channels.append({**shown, "last": told_link(last[0], _own(archive, {}, last[0])) if last else None})
    return {
        "subject": "payee",
        "payee": str(payee),
        "channels": channels,
        "chain": chained(archive, told, opened),
    }


# --- requests --------------------------------------------------------------------------------------------------------


def _request(archive: Archive, asked: Asked) -> dict[str, Any]:
    """What a request got, and what was decided about its payee from then on."""
    answer = asked.answer
    then: list[dict[str, Any]] = []
    if asked.payee and asked.at is not None:
        since = to_ripple(asked.at - 10)  # a ledger's close time may be behind our clock by its resolution
        told = history_reader.read_since(archive.history, asked.payee, since, limit=12)
        mine = [t for t in told if t.close_time <= archive.until and asked.concerns(t)]
        then = [told_link(t, _own(archive, {}, t)) for t in mine]
    return {"subject": "request", **answer, "then": then}
