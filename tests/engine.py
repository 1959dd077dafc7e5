"""The money-deciding engine on a store in a file and a ledger in memory, driven step by step.

The ledger knows just enough of payment channels: sequences, expiry, what Create, Fund and Claim do. Nothing here waits:
coroutines are driven to their end by hand, and die at a chosen point when `Killed` is raised in them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from worlds import KEY, PAYEES, SOURCE

from channeld.adapters.signer import PairedSigning
from channeld.adapters.sqlite import SqliteStore
from channeld.adapters.sqlite.reader import read_whole
from channeld.core.channel import Channel, Phase
from channeld.core.errors import Unreachable
from channeld.core.intents import Claim, Create, Fund, Number, OpenChannel, Transaction
from channeld.core.ledger import (
    AccountState,
    ChannelChange,
    Fees,
    History,
    LedgerHeader,
    NodeFacts,
    OpenFees,
    SubmitResult,
    ValidatedTransaction,
)
from channeld.core.policy import ChannelShape, CloseTerms, FundTerms, Guards, Policy, Pool, SettleTerms
from channeld.core.records import Signed
from channeld.core.requests import Answer, Ask, Code, Held, Refusal
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds
from channeld.core.witness import source_tag
from channeld.service.claim_desk import ClaimDesk
from channeld.service.endpoints import Endpoints
from channeld.service.executor import Executor
from channeld.service.follower import Follower
from channeld.service.holdings import Grant, Wallet
from channeld.service.id_room import IdRoom
from channeld.service.mirror import Mirror
from channeld.service.planner import Planner
from channeld.service.reconciler import Reconciler
from channeld.wire.requests import request_key

T = TypeVar("T")
FEES = Fees(Drops(10), Drops(1000), Drops(200))
CHEAP = OpenFees(Drops(10), Drops(10))
LAG, MARGIN, DELAY = 20, 5, 10
SIGNING = PairedSigning()


class Killed(BaseException):
    """The process dies here."""


def hash_of(blob: str) -> str:
    return hashlib.sha256(blob.encode()).hexdigest().upper()


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has nothing to wait for; it may give way to others, of whom there are none."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


def policy(*, cancel_after: int | None = None, max_per_payee: int = 2, opens: int = 3, spare: int = 0) -> Policy:
    """Terms under which everything happens within some dozen ledgers."""
    pool = Pool(
        "p",
        "hot",
        Seconds(DELAY),
        None if cancel_after is None else Seconds(cancel_after),
        Seconds(MARGIN),
        ChannelShape(Drops(20), Drops(60), max_per_payee, spare),
        FundTerms(Drops(5), Drops(15), Seconds(4), Seconds(8)),
        SettleTerms(Drops(25), Seconds(30)),
        CloseTerms(Seconds(60), Seconds(20)),
    )
    return Policy(1, {"p": pool}, Guards(Drops(0), opens, Seconds(LAG), Drops(100), Seconds(60)), "F" * 64)


def sign_claim(message: bytes) -> bytes:
    """A signature that anybody can check."""
    return (b"signed " + message).ljust(64, b".")


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return key.hex().upper() == KEY and signature == sign_claim(message)


def new_channel_id(address: str, action: OpenChannel, number: int) -> ChannelId:
    return ChannelId(f"{number:064X}")


def said(answer: Answer) -> Code | None:
    """Why a request was refused; None: it was not."""
    return answer.code if isinstance(answer, Refusal) else None


class Silent:
    """Telemetry that counts nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@dataclass
class Ledger:
    """Validated truth: one wallet, its channels, and everything that ever happened."""

    index: int = 100
    time: int = 100_000
    balance: int = 10**6
    sequence: int = 7
    channels: dict[str, Channel] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, tuple[Transaction, int, int, int]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    history: list[ValidatedTransaction] = field(default_factory=list)
    closed: dict[str, int] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)

    def sign(
        self,
        wallet: str,
        transaction: Transaction,
        number: Number,
        fee: Drops,
        last_ledger: LedgerIndex,
        *,
        store_id: str = "",
    ) -> Signed:
        """What the daemon signs with; equal transactions of one store have equal blobs. This ledger knows no
        tickets.
        """
        assert not number.ticket
        sequence, mark = number.value, source_tag(store_id, SOURCE)
        blob = json.dumps([repr(transaction), sequence, fee, last_ledger, mark])
        self.blobs[blob], self.marks[blob] = (transaction, sequence, fee, last_ledger), mark
        return Signed(blob, hash_of(blob))

    def submit(self, blob: str) -> str:
        _, sequence, _, last = self.blobs[blob]
        if sequence < self.sequence:
            return "tefPAST_SEQ"
        if self.index + 1 > last:
            return "tefMAX_LEDGER"
        if sequence in {self.blobs[b][1] for b in self.pending if b != blob}:
            return "tefPAST_SEQ"
        self.pending[blob] = sequence
        return "tesSUCCESS"

    def header(self) -> LedgerHeader:
        return LedgerHeader(LedgerIndex(self.index), f"{self.index:064X}", RippleTime(self.time), FEES)

    def account(self) -> AccountState:
        return AccountState(SOURCE, Drops(self.balance), self.sequence, len(self.channels))

    def close(self, seconds: int = 4, *, take: bool = True) -> None:
        """The next ledger closes; `take` says whether it takes what is pending."""
        clock, position = self.time, 0
        self.index, self.time = self.index + 1, self.time + seconds
        for blob, sequence in sorted(self.pending.items(), key=lambda p: p[1]) if take else ():
            transaction, _, fee, last = self.blobs[blob]
            if last < self.index or sequence < self.sequence:
                del self.pending[blob]
            elif sequence == self.sequence:
                del self.pending[blob]
                self.sequence, self.balance = sequence + 1, self.balance - fee
                result, changes = self._apply(transaction, sequence, clock)
                self.tags |= {c.channel_id: self.marks[blob] for c in changes if c.created}
                self._record(hash_of(blob), SOURCE, sequence, result, fee, changes, position)
                position += 1

    def _record(
        self,
        tx_hash: str,
        account: str,
        number: int,
        result: str,
        fee: int,
        changes: Sequence[ChannelChange],
        position: int,
    ) -> None:
        head = (tx_hash, LedgerIndex(self.index), position, Address(account), number, False, "Any", result)
        accounts = (self.account(),) if account == SOURCE else ()
        self.history.append(ValidatedTransaction(*head, Drops(fee), tuple(changes), accounts))

    def _apply(self, t: Transaction, sequence: int, clock: int) -> tuple[str, list[ChannelChange]]:
        if isinstance(t, Create):
            c = Channel(
                ChannelId(f"{sequence:064X}"), SOURCE, t.destination, t.destination_tag, t.public_key, t.amount,
                Drops(0), t.settle_delay, None, t.cancel_after, LedgerIndex(self.index),
            )  # fmt: skip
            self.channels[c.channel_id] = c
            self.created.append(c.channel_id)
            self.balance -= c.amount
            return "tesSUCCESS", [ChannelChange(c, True, False, Drops(0))]
        if not isinstance(t, Fund | Claim):
            return "tesSUCCESS", []
        old = self.channels.get(t.channel_id)
        if old is None:
            return "tecNO_TARGET", []
        if old.phase(RippleTime(clock)) is Phase.EXPIRED:
            return "tesSUCCESS", [self._delete(old, 0)]
        if isinstance(t, Fund):
            self.balance -= t.amount
            return "tesSUCCESS", [self._put(replace(old, amount=Drops(old.amount + t.amount)), 0)]
        paid = 0
        if t.balance is not None:
            if not old.balance < t.balance <= old.amount:
                return "tecUNFUNDED_PAYMENT", []
            paid = t.balance - old.balance
            old = replace(old, balance=t.balance)
        if t.close and old.balance == old.amount:
            return "tesSUCCESS", [self._delete(old, paid)]
        if t.close:
            end = clock + old.settle_delay
            old = replace(old, expiration=RippleTime(min(end, old.expiration or end)))
        return "tesSUCCESS", [self._put(old, paid)]

    def _put(self, c: Channel, paid: int) -> ChannelChange:
        c = replace(c, ledger_index=LedgerIndex(self.index))
        self.channels[c.channel_id] = c
        return ChannelChange(c, False, False, Drops(paid))

    def _delete(self, c: Channel, paid: int) -> ChannelChange:
        del self.channels[c.channel_id]
        self.closed[c.channel_id] = c.balance
        self.balance += c.amount - c.balance
        return ChannelChange(c, False, True, Drops(paid))

    def redeem(self, channel_id: str, amount: int) -> None:
        """The payee collects, in the ledger that closes next; the caller says so before `close`."""
        old = self.channels[channel_id]
        if old.phase(RippleTime(self.time)) is not Phase.EXPIRED and old.balance < amount <= old.amount:
            change = self._put(replace(old, balance=Drops(amount)), amount - old.balance)
            change = replace(change, channel=replace(change.channel, ledger_index=LedgerIndex(self.index + 1)))
            self.index += 1
            self.time += 1
            number = len(self.history)
            self._record(f"{10**6 + number:064X}", old.destination_account, number, "tesSUCCESS", 10, [change], 0)

    def leave(self, channel_id: str) -> None:
        """The payee closes a channel without collecting, in a ledger of its own."""
        change = self._delete(self.channels[channel_id], 0)
        self.index, self.time = self.index + 1, self.time + 1
        number = len(self.history)
        payee = change.channel.destination_account
        self._record(f"{10**6 + number:064X}", payee, number, "tesSUCCESS", 10, [change], 0)
        self.history[-1] = replace(self.history[-1], accounts=(self.account(),))


@dataclass(eq=False)
class Session:
    """A node's end, with faults: `on_submit` sees every blob before it counts, `at_await` every place to die at."""

    ledger: Ledger
    endpoint: str = "fake"
    skipped: int = 0
    gone: bool = False
    first: int = 0
    last: int | None = None
    lost: bool = False
    code: str | None = None
    fees: OpenFees | Exception = CHEAP
    at_await: Callable[[str], None] = lambda _: None
    submitted: list[str] = field(default_factory=list)
    on_submit: Callable[[str], None] = lambda _: None

    async def facts(self) -> NodeFacts:
        return NodeFacts(0, "fake", LedgerIndex(self.first), LedgerIndex(self.ledger.index), 0.0)

    async def follow(self) -> LedgerHeader:
        return self.ledger.header()

    async def ledgers(self) -> AsyncIterator[LedgerHeader]:
        yield self.ledger.header()

    async def history(self, account: Address, first: LedgerIndex, last: LedgerIndex) -> History:
        self.at_await("history")
        low, high = max(first, self.first), min(last, self.last or last)
        found = [t for t in self.ledger.history if low <= t.ledger_index <= high]
        return History(LedgerIndex(low), LedgerIndex(high), tuple(found))

    async def channels(self, account: Address, at: LedgerIndex) -> list[Channel]:
        tags = self.ledger.tags
        return [replace(c, source_tag=tags.get(c.channel_id)) for c in self.ledger.channels.values()]

    async def account(self, account: Address, at: LedgerIndex) -> AccountState | None:
        return self.ledger.account()

    async def amendments(self) -> frozenset[str]:
        return frozenset()

    async def tickets(self, account: Address, at: LedgerIndex) -> list[int]:
        return []

    async def open_fees(self) -> OpenFees:
        self.at_await("open_fees")
        if isinstance(self.fees, Exception):
            raise self.fees
        return self.fees

    async def submit(self, blob: str) -> SubmitResult:
        self.on_submit(blob)
        self.submitted.append(blob)
        self.at_await("before submit")
        code = self.code or self.ledger.submit(blob)
        self.at_await("after submit")
        if self.lost:
            raise Unreachable("the answer is lost")
        return SubmitResult(code, False, "")


class Engine:
    """Everything between broker and node, on one store file. `restart` builds it anew from the file."""

    urls: Sequence[str] = ("ws://fake:1",)
    quorum = 1
    max_ids = 1_000_000

    def __init__(
        self,
        path: Path,
        *,
        terms: Policy | None = None,
        ledger: Ledger | None = None,
        caps: dict[str, tuple[int, int, int]] | None = None,
    ) -> None:
        self.path, self.policy = path, terms or policy()
        self.ledger = ledger or Ledger()
        self.clock, self.unix = 1000.0, 1_700_000_000.0
        limits = caps or {"a": (10**18, 10**9, 10), "b": (10**18, 10**9, 10)}
        payees = {"a": PAYEES[:2], "b": PAYEES[:1]}
        self.grants = {s: Grant(dict.fromkeys(payees[s], "p"), *limits[s]) for s in payees}
        self.session = Session(self.ledger)
        self.build()

    def build(self) -> None:
        """A new process: what ran in the loop of the old one never runs again."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, _context: None)
        self.store = SqliteStore(self.path, network_id=0)
        wallets, snapshot = [Wallet("hot", SOURCE, KEY)], self.store.load()
        self.mirror = Mirror(snapshot, wallets, self.policy, self.grants)
        silent: Any = Silent()
        self.planner = Planner(self.mirror, self.store, silent, lambda: self.clock)
        self.reconciler = Reconciler(self.mirror, self.store, self.planner, silent, lambda: self.clock)
        sign: Any = partial(self.ledger.sign, store_id=snapshot.store_id)
        self.executor = Executor(self.mirror, self.store, sign, new_channel_id, silent, reconciler=self.reconciler)
        self.endpoints = Endpoints(
            None,  # type: ignore[arg-type]
            self.urls,
            network_id=0,
            quorum=self.quorum,
            telemetry=silent,
            now=lambda: self.clock,
        )
        self.follower = Follower(self.endpoints, self.mirror, self.reconciler, self.executor, silent)
        self.desk = ClaimDesk(
            self.mirror,
            self.store,
            self.planner,
            Silent(),  # type: ignore[arg-type]
            signers={KEY: sign_claim},
            verify=verify,
            monotonic=lambda: self.clock,
            unix=lambda: self.unix,
            ids=IdRoom(
                self.store,
                self.max_ids,
                Seconds(86_400),
                monotonic=lambda: self.clock,
                servers=lambda: self.mirror.grants,
            ),
            sign_each=SIGNING,
        )

    def kill(self) -> None:
        """What a dead process leaves: the file, and no connection that holds it."""
        self.loop.close()
        self.store._db.close()

    def restart(self) -> None:
        self.kill()
        self.session = Session(self.ledger)
        self.build()
        self.connect()

    def connect(self) -> None:
        """First contact, or contact again: catch up and compare."""
        drive(self.follower._catch_up(self.session, self.ledger.header()))  # type: ignore[arg-type]
        self.executor.connected(self.session)  # type: ignore[arg-type]

    def work(self) -> None:
        """The executor does what it can now."""
        if self.session.lost:
            self.executor.connected(self.session)  # type: ignore[arg-type]
        self.loop.run_until_complete(self._work())

    async def _work(self) -> None:
        await self.executor.round(self.session)  # type: ignore[arg-type]
        await self.executor.courier.answered()

    def decide_all(self) -> None:
        """Decide everything that waits, in one turn of the loop."""
        while self.planner.decide_slice(backlog=True):
            pass

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds
        self.unix += seconds

    def tick(self, seconds: int = 4, *, take: bool = True) -> None:
        """A ledger closes and is processed; what it asks for is signed and handed in."""
        self.ledger.close(seconds, take=take)
        self.pass_time(seconds)
        self.see()

    def see(self) -> None:
        drive(self.follower._process(self.session, self.ledger.header()))  # type: ignore[arg-type]
        self.work()

    def ask(self, number: int | str, drops: int, *, server: str = "a", payee: Payee = PAYEES[0], **more: Any) -> Ask:
        held: Held | None = more.get("held")
        contents = more.get("contents", b"%16d" % drops)
        key = request_key(server, "claim", str(number))
        said = (more.get("user", ""), more.get("tier"), more.get("region"))
        return Ask(server, key, contents, payee, drops, more.get("not_after"), held, *said)

    def answer(self, *asks: Ask) -> list[Answer]:
        found = self.desk.answer(asks)
        self.work()
        return found

    def opened(self, *, drops: int = 5) -> str:
        """The id of a first channel, brought up through a refused request."""
        self.answer(self.ask("first", drops))
        for _ in range(3):
            self.tick()
        return self.ledger.created[0]

    def on_disk(self, query: str) -> list[tuple[Any, ...]]:
        """What another process would read in the file now."""
        with closing(read_whole(self.path)) as db:
            return db.execute(query).fetchall()
