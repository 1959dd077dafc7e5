"""The whole engine against the sandbox's ledger in one process, ledgers closed by hand, dying where a test says.

Nothing is faked between journal and ledger: real keys, real blobs, the node's own answers to the daemon's own requests,
only without a socket. A death is an exception that no code between here and the step handles; whatever the process held
is dropped, and a new one is built from the store's file.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from engine import SIGNING, Killed, Silent
from sandbox.rig import Rig, address, key

from channeld.adapters.signer import verify
from channeld.adapters.sqlite import SqliteStore
from channeld.adapters.sqlite.reader import read_whole
from channeld.adapters.xrpl_node import NodeSession, _result
from channeld.app.keyring import Keyring, new_channel_id
from channeld.core.claim import claim_message
from channeld.core.errors import LedgerError, Unreachable
from channeld.core.ledger import Fees, LedgerHeader
from channeld.core.policy import ChannelShape, CloseTerms, FundTerms, Guards, Policy, Pool, ReceiveTerms, SettleTerms
from channeld.core.requests import Answer, Ask, Granted, HandIn, Refusal, Taken
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds
from channeld.sandbox.ledger.api import envelope
from channeld.sandbox.ledger.api.call import Call
from channeld.sandbox.ledger.history import Record
from channeld.service.archivist import Archivist
from channeld.service.claim_desk import ClaimDesk
from channeld.service.collector import Collector
from channeld.service.endpoints import Endpoints
from channeld.service.executor import Executor
from channeld.service.follower import Follower
from channeld.service.holdings import Grant, Wallet
from channeld.service.id_room import IdRoom
from channeld.service.mirror import Mirror
from channeld.service.planner import Planner
from channeld.service.reconciler import Reconciler
from channeld.service.steps import Step, Steps
from channeld.service.strongbox import Strongbox
from channeld.wire.requests import request_key

T = TypeVar("T")
Where = tuple[str, str, bool]
"""A step, the kind of intent, and whether it is over."""
LEDGER_S = 10
"""Seconds between two closes: the resolution of close times on this ledger."""
WALLETS = {"hot": "p", "cold": "q"}
PAYEES = {"bob": "p", "carol": "p", "dave": "q"}
WEALTH = 1000 * 10**6
TILL = "till"
"""An account of ours that only receives, where a lab has one."""


def terms(*, stock: int = 0, opens: int = 100, max_per_payee: int = 1) -> Policy:
    """Terms under which a channel is opened, funded, settled and closed within some forty ledgers."""

    def pool(name: str, wallet: str) -> Pool:
        return Pool(
            name,
            wallet,
            Seconds(40),
            None,
            Seconds(5),
            ChannelShape(Drops(20), Drops(60), max_per_payee),
            FundTerms(Drops(5), Drops(15), Seconds(4), Seconds(8)),
            SettleTerms(Drops(25), Seconds(120)),
            CloseTerms(Seconds(160), Seconds(20)),
        )

    guards = Guards(Drops(0), opens, Seconds(3600), Drops(100), Seconds(60), Drops(1000), stock)
    receive = ReceiveTerms(Drops(10), Seconds(40), Seconds(100), Drops(25), Seconds(120), Seconds(60), False)
    return Policy(1, {p: pool(p, w) for w, p in WALLETS.items()}, guards, "F" * 64, receive=receive)


class NearSession(NodeSession):
    """A node's session without a socket: requests are answered by the node at once, with the faults in force."""

    def __init__(self, rig: Rig) -> None:
        super().__init__("lab", None)  # type: ignore[arg-type]
        self.rig = rig
        self.feeless = False
        self.stub: Any = SimpleNamespace(faults=rig.node.faults, streams=None, node=rig.node)

    @property
    def gone(self) -> bool:
        return self.feeless or super().gone

    async def request(self, command: str, **parameters: Any) -> Mapping[str, Any]:
        body = {"id": 1, "command": command, "api_version": 2, **parameters}
        nobody: Any = None
        node = self.rig.node
        answer = envelope.answer(body, lambda version: Call(node, self.stub, nobody, body, version, True))
        if command == "fee" and self.feeless:
            raise Unreachable("lost at the question for its fee")
        if command == "submit" and node.faults.take("submit_answer") is not None:
            raise Unreachable("the answer is lost")
        return _result(answer)

    def header(self) -> LedgerHeader:
        """The validated ledger it shows."""
        node = self.rig.node
        header = node.headers[max(node.state.newest - node.faults.lag, node.first_index)]
        fees = node.settings.fees
        prices = Fees(Drops(fees.base), Drops(fees.reserve), Drops(fees.increment))
        return LedgerHeader(LedgerIndex(header.index), header.hash, RippleTime(header.close_time), prices)


class Lab:
    """Two paying wallets and three payees. `deadly` says whether a step, reached so often, is the end."""

    max_ids = 1_000_000

    def __init__(
        self,
        path: Path,
        policy: Policy | None = None,
        *,
        deadly: Callable[[Where, int], bool] = lambda _where, _count: False,
        capacity: int = 1000,
        network_id: int = 0,
        receives: bool = False,
        wealth: int = WEALTH,
    ) -> None:
        self.receivers, self.follows = (TILL,) if receives else (), receives
        self.path, self.policy = path, policy or terms()
        self.rig = Rig(capacity, network_id)
        self.rig.fund(*PAYEES, drops=WEALTH)
        self.rig.fund(*WALLETS, *self.receivers, drops=wealth)
        self.contacts: Counter[Where] = Counter()
        self.deadly = deadly
        self.died: list[Where] = []
        self.dead = False
        self.accepted: dict[str, Granted] = {}
        self.clock = 1000.0
        self.network_id = network_id
        self.lost_ledgers = False
        self.feeless = False
        self.build()
        self.alive(self.connect)

    # --- the process -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """A new process, from the file alone."""
        self.dead = False
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, _context: None)
        self.store = SqliteStore(self.path, network_id=self.network_id)
        keys = {w: key(w) for w in (*WALLETS, *self.receivers)}
        signers = {keys[w].public_key: keys[w].signer() for w in WALLETS}
        addresses = {w: Address(address(w)) for w in keys}
        self.keys = Keyring(self.network_id, keys, keys, signers, addresses)
        wallets = [Wallet(w, addresses[w], keys[w].public_key) for w in WALLETS]
        wallets += [Wallet(w, addresses[w], "", pays=False, receives=self.follows) for w in self.receivers]
        payees, tills = (
            {self.payee(p): pool for p, pool in PAYEES.items()},
            frozenset(addresses[w] for w in self.receivers if self.follows),
        )
        grant = Grant(payees, 10**15, 10**15, 10**6, tills)
        snapshot = self.store.load()
        self.mirror = Mirror(snapshot, wallets, self.policy, {"a": grant})
        silent: Any = Silent()
        steps = Steps(self._reached)
        self.planner = Planner(self.mirror, self.store, silent, lambda: self.clock, steps=steps)
        self.reconciler = Reconciler(self.mirror, self.store, self.planner, silent, lambda: self.clock, steps=steps)
        self.executor = Executor(
            self.mirror,
            self.store,
            partial(self.keys.sign, store_id=snapshot.store_id),
            new_channel_id,
            silent,
            reconciler=self.reconciler,
            steps=steps,
        )
        nodes: Any = None
        self.endpoints = Endpoints(
            nodes, ["ws://lab:1"], network_id=0, quorum=1, telemetry=silent, now=lambda: self.clock
        )
        self.follower = Follower(self.endpoints, self.mirror, self.reconciler, self.executor, silent)
        self.desk = ClaimDesk(
            self.mirror,
            self.store,
            self.planner,
            silent,
            signers=signers,
            verify=verify,
            monotonic=lambda: self.clock,
            unix=lambda: 1_700_000_000 + self.clock,
            ids=IdRoom(self.store, self.max_ids, Seconds(86_400), monotonic=lambda: self.clock),
            sign_each=SIGNING,
        )
        self._build_strongbox(silent, steps)
        self.archivist = Archivist(self.mirror, self.store.archive, Seconds(LEDGER_S), steps=steps)
        self.session = NearSession(self.rig)
        self.session.feeless = self.feeless

    def _build_strongbox(self, silent: Any, steps: Steps) -> None:
        spending, purse = self.planner.spending, self.planner.purse
        self.collector = Collector(
            self.mirror, self.store, silent, spending=spending, purse=purse, monotonic=lambda: self.clock, steps=steps
        )
        self.strongbox = Strongbox(
            self.mirror,
            self.store.claims,
            silent,
            self.collector,
            verify=verify,
            stopped=self.desk.stopped,
            unix=lambda: 1_700_000_000 + self.clock,
            ids=IdRoom(self.store, self.max_ids, Seconds(86_400), monotonic=lambda: self.clock),
        )
        self.reconciler.on_redeemed = self.collector.redeemed
        self.follower.on_ledger = self.collector.decide

    def _reached(self, step: Step, kind: str, after: bool) -> None:
        """The hook of every step: count it, and die if this is the place. The dead reach nothing more."""
        where = (step.value, kind, after)
        if self.dead:
            raise Killed(where)
        self.contacts[where] += 1
        if self.deadly(where, self.contacts[where]):
            self.dead = True
            self.died.append(where)
            raise Killed(where)

    def restart(self) -> None:
        """SIGKILL and a new process: what ran in the old loop never runs again."""
        self.loop.close()
        self.store._db.close()
        self.build()
        self.connect()

    def alive(self, work: Callable[[], None]) -> bool:
        """Do something; if the process dies of it, start a new one, as often as it takes. Whether it lived."""
        try:
            work()
        except Killed:
            while self.dead:
                with suppress(Killed):
                    self.restart()
            return False
        return True

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def connect(self) -> None:
        """Catch up with the node, as after every connect; a node that is behind is left alone."""
        with suppress(Unreachable, LedgerError):
            self._run(self.follower._catch_up(self.session, self.session.header()))
            self.executor.connected(self.session)
            self.work()

    def work(self) -> None:
        """Let the executor do what it can."""
        if self.mirror.header is not None:
            self._run(self._work())

    async def _work(self) -> None:
        with suppress(Unreachable, LedgerError):
            await self.executor.round(self.session)
        await self.executor.courier.answered()

    def see(self) -> None:
        """Process the ledgers that the node shows and that are new."""
        with suppress(Unreachable, LedgerError):
            self._run(self.follower._process(self.session, self.session.header()))
        self.work()

    # --- the world ---------------------------------------------------------------------------------------------------

    def close(self, seconds: int = LEDGER_S) -> list[Record]:
        """The next ledger closes."""
        clock = self.rig.node.clock
        clock.frozen_at = max(clock.frozen_at or 0, self.rig.pct) + seconds
        self.clock += seconds
        return self.rig.close()

    def signs(self, able: bool) -> None:
        """Whether anything can be signed: a node that is lost when it is asked for its fee leaves all of it planned."""
        self.feeless = self.session.feeless = not able

    def tick(self, count: int = 1) -> None:
        """Ledgers close and are seen."""
        for _ in range(count):
            self.close()
            self.alive(self.see)

    def tidy(self) -> None:
        """All ids are forgotten and what is long gone is archived, whoever dies of it."""

        def work() -> None:
            while self.store.backlog:
                self.store.fold(1000)
            while self.store.forget(2**40, 1000):
                pass
            while self.archivist.step():
                pass

        while not self.alive(work):
            pass

    @staticmethod
    def payee(name: str) -> Payee:
        return Payee(Address(address(name)), None)

    def ask(self, number: str, drops: int, payee: str = "bob") -> Answer | None:
        """A content server asks, once; None if the process died of it."""
        asked = Ask("a", request_key("a", "claim", number), b"%16d" % drops, self.payee(payee), drops, None, None)
        answers: list[Answer] = []

        def work() -> None:
            answers.extend(self.desk.answer([asked]))
            self.work()

        self.alive(work)
        if answers and isinstance(answers[0], Granted):
            self.accepted[number] = answers[0]
        return answers[0] if answers else None

    def hand_in(self, number: str, channel_id: str, drops: int, payer: str, **other: Any) -> Taken | Refusal | None:
        """A content server hands in a claim that a payer signed, once; None if the process died of it."""
        signature = key(payer).signer()(claim_message(bytes.fromhex(channel_id), drops))
        contents = f"{channel_id} {drops} {payer}".encode()
        said = (ChannelId(channel_id), drops, signature, key(payer).public_key)
        claim = HandIn("a", request_key("a", "receive", number), contents, *said)._replace(**other)
        answers: list[Taken | Refusal] = []

        def work() -> None:
            answers.extend(self.strongbox.answer([claim]))
            self.work()

        self.alive(work)
        return answers[0] if answers else None

    # --- what became of it -------------------------------------------------------------------------------------------

    def on_disk(self, query: str) -> list[tuple[Any, ...]]:
        with closing(read_whole(self.path)) as db:
            return db.execute(query).fetchall()

    def history(self) -> list[Record]:
        """Every validated transaction of our wallets, in order."""
        ours = {address(w) for w in WALLETS}
        return sorted((r for r in self.rig.node.history.all() if r.tx.account in ours), key=lambda r: r.at)

    def channels(self) -> dict[str, dict[str, Any]]:
        """Every channel of our wallets on the ledger, by id."""
        found: dict[str, dict[str, Any]] = {}
        for wallet in WALLETS:
            listed = self._ask("account_channels", account=address(wallet), limit=400)
            found |= {c["channel_id"]: c for c in listed["channels"]}
        return found

    def settled_balance(self, wallet: str) -> int:
        """Drops of a wallet in the last validated ledger."""
        return int(self._ask("account_info", account=address(wallet))["account_data"]["Balance"])

    def _ask(self, command: str, **parameters: Any) -> Mapping[str, Any]:
        """What the last validated ledger says, however far the node pretends to lag."""
        faults = self.rig.node.faults
        lag, faults.lag = faults.lag, 0
        try:
            return self._run(self.session.request(command, ledger_index="validated", **parameters))
        finally:
            faults.lag = lag
