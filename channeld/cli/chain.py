"""A chain of decisions as a person reads it: a few lines for each link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from channeld.cli.moments import show_moment
from channeld.core.units import format_xrp
from channeld.core.vocabulary import PPM, VOCABULARY, Unit

_UNIT: Final[Mapping[str, Unit]] = {
    **{name: fact.unit for words in VOCABULARY.values() for name, fact in words.facts.items()},
    **{f"{c.value}.{name}": s.unit for c, words in VOCABULARY.items() for name, s in words.settings.items()},
    **dict.fromkeys(("amount", "balance", "authorized", "held", "collectable", "spent"), Unit.DROPS),
    **dict.fromkeys(("ends_in", "redeem.before_end"), Unit.DURATION),
}
"""What each fact and term counts; what is not here is shown as it is."""
_MOMENTS: Final = frozenset({"retry_at"})
_PLACE: Final = frozenset({"pool", "wallet", "server", "region", "tier"})
_RIPPLE_EPOCH: Final = 946_684_800
_SIZES: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The whole answer of `explain`."""
    yield from {"channel": _channel, "payee": _payee, "request": _request}[answer["subject"]](answer)
    history = answer["history"]
    since = show_moment(history["since_unix"]) if history["since_unix"] is not None else "now"
    yield f"(the history goes back to {since}; {history['answers']} answers)"


def _channel(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"channel {answer['channel_id']}"
    if "direction" in answer:
        yield f"  {_state(answer)}"
    if "archived" in answer:
        yield from _kept(answer["archived"])
    yield from _chain(answer["chain"], answer.get("now"))


def _kept(archived: Mapping[str, Any]) -> Iterator[str]:
    """What the archive has of a channel that is long gone."""
    for what in ("opened", "gone"):
        at, by = archived[f"{what}_at_unix"], archived["opened_by" if what == "opened" else "closed_by"]
        when = "at a time not known" if at is None else show_moment(at)
        yield f"  {what} {when} by {by or 'a transaction that is not known'}"
    took, paid = (format_xrp(int(archived[name])) for name in ("fees", "paid"))
    ours = f"{archived['transactions']} transactions of ours for {took} of fees"
    yield f"  archived: {ours}, {archived['payments']} payments of {paid}"


def _state(channel: Mapping[str, Any]) -> str:
    ours = channel["direction"] == "out"
    facts = ("amount", "balance", "authorized", "headroom") if ours else ("amount", "balance", "held", "collectable")
    money = ", ".join(f"{name} {format_xrp(int(channel[name]))}" for name in facts)
    who = f"pays {channel['payee']}" if ours else f"pays us ({channel['payee']})"
    return f"{channel['state']}, {who}: {money}"


def _payee(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"payee {answer['payee']}"
    for channel in answer["channels"]:
        last = channel["last"]
        said = f"{headline(last)}" if last else "nothing on record"
        yield f"  channel {channel['channel_id'][:16]}  {_state(channel)}"
        yield f"    last: {said}"
    yield from _chain(answer["chain"], answer.get("now"))


def _request(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"request {answer['server']}/{answer['id']}: {answer['answer']}"
    for earlier in answer.get("refused_before", []):
        yield f"  {show_moment(earlier['at_unix'])}  refused, {earlier['code']}: {earlier['reason']}"
        yield from _admit(earlier)
    if answer["answer"] == "accepted":
        if "covers" in answer:
            covers = answer["covers"]
            yield from _on_channel(answer)
            yield f"  slice {covers['from']}..{covers['to']}, answered by the claim for {answer['amount']} drops in all"
        else:
            yield from _handed_in(answer)
    else:
        yield f"  {show_moment(answer['at_unix'])}  {answer['code']}: {answer['reason']}"
        yield from _admit(answer)
    if "received" in answer:
        yield "  by the same id a claim was handed in:"
        yield from _handed_in(answer["received"])
    if "demand" in answer:
        yield f"  demand: {format_xrp(int(answer['demand']['drops']))}: {answer['demand']['why']}"
    yield "what the engine did then:" if answer["then"] else "nothing was decided about its payee since."
    for link in answer["then"]:
        yield from _link(link)


def _on_channel(answer: Mapping[str, Any]) -> Iterator[str]:
    drops = format_xrp(int(answer["drops"]))
    yield f"  {show_moment(answer['accepted_at_unix'])}  accepted {drops} for {answer['payee']}"
    yield f"  on channel {answer['channel_id']}"


def _handed_in(received: Mapping[str, Any]) -> Iterator[str]:
    yield from _on_channel(received)
    yield f"  a claim for {received['amount']} drops in all, {received['next'].replace('_', ' ')}"


def _admit(refused: Mapping[str, Any]) -> Iterator[str]:
    """By what the policy refused a request, where it did."""
    if "rules" in refused:
        facts = " · ".join(f"{name} {shown(name, value)}" for name, value in refused["inputs"].items())
        yield f"    on      {facts}"
        yield f"    by      {refused['act']}, {' '.join(refused['rules'])}, policy {refused['policy_hash'][:12]}"


def _chain(chain: list[Mapping[str, Any]], now: Mapping[str, Any] | None) -> Iterator[str]:
    for link in chain:
        yield ""
        yield from _link(link)
    if now is not None:
        yield ""
        yield "now:"
        yield from _link(now)
    yield ""


def _link(link: Mapping[str, Any]) -> Iterator[str]:
    yield f"{show_moment(link['at_unix'])}  ledger {link['ledger']}  {headline(link)}"
    inputs = link["inputs"]
    if inputs is None:
        yield "    on      (not on record: the history does not go back so far, or was behind when we were killed)"
    else:
        places = " ".join(f"{n} {v}" for n, v in inputs.items() if n in _PLACE)
        facts = " · ".join(f"{n} {shown(n, v)}" for n, v in inputs.items() if n not in _PLACE)
        yield f"    on      {facts}"
        yield f"    in      {places}" if places else "    in      no pool"
        if link["terms"]:
            yield f"    terms   {' · '.join(f'{n} {shown(n, v)}' for n, v in link['terms'].items())}"
    yield f"    by      {link['by']}, policy {link['policy_hash'][:12]}"
    for sent in link.get("transactions", []):
        where = f"{sent['result']} in ledger {sent['ledger']}" if sent["ledger"] else sent["result"] or "in flight"
        yield f"    tx      {sent['hash']} {where}, fee {sent['fee']} drops"
    if "outcome" in link:
        yield f"    outcome {link['outcome']}"
    elif link["until_unix"] is not None:
        yield f"    again   {show_moment(link['until_unix'])}"


def headline(link: Mapping[str, Any]) -> str:
    target = f" to {format_xrp(int(link['target']))}" if link["target"] is not None else ""
    if link["answer"] == "done":
        return f"{link['action']}{target}: {link['reason']}, {link['why']}"
    if link["answer"] == "would":
        return f"would {link['action']}{target} ({link['because']}), but {link['reason']}: {link['why']}"
    return f"left alone: {link['reason']}, {link['why']}"


def shown(name: str, value: object) -> str:
    """A fact or a term for a person: with its unit."""
    if isinstance(value, list):
        return "/".join(shown(name, part) for part in value if part is not None)
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if name in _MOMENTS:
        return show_moment(value + _RIPPLE_EPOCH)
    unit = _UNIT.get(name)
    if unit is Unit.RATIO:
        return f"{value / PPM:.6f}".rstrip("0").rstrip(".")
    return format_xrp(value) if unit is Unit.DROPS else _length(value) if unit is Unit.DURATION else str(value)


def _length(seconds: int) -> str:
    sign, left, parts = "-" if seconds < 0 else "", abs(seconds), []
    for size, unit in _SIZES:
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return sign + ("".join(parts[:2]) or "0s")
