"""Plans and replays as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from channeld.cli.chain import headline
from channeld.cli.moments import show_moment
from channeld.core.units import format_xrp

_SHOWN = 40
_SHORT = 16
Told = Mapping[str, Any]


def plan_lines(answer: Told) -> Iterator[str]:
    """The answer of `policy plan`."""
    yield (
        f"as of ledger {answer['ledger']}, {show_moment(answer['close_time_unix'])}:"
        f" {answer['channels']} channels of {answer['groups']} payees, and {answer['receiving']} that pay us"
    )
    yield ""
    yield f"policy in force {answer['policy_hash'][:12]}"
    yield from _plan(answer)
    if "candidate" in answer:
        yield ""
        yield f"candidate {answer['candidate']['policy_hash'][:12]}"
        yield from _plan(answer["candidate"])
        yield ""
        yield f"answered otherwise by the candidate: {answer['differing']}"
        for each in answer["differences"][:_SHOWN]:
            yield f"  {_name(each)}"
            yield f"    in force  {_one(each['in_force'])}"
            yield f"    candidate {_one(each['candidate'])}"


def _plan(plan: Told) -> Iterator[str]:
    total = sum(plan["counts"].values())
    named = ", ".join(f"{count} {kind}" for kind, count in plan["counts"].items())
    yield f"  to be done now: {total}{f' ({named})' if named else ''}"
    for each in plan["do"][:_SHOWN]:
        yield f"    {_name(each)}  {headline(each)}"
        if each["rules"]:
            yield f"      by {', '.join(each['rules'])}"
    for each in plan["would"][:_SHOWN]:
        yield f"    {_name(each)}  {headline(each)}"
    yield "  left alone:" if plan["left_alone"] else "  nothing is left alone"
    for reason, held in plan["left_alone"].items():
        some = ", ".join(_short(subject) for subject in held["subjects"])
        yield f"    {held['count']:>6}  {reason}: {held['why']}  ({some}{', …' if held['count'] > 5 else ''})"
    yield from _costs(plan)


def _costs(plan: Told) -> Iterator[str]:
    costs = plan["costs"]
    now = f" ({_xrp(costs['fees_now'])} as fees are now)" if costs["fees_now"] is not None else ""
    yield (
        f"  takes at worst: {_xrp(costs['capital'])} of capital, {_xrp(costs['reserve'])} of reserve,"
        f" {_xrp(costs['fees_at_worst'])} of fees{now}"
    )
    for name, wallet in plan["wallets"].items():
        steps = ", ".join(f"{what.replace('_', ' ')} {_step(step)}" for what, step in wallet.items())
        yield f"  wallet {name}: {steps}"
    for name, budget in plan["budgets"].items():
        span = f" in {budget['window_s']} s" if budget["window_s"] else ""
        yield f"  budget {name} ({_xrp(budget['limit'])} of {budget['purse']}{span}): left {_step(budget['left'])}"


def replay_lines(answer: Told) -> Iterator[str]:
    """The answer of `policy replay`."""
    yield (
        f"policy {answer['policy_hash'][:12]} over {answer['moments']} moments from {show_moment(answer['since_unix'])}"
        f" to {show_moment(answer['until_unix'])}"
    )
    yield (
        f"  {answer['answers']} answers: {answer['same']} the same, {answer['differing']} otherwise,"
        f" about {answer['subjects']} channels and payees"
    )
    if answer["unreadable"]:
        yield f"  {answer['unreadable']} moments cannot be read by this version"
    for change in answer["changes"]:
        some = ", ".join(_short(subject) for subject in change["subjects"])
        yield f"  {change['count']:>6}  {change['from']}  ->  {change['to']}  ({some})"


def _name(each: Told) -> str:
    return f"{_short(each['subject'])} (pays {each['payee']})" if "/" not in each["subject"] else each["subject"]


def _one(said: Told | None) -> str:
    return "nothing is known of it" if said is None else headline(said)


def _short(subject: str) -> str:
    return subject if "/" in subject else subject[:_SHORT]


def _xrp(drops: str) -> str:
    return format_xrp(int(drops))


def _step(step: Told) -> str:
    return f"{_xrp(step['before'])} -> {_xrp(step['after'])}"
