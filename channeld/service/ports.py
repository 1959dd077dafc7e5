"""Every contact with the outside, as a Protocol: the table of contents of all IO.

Adapters need not import this: the fit is structural, and the type checker proves it where the app wires them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from channeld.core.budgets import Outlay
from channeld.core.channel import Channel
from channeld.core.freezes import Audit, Cause, Freeze
from channeld.core.intents import Intent, Number, Status, Transaction
from channeld.core.ledger import AccountState, History, LedgerHeader, NodeFacts, OpenFees, SubmitResult
from channeld.core.news import Event
from channeld.core.records import (
    Accepted,
    Announced,
    ChannelMark,
    ChannelRecord,
    Incoming,
    JournalEntry,
    LedgerUpdate,
    LiveTransaction,
    Remembered,
    Setback,
    Signed,
    StoreSnapshot,
    TakenIn,
)
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime
from channeld.core.witness import Identity, Witness

# --- the ledger ------------------------------------------------------------------------------------------------------


class NodeSession(Protocol):
    """One connection to one node. Every method raises `Unreachable` once it is gone and `LedgerError` for a refusal."""

    endpoint: str
    skipped: int
    """Messages that could not be understood, and were passed over."""

    @property
    def gone(self) -> bool:
        """Whether the connection is lost, for good; else a question that fails was left unanswered or refused."""

    async def facts(self) -> NodeFacts:
        """What the node says of itself."""

    async def follow(self) -> LedgerHeader:
        """Subscribe to validated ledgers; the one it stands at."""

    def ledgers(self) -> AsyncIterator[LedgerHeader]:
        """Validated ledgers as they close; indexes may skip or repeat. Ends by raising `Unreachable`."""

    async def history(self, account: Address, first: LedgerIndex, last: LedgerIndex) -> History:
        """All of an account's transactions in first..last, as far as the node has them: see `History`."""

    async def channels(self, account: Address, at: LedgerIndex) -> list[Channel]:
        """All channels whose source is `account`, as of ledger `at`."""

    async def incoming(self, account: Address, at: LedgerIndex) -> list[Channel]:
        """All channels whose destination is `account`, as of ledger `at`."""

    async def paid(self, channel_id: ChannelId, at: LedgerIndex) -> Address | None:
        """The account that a channel pays, as of ledger `at`; None if there is no such channel."""

    async def amendments(self) -> frozenset[str]:
        """Which of `core.ledger.AMENDMENTS` are in force."""

    async def account(self, account: Address, at: LedgerIndex) -> AccountState | None:
        """The account as of ledger `at`; None if there is none."""

    async def tickets(self, account: Address, at: LedgerIndex) -> list[int]:
        """Numbers of all tickets that the account holds, as of ledger `at`, whoever made them."""

    async def open_fees(self) -> OpenFees:
        """What the node asks for a transaction now."""

    async def submit(self, blob: str) -> SubmitResult:
        """Hand in a signed transaction. `Unreachable` means unknown, not refused."""


class Node(Protocol):
    """Where sessions come from."""

    def session(self, endpoint: str) -> AbstractAsyncContextManager[NodeSession]:
        """Connect to an endpoint; raises `Unreachable` if that fails."""


class TransactionSigner(Protocol):
    """Signs transactions for our wallets."""

    def __call__(
        self, wallet: str, transaction: Transaction, number: Number, fee: Drops, last_ledger: LedgerIndex
    ) -> Signed:
        """Build and sign; raises `BadValue` where it cannot be encoded."""


ClaimSigner = Callable[[bytes], bytes]
"""Signs the 44 bytes of a claim with one key: 64 bytes, or DER. Always the same for the same bytes."""

ToSign = tuple[ClaimSigner, bytes]
"""A claim to be signed: who signs, and what."""

# --- the store -------------------------------------------------------------------------------------------------------


class Store(Protocol):
    """The one writer. Every method is one transaction, durable when it returns, and raises `StoreError`.

    Methods are synchronous on purpose: between reading, deciding and writing nothing else can happen.
    """

    def load(self) -> StoreSnapshot: ...

    def remembered(self, keys: Sequence[bytes]) -> dict[bytes, Remembered]:
        """Which of these requests were accepted before."""

    @property
    def ids(self) -> int:
        """How many requests are remembered, claims taken in included."""

    @property
    def ids_since(self) -> int | None:
        """When the oldest of them was accepted (Unix seconds); None if there is none."""

    def ids_of(self, server: str) -> int:
        """How many of them a content server has; what was forgotten in the last hour may count still."""

    def channel(self, row: int) -> ChannelRecord | None:
        """A channel by its number, gone or not."""

    def knows(self, tx_hash: str) -> bool:
        """Whether a transaction was signed here, whatever became of it."""

    def gone(self, channel_id: ChannelId, *, incoming: bool = False) -> bool:
        """Whether a ledger deleted this channel, of ours or one that pays us, however long ago."""

    def outlays(self, after: RippleTime) -> Sequence[Outlay]:
        """What transactions of ours took in ledgers that closed after a moment, the oldest first."""

    def opening(self, channel_id: ChannelId) -> JournalEntry | None:
        """The intent that was to open this channel, whatever became of it; None if there was none."""

    def opens(self, payee: Payee, after: RippleTime) -> int:
        """How many channels were opened for a payee after a moment, those that are gone included."""

    def accept(
        self,
        now: int,
        requests: Accepted,
        marks: Sequence[ChannelMark],
        spent: Sequence[tuple[str, int, int]],
    ) -> None:
        """Remember requests, with the amounts they debit.

        `now` is in Unix seconds; `spent` adds (server or other subject, hour, drops).
        """

    def take_as_signed(self, marks: Sequence[ChannelMark], audits: Sequence[Audit]) -> None:
        """Raise what is known to be signed on channels that were adopted or retired, and keep who proved it."""

    def journal(
        self,
        intents: Sequence[Intent],
        decided_at: LedgerIndex,
        told: Sequence[tuple[str, Event]] = (),
        announced: Sequence[Announced] = (),
        now: RippleTime = ...,
    ) -> list[JournalEntry]:
        """Write intents down, how far closes with notice have come, and what content servers are to be told with them.
        `now` is the close time that they were decided at: what a cooldown counts from.

        One that closes a channel stops issuing on it in the same transaction.
        """

    def signed(self, transactions: Sequence[LiveTransaction]) -> None:
        """Keep signed transactions before they are first submitted; their intents, if any, become SIGNED."""

    def set_intent(self, number: int, status: Status, note: str, setback: Setback | None = None) -> None:
        """Move an intent that has no live transaction, and remember the setback that its subject suffered."""

    def apply(self, update: LedgerUpdate) -> None:
        """Apply a processed span of ledgers. New channels get their row set."""

    def forget(self, before: int, limit: int) -> int:
        """Drop up to `limit` remembered requests older than `before` (Unix seconds); how many went."""


class TruthStore(Protocol):
    """The same store, where it keeps what it knows about itself. Every method is one transaction, as above."""

    def identity(self) -> Identity:
        """Which store this is, how new, and where it was last used."""

    def raise_version(self, at_least: int = 0, home: str | None = None) -> Identity:
        """Raise the data version by one, and above `at_least`; it is used at `home` from now on."""

    def freeze(self, freeze: Freeze) -> None:
        """Keep a freeze; the first of a cause stands."""

    def freezes(self) -> list[Freeze]:
        """All that were not lifted."""

    def audit(self, audit: Audit) -> None:
        """Keep who did what, and why."""

    def thaw(self, scope: str, cause: Cause, audit: Audit) -> None:
        """Lift a freeze, and retire all channels where the cause asks for that. Raises `Refused` if there is none."""

    def retired(self) -> int:
        """The number of the last intent that was retired, with all before it; 0: none was."""

    def adopt(self, channels: Iterable[tuple[ChannelId, int]], pool: str, audit: Audit) -> None:
        """Take over quarantined channels with the amounts proven to be signed. Raises `Refused`; all or none."""


class ClaimStore(Protocol):
    """The same store, where it keeps claims that payers signed for us. Every method is one transaction, as above."""

    def remembered(self, keys: Sequence[bytes]) -> dict[bytes, TakenIn]:
        """Which of these claims were taken in before."""

    def channel(self, channel_id: ChannelId) -> Incoming | None:
        """A channel that paid us, gone or not, as long as an id of a claim on it is remembered."""

    def take_in(self, now: int, taken: Sequence[TakenIn], best: Sequence[Incoming]) -> None:
        """Remember claims, and the best one of every channel they are on. `now` is in Unix seconds."""

    def forget(self, before: int, limit: int) -> int:
        """Drop up to `limit` remembered ids older than `before` (Unix seconds), never a claim; how many went."""


class Slice(Protocol):
    """A slice of tombstones: how many were looked at, the number of the last, and which of them were archived."""

    @property
    def looked_at(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def archived(self) -> Sequence[ChannelId]: ...


class ArchiveStore(Protocol):
    """The same store, where it keeps channels that are gone. Every method is one transaction, as above."""

    def move(self, before: RippleTime, after: int, limit: int) -> Slice:
        """Look at up to `limit` tombstones numbered above `after` of channels that went before a moment, and archive
        those to which nothing refers any more.
        """


class Waiting(Protocol):
    """An event that a content server is still to be told. `number` orders those of all servers, `seq` its server's."""

    @property
    def number(self) -> int: ...
    @property
    def server(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def event(self) -> Event: ...


class EventStore(Protocol):
    """The same store, where it keeps what content servers are still to be told. Every method is one transaction."""

    def waiting(self, after: int, limit: int) -> Sequence[Waiting]:
        """Up to `limit` events above number `after`, in order."""

    def done(self, numbers: Sequence[int]) -> None:
        """The broker has these."""

    def only(self, servers: Collection[str]) -> None:
        """Drop what waits for any other server."""


class NoticeBoard(Protocol):
    """What content servers can read without asking. `told` is called once: whether the broker has it."""

    @property
    def connected(self) -> bool: ...

    def render(self, record: ChannelRecord) -> bytes:
        """What is retained of a channel."""

    def source(self, payload: bytes) -> tuple[Address, LedgerIndex] | None:
        """Whose channel a retained message shows, and as of which ledger; None: it is none that we could have made."""

    def show(self, server: str, channel_id: ChannelId, payload: bytes, told: Callable[[bool], None]) -> bool:
        """Retain a channel for a server, or nothing if `payload` is empty. False: there is no room, come again."""

    def tell(self, waiting: Waiting, told: Callable[[bool], None]) -> bool:
        """Tell a server an event. False: there is no room, come again."""


class WitnessFile(Protocol):
    """The file beside the store that bears witness to its data version."""

    def read(self) -> Witness | None:
        """What it says; None if there is none or it cannot be read."""

    def write(self, witness: Witness) -> None:
        """On disk when it returns. Raises `Unreachable`."""


class WitnessTopic(Protocol):
    """The retained message on the broker that bears witness, and the requests that wait for it."""

    name: str

    @property
    def connected(self) -> bool: ...

    def mark(self, marker: str) -> None:
        """Publish a marker, not retained, to the topic: it comes back behind what the broker holds there."""

    def publish(self, witness: Witness) -> None:
        """Publish a witness, retained: it comes back to us once the broker has it."""

    def hold(self) -> None:
        """Decide no request until `release`."""

    def release(self) -> None:
        """Decide requests again, those that waited first."""


# --- telling people --------------------------------------------------------------------------------------------------


class Telemetry(Protocol):
    """What is counted. Every label comes from a small closed set."""

    def planned(self, kind: str, path: Sequence[str] = ()) -> None:
        """An intent was journaled; these rules had a part in it."""

    def held(self, reason: str, path: Sequence[str] = ()) -> None:
        """Something was left alone; these rules had a part in it."""

    def transaction(self, kind: str, result: str) -> None:
        """A transaction of ours ended: a ledger result code, or `dead`."""

    def validated(self, kind: str, fee: int, ledgers: int) -> None:
        """It is in a validated ledger, the n-th that could take it, and cost this."""

    def submitted(self, code: str) -> None:
        """A node gave a provisional answer."""

    def paid(self, drops: int) -> None:
        """Money reached a payee."""

    def forgone(self, drops: int) -> None:
        """A channel closed with something signed and not paid."""

    def lost(self, kind: str, drops: int) -> None:
        """A payout did not happen and cannot happen any more; `kind` is that of `core.conservation`."""

    def refused(self, kind: str) -> None:
        """A payee's account does not take a channel or a payout."""

    def foreign(self) -> None:
        """A transaction of our wallet that is not in our journal."""

    def altered(self) -> None:
        """A transaction of ours was validated with another claim's signature in it than we had put there, or none."""

    def admitted(self, rule: str, action: str, mode: str) -> None:
        """A rule of `admit` acted on a request, or in this mode would have."""

    def answered(self, code: str, count: int) -> None:
        """Claim requests were answered: `accepted`, `replayed` or a refusal's code."""

    def forecast(self, pool: str, off: float) -> None:
        """A forecast for a payee was compared with what came: how far off it was, against the larger of the two."""

    def issued(self, drops: int, signatures: int) -> None:
        """A group of requests was accepted for so many drops, with so many signatures."""

    def received(self, code: str) -> None:
        """A claim that a payer signed was handed in: `accepted`, `replayed` or a refusal's code."""

    def took_in(self, drops: int) -> None:
        """A claim was taken in that added so many drops to what is held."""

    def redeemed(self, drops: int) -> None:
        """A channel paid us, by validated metadata."""

    def processed(self, ledgers: int, seconds: float) -> None:
        """A span of ledgers was applied, in so many seconds."""

    def failover(self) -> None:
        """Another node is followed than before."""

    def disagreed(self) -> None:
        """Nodes contradicted each other about a validated ledger or what is in it."""
