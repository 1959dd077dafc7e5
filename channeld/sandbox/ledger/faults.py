"""Faults a test can order, by `{"command": "fault", "kind": ...}` on the node's own port (admin connections only).

A ledger with several ports is like several nodes that always agree: what concerns connections and answers holds for the
port it is ordered at (`DOOR_KINDS` and disconnect), what concerns the ledger for all.

| kind | parameters (default) | what happens |
|---|---|---|
| disconnect | count (all others), after_ms (0) | other connections are cut, newest first, without a close frame |
| submit_answer | mode lose or delay, count (1), delay_ms (1000) | taken, but the answer is lost or late |
| submit_refuse | count (1), engine_result (telINSUF_FEE_P) | the next submissions answer this and are not taken |
| queue | count (1), ledgers (1) | the next submissions answer terQUEUED, go in so many ledgers later |
| stream | mode repeat, skip or delay; of transaction or ledgerClosed; count, delay_ms | so for the next messages sent |
| stall | seconds (0: until resume) | the timer closes no ledger; ledger_accept still does |
| resume | | ends stall, freeze_answers, refuse_connections and lag |
| reorder | count (1) | the next ledgers close in an order adverse to the open ledger's |
| delay_validation | hash, or count (1) | it, or the next submitted, go in only in their LastLedgerSequence |
| refuse_connections | seconds (0: until resume) | new connections are refused with HTTP 503 |
| lag | ledgers | requests see the validated ledger of that many ledgers ago (0 ends it); streams do not lag |
| clock | offset_s, or set (ripple time), frozen (false) | moves the node's clock |
| freeze_answers | seconds (0: until resume) | requests are taken, but their answers wait; faults are answered |
| save_state | | writes the state file now |
| clear | | ends every fault and puts the clock right |
| list | | the faults still in force |
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from channeld.core.units import RIPPLE_EPOCH
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.results import RESULTS

FOREVER: Final = float("inf")
_TIMED: Final = ("stall", "refuse_connections", "freeze_answers")
_MAX_COUNT: Final = 1_000_000


class BadFault(ValueError):
    """The fault request is wrong; the text says how."""


@dataclass
class Order:
    """A fault in force for the next `left` occasions."""

    left: int
    mode: str = ""
    of: str = ""
    delay_s: float = 0.0
    ledgers: int = 0
    result: str = ""


@dataclass
class Faults:
    """All faults in force."""

    orders: dict[str, Order] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    held_back: set[str] = field(default_factory=set)
    lag: int = 0

    def take(self, kind: str) -> Order | None:
        """Use up one occasion of a counted fault; None if it is not in force."""
        order = self.orders.get(kind)
        if order is None:
            return None
        order.left -= 1
        if order.left <= 0:
            del self.orders[kind]
        return order

    def take_stream(self, message_type: str) -> Order | None:
        """Use up one occasion of a stream fault on messages of this type."""
        order = self.orders.get("stream")
        return self.take("stream") if order is not None and order.of == message_type else None

    def active(self, kind: str) -> bool:
        """Whether a timed fault is in force now."""
        if (until := self.until.get(kind, 0.0)) > time.monotonic():
            return True
        if until:
            del self.until[kind]
        return False

    def queue_delay(self) -> int:
        """For how many ledgers the submission at hand must wait in the queue; 0 mostly."""
        order = self.take("queue")
        return order.ledgers if order else 0

    def mark(self, tx: Transaction) -> None:
        """Hold a submission back until its LastLedgerSequence, if ordered. One without that field is left alone."""
        if tx.last_ledger is not None and self.take("delay_validation"):
            self.held_back.add(tx.hash)

    def holds_back(self, tx: Transaction, ledger_index: int) -> bool:
        """Whether a transaction must stay out of this ledger."""
        return tx.hash in self.held_back and tx.last_ledger is not None and ledger_index < tx.last_ledger

    def clear(self) -> None:
        """End every fault."""
        self.orders.clear()
        self.until.clear()
        self.held_back.clear()
        self.lag = 0

    def resume(self) -> None:
        """End what lasts: stalls, frozen answers, refused connections, lag."""
        self.until.clear()
        self.lag = 0

    def describe(self) -> dict[str, Any]:
        """What is in force, for `list`."""
        table: dict[str, Any] = {kind: {"left": order.left} for kind, order in self.orders.items()}
        now = time.monotonic()
        for kind in _TIMED:
            if self.active(kind):
                left = self.until[kind] - now
                table[kind] = {"seconds_left": None if left == FOREVER else round(left, 3)}
        if self.lag:
            table["lag"] = {"ledgers": self.lag}
        if self.held_back:
            table.setdefault("delay_validation", {})["hashes"] = sorted(self.held_back)
        return table


def _number(request: dict[str, Any], name: str, default: float, most: float = _MAX_COUNT) -> float:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadFault(f"{name}: a number from 0 to {most:g}")
    return value


def _count(request: dict[str, Any], name: str = "count") -> int:
    value = _number(request, name, 1)
    if value < 1 or value != int(value):
        raise BadFault(f"{name}: a whole number, 1 or more")
    return int(value)


def _choice(request: dict[str, Any], name: str, choices: tuple[str, ...], default: str | None = None) -> str:
    value = request.get(name, default)
    if value not in choices:
        raise BadFault(f"{name}: one of {', '.join(choices)}")
    return str(value)


def _submit_answer(faults: Faults, request: dict[str, Any]) -> None:
    mode = _choice(request, "mode", ("lose", "delay"))
    delay = _number(request, "delay_ms", 1000) / 1000
    faults.orders["submit_answer"] = Order(_count(request), mode=mode, delay_s=delay)


def _submit_refuse(faults: Faults, request: dict[str, Any]) -> None:
    result = request.get("engine_result", "telINSUF_FEE_P")
    if result not in RESULTS:
        raise BadFault("engine_result: a result this ledger knows, such as telINSUF_FEE_P")
    faults.orders["submit_refuse"] = Order(_count(request), result=result)


def _queue(faults: Faults, request: dict[str, Any]) -> None:
    faults.orders["queue"] = Order(_count(request), ledgers=_count(request, "ledgers"))


def _stream(faults: Faults, request: dict[str, Any]) -> None:
    mode = _choice(request, "mode", ("repeat", "skip", "delay"))
    of = _choice(request, "of", ("ledgerClosed", "transaction"), "transaction")
    delay = _number(request, "delay_ms", 1000) / 1000
    faults.orders["stream"] = Order(_count(request), mode=mode, of=of, delay_s=delay)


def _delay_validation(faults: Faults, request: dict[str, Any]) -> None:
    if "hash" in request:
        faults.held_back.add(str(request["hash"]).upper())
    else:
        faults.orders["delay_validation"] = Order(_count(request))


def _reorder(faults: Faults, request: dict[str, Any]) -> None:
    faults.orders["reorder"] = Order(_count(request))


def _lag(faults: Faults, request: dict[str, Any]) -> None:
    faults.lag = int(_number(request, "ledgers", 1, most=255))


def _timed(faults: Faults, request: dict[str, Any]) -> None:
    seconds = _number(request, "seconds", 0)
    faults.until[request["kind"]] = time.monotonic() + seconds if seconds else FOREVER


_HANDLERS: Final[dict[str, Callable[[Faults, dict[str, Any]], None]]] = {
    "submit_answer": _submit_answer,
    "submit_refuse": _submit_refuse,
    "queue": _queue,
    "stream": _stream,
    "delay_validation": _delay_validation,
    "reorder": _reorder,
    "lag": _lag,
    "resume": lambda faults, _request: faults.resume(),
    "clear": lambda faults, _request: faults.clear(),
    "list": lambda _faults, _request: None,
    **dict.fromkeys(_TIMED, _timed),
}
DOOR_KINDS: Final = (
    "submit_answer",
    "submit_refuse",
    "stream",
    "resume",
    "lag",
    "refuse_connections",
    "freeze_answers",
    "clear",
    "list",
)
"""Kinds that concern the port they are ordered at, where a ledger has several; all others concern the ledger."""
SERVER_KINDS: Final = ("disconnect", "clock", "save_state")
"""Kinds the server carries out itself."""
KINDS: Final = (*_HANDLERS, *SERVER_KINDS)


def order(faults: Faults, request: dict[str, Any]) -> None:
    """Put a fault in force. Raises `BadFault`, naming the known kinds for an unknown one."""
    handler = _HANDLERS.get(str(request.get("kind")))
    if handler is None:
        raise BadFault(f"kind: one of {', '.join(sorted(KINDS))}")
    handler(faults, request)


def clock_setting(request: dict[str, Any]) -> tuple[float, int | None]:
    """What a `clock` fault asks for: the offset in seconds, and the ripple time to stand still at, if any."""
    offset = request.get("offset_s", 0)
    if "set" in request:
        value = int(_number(request, "set", 0, most=2**32 - 1))
        if request.get("frozen") is True:
            return 0.0, value
        offset = value + RIPPLE_EPOCH - time.time()
    elif isinstance(offset, bool) or not isinstance(offset, int | float):
        raise BadFault("offset_s: a number of seconds")
    return float(offset), None
