"""The daemon, wired together: which part tells which other, and how other files are taken over.

This is the only room that knows every adapter. What runs in it, and how it ends, is in `app.life`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from channeld import __version__
from channeld.adapters import signer
from channeld.adapters.broker import TAKEN_OVER, Exchange, Will
from channeld.adapters.gateway import Gateway, Waiting
from channeld.adapters.signer import MultiBufferSigning, PairedSigning, Unusable, multi_buffer
from channeld.adapters.sqlite import SqliteStore
from channeld.adapters.telemetry import Telemetry
from channeld.adapters.witness_file import WitnessFile, path_beside
from channeld.adapters.xrpl_node import XrplNode
from channeld.app import keyring
from channeld.app.annals import Annals
from channeld.app.board import BrokerBoard
from channeld.app.broker_settings import SEND_LIMIT, broker_settings
from channeld.app.gauges import gauges
from channeld.app.granted import Grants, grants, limits
from channeld.app.housekeeping import Housekeeping
from channeld.app.inquiry import Inquiry
from channeld.app.listener import pages
from channeld.app.objections import homeless, objections
from channeld.app.presence import presences
from channeld.app.queries import Queries
from channeld.app.reload import Files
from channeld.app.witness_topic import BrokerWitness
from channeld.core.admission import Admission
from channeld.core.errors import ConfigError, StoreError
from channeld.core.freezes import Audit, Cause
from channeld.core.policy import Policy
from channeld.core.requests import Answer, Ask, Refusal
from channeld.core.units import Address
from channeld.service.archivist import Archivist
from channeld.service.claim_desk import ClaimDesk
from channeld.service.clock import Clock
from channeld.service.collector import Collector
from channeld.service.endpoints import Endpoints
from channeld.service.executor import Executor
from channeld.service.follower import Follower
from channeld.service.frozen import STORE
from channeld.service.guard import Guard
from channeld.service.herald import Herald
from channeld.service.id_room import IdRoom
from channeld.service.mirror import Mirror
from channeld.service.neighbours import Neighbours
from channeld.service.planner import Planner
from channeld.service.ports import ToSign
from channeld.service.reconciler import Reconciler
from channeld.service.strangers import Strangers
from channeld.service.strongbox import Strongbox
from channeld.service.tallies import Tallies
from channeld.service.witness_watch import WitnessWatch
from channeld.settings import Settings
from channeld.wire.claims import ClaimReader
from channeld.wire.daemons import status_payload
from channeld.wire.topics import Topics

log = structlog.get_logger()

_FILES = "(the files)"
"""Who is named in the audit where files were taken over, whoever wrote them."""
_START = "(the start)"
"""And where it was a start that brought them into force."""


def elapsed() -> float:
    """Seconds that have passed since some moment, those included in which the machine slept where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Daemon:
    """Wired and ready to `live`.

    Raises `ConfigError` for keys that do not fit, and for a policy without what live channels stand on; `StoreError`
    for the store.
    """

    def __init__(self, files: Files, keys: keyring.Keyring) -> None:
        settings, policy = files.settings, files.policy
        self.files, self.settings, self.keys, self.version = files, settings, keys, __version__
        self.monotonic = elapsed
        self.instance = secrets.token_hex(8)
        self.store = SqliteStore(settings.store.path, network_id=settings.ledger.network_id)
        snapshot = self.store.load()
        self.store_id = snapshot.store_id
        self.telemetry = Telemetry(version=__version__, policy_hash=policy.hash)
        self.telemetry.pools(policy.pools)
        granted = grants(settings).by_server
        self.mirror = Mirror(snapshot, keyring.mirror_wallets(settings, keys), policy, granted)
        if problems := homeless(self.mirror, settings.policy_path, policy):
            self.store.close()
            raise ConfigError(problems)
        self.clock = Clock(self.mirror, time.time, self.monotonic)
        self.mirror.claim_keys = frozenset(keys.claim_signers)
        self.planner = Planner(self.mirror, self.store, self.telemetry, self.monotonic)
        self.reconciler = Reconciler(self.mirror, self.store, self.planner, self.telemetry, self.monotonic)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with `StoreError` once the store failed, and with it this life."""
        self.ledger_seen = asyncio.Event()
        """Set with the first ledger of this life that was processed and decided on."""
        self._wire_engine(settings)
        self._wire_desk()
        self._wire_broker(settings)
        self._wire_truth(settings)
        self._wire_herald()
        self._wire_annals(settings)
        self.inquiry = Inquiry(self)
        self.pages = pages(self)
        self.telemetry.gauges(lambda: gauges(self))
        self.telemetry.started(time.time())

    def _wire_engine(self, settings: Settings) -> None:
        sign = partial(self.keys.sign, store_id=self.store_id)
        self.executor = Executor(
            self.mirror, self.store, sign, keyring.new_channel_id, self.telemetry, reconciler=self.reconciler
        )
        self.planner.on_planned = self.executor.wake
        endpoints = Endpoints(
            XrplNode(),
            settings.ledger.endpoints,
            network_id=settings.ledger.network_id,
            quorum=settings.ledger.quorum,
            telemetry=self.telemetry,
            now=self.monotonic,
        )
        self.follower = Follower(
            endpoints,
            self.mirror,
            self.reconciler,
            self.executor,
            self.telemetry,
            check_account=self._check_account,
        )

    def _check_account(self, address: Address) -> None:
        account = self.mirror.by_address[address].account
        assert account is not None
        self.keys.check(account)

    def _wire_desk(self) -> None:
        of = self.settings.daemon
        self.ids = IdRoom(
            self.store,
            of.max_ids,
            of.remember_ids_s,
            monotonic=self.monotonic,
            servers=lambda: self.mirror.grants,
        )
        self.housekeeping = Housekeeping(
            self.store,
            self.clock,
            of.remember_ids_s,
            self.monotonic,
            archivist=Archivist(self.mirror, self.store.archive, self.settings.store.keep_closed_s),
            spending=self.planner.spending,
        )
        self.signing = PairedSigning()
        self.desk = ClaimDesk(
            self.mirror,
            self.store,
            self.planner,
            self.telemetry,
            signers=self.keys.claim_signers,
            verify=signer.verify,
            monotonic=self.monotonic,
            unix=self.clock,
            ids=self.ids,
            sign_each=_signing_of_groups(self.signing),
        )
        self.desk.on_store_failed = self._store_failed
        self.housekeeping.also(self.desk.gate.facts.forget)
        self.mirror.attendance.serving = lambda: self.desk.stopped() is None and self.broker.connected
        self._wire_strongbox()

    def _wire_strongbox(self) -> None:
        spending, purse = self.planner.spending, self.planner.purse
        self.collector = Collector(
            self.mirror, self.store, self.telemetry, spending=spending, purse=purse, monotonic=self.monotonic
        )
        self.strongbox = Strongbox(
            self.mirror,
            self.store.claims,
            self.telemetry,
            self.collector,
            verify=signer.verify,
            stopped=self.desk.stopped,
            unix=self.clock,
            ids=self.ids,
        )
        self.collector.on_planned = self.executor.wake
        self.strongbox.on_store_failed = self.desk.store_failed
        self.strangers = Strangers(self.mirror, lambda: self.follower.session)
        self.strongbox.paid = self.strangers.paid
        self.reconciler.on_redeemed = self.collector.redeemed

    def _store_failed(self) -> None:
        """Nothing more is issued in this life, and it ends."""
        why = self.mirror.frozen.setdefault(STORE, "the store failed")
        if not self.failed.done():
            self.failed.set_exception(StoreError(why))

    def _wire_broker(self, settings: Settings) -> None:
        self.topics = topics = Topics(settings.mqtt.topic_prefix, settings.daemon.name)
        wallets = [wallet.address for wallet in settings.wallets.values()]
        self.neighbours = Neighbours(wallets)

        def status(online: bool) -> bytes:
            return status_payload(self.instance, __version__, wallets, online=online)

        self.admission: Admission[Waiting] = Admission(*limits(settings))
        self.gateway = Gateway(
            topics,
            ClaimReader(settings.ledger.network_id),
            self._answer,
            self.strongbox.answer,
            most_queued=SEND_LIMIT // 2,
            status=status,
            dropped=self.telemetry.dropped,
            loop_time=asyncio.get_running_loop().time,
            admission=self.admission,
            refused=self.telemetry.answered,
            nanoseconds=time.monotonic_ns,
            later=asyncio.get_running_loop().call_soon,
        )
        self.broker = Exchange(
            broker_settings(settings),
            subscriptions=(topics.every_status, topics.witness, topics.channels),
            everybody=topics.requests,
            retained=(topics.witness, topics.every_status),
            retained_once=(topics.channels,),
            will=Will(topics.status, status(False)),
            on_messages=self.gateway.on_messages,
            on_connected=self._connected,
            on_lost=self._lost,
        )
        self._hear(settings)
        self.gateway.outbox, self.broker.on_room = self.broker, self.gateway.go_on
        self.gateway.commit_ns = lambda: self.desk.commit_ns

    def _hear(self, settings: Settings) -> None:
        """Take what the servers of the files ask."""
        self.broker.hear({server: self.topics.asked(server) for server in settings.servers})

    def _wire_truth(self, settings: Settings) -> None:
        """Freezes, and the witnesses of the store: nothing is issued before the broker has shown what it holds."""
        self.guard = Guard(self.mirror, self.store.books, time.time)
        mqtt = settings.mqtt
        topic = BrokerWitness(self.gateway, self.broker, self.topics.witness)
        self.watch = WitnessWatch(
            self.mirror,
            self.store.books,
            self.guard,
            topic,
            WitnessFile(path_beside(settings.store.path)),
            home=f"{settings.daemon.name} on {mqtt.host}:{mqtt.port} {mqtt.topic_prefix}",
            monotonic=self.monotonic,
        )
        self.watch.on_cleared, self.watch.failed = self.go_on, self._store_failed
        topic.attach(self.watch)
        self.guard.objects, self.guard.on_thawed = self.watch.objects, self._thawed
        self.desk.gate.on_hold = self.guard.hold
        self.desk.on_old_store = lambda found: self.guard.doubt(Cause.OLD_STORE, found)

    def _wire_herald(self) -> None:
        """Content servers are told of their channels, with ledgers and never with claims."""
        board = BrokerBoard(self.broker, self.topics)
        self.herald = Herald(self.mirror, self.store.events, board, asyncio.get_running_loop().call_soon)
        reads, heard = board.reads(self.herald), presences(self.topics, self.neighbours)
        self.gateway.on_retained = lambda topic, payload: reads(topic, payload) or heard(topic, payload)
        self.watch.on_marked, self.broker.on_whole = self.herald.marked, self.herald.whole
        self.herald.doubted = self.watch.doubted
        self.follower.on_ledger = self._decided
        self.queries, self.tallies = Queries(self), Tallies(self.mirror, time.time)
        self.gateway.on_query, self.gateway.on_rejected = self.queries.answer, self.tallies.unread

    def _wire_annals(self, settings: Settings) -> None:
        """What is decided and refused goes into the history."""
        self.annals = Annals(settings.store, settings.ledger.network_id, self.mirror, self.clock)
        self.planner.on_decided, self.collector.on_decided = self.annals.decided, self.annals.collected
        self.reconciler.on_gone = self.collector.on_gone = self.annals.gone
        self.desk.on_rejected = self._refused

    def _refused(self, ask: Ask, refusal: Refusal) -> None:
        self.tallies.rejected(ask, refusal.code)
        self.annals.refused(ask, refusal)

    def _decided(self) -> None:
        """A ledger was processed and decided on: now what pays us, and then the news of all of it."""
        self.ledger_seen.set()
        self.collector.decide()
        self.herald.ledger()

    def _connected(self, session_present: bool) -> None:
        self.gateway.presence.connected()
        self.herald.connected(session_present=session_present)
        self.watch.connected()

    def _lost(self, reason: str) -> None:
        if reason == TAKEN_OVER:
            self.gateway.presence.taken_over()

    def _thawed(self, cause: Cause) -> None:
        if self.watch.thawed(cause):
            self.herald.look_again()
        self.go_on()

    def go_on(self) -> None:
        """Something that held issuing back is over: decide everything again."""
        self.planner.touch_all()
        self.collector.touch_all()
        try:
            self.collector.decide()
        except StoreError:
            self._store_failed()
        self.executor.wake()

    def _answer(self, asks: Sequence[Ask]) -> list[Answer]:
        started = self.monotonic()
        answers = self.desk.answer(asks)
        self.telemetry.group(len(asks), self.monotonic() - started)
        return answers

    def begun(self) -> None:
        """This life has begun: its policy is in force, which the audit says unless it said so last."""
        audit = self._in_force(_START)
        try:
            self.gateway.presence.lives = self.store.starts.begun(self.instance)
            if self.store.books.last_policy() != audit.what:
                self.store.books.audit(audit)
        except StoreError:
            self._store_failed()

    def _in_force(self, who: str) -> Audit:
        """The entry of the policy and the servers that are in force from now on."""
        said = f"{self.settings.policy_path}, {len(self.settings.servers)} servers"
        return Audit(self.guard.now(), who, f"policy {self.mirror.policy.hash[:12]} in force", said)

    # --- other files -------------------------------------------------------------------------------------------------

    def objections(self, settings: Settings, policy: Policy) -> list[str]:
        """Why files that are sound by themselves cannot be taken over now."""
        return objections(self.mirror, settings, policy)

    def reload(self, settings: Settings, policy: Policy, granted: Grants) -> None:
        """Take over a policy, servers and payees to which there is no objection."""
        self.settings = settings
        self.mirror.take_over(policy, granted.by_server, granted.audience)
        self.admission.reload(*limits(settings))
        self._hear(settings)
        self.telemetry.runs(self.version, policy.hash)
        self.telemetry.pools(policy.pools)
        self.planner.touch_all()
        self.collector.touch_all()
        try:
            self.store.books.audit(self._in_force(_FILES))
            self.herald.reload(granted.gained)
            self.collector.decide()
        except StoreError:
            self._store_failed()
        log.info("reloaded", policy_hash=policy.hash, servers=len(settings.servers))

    def reloaded(self, outcome: str) -> None:
        """The files were read again."""
        self.telemetry.reloaded(outcome)


def _signing_of_groups(threads: PairedSigning) -> Callable[[Sequence[ToSign]], list[bytes]]:
    """The quickest way to sign the claims of a group that there is here."""
    try:
        eights = MultiBufferSigning(multi_buffer.load(), threads)
    except Unusable as error:
        log.info("signing", at_once=1, because=str(error))
        return threads
    log.info("signing", at_once=multi_buffer.LANES, by=multi_buffer.version())
    return eights
