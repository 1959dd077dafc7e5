"""Daemon and broker are killed at random moments under load, and afterwards every drop is accounted for.

Three parties keep books of their own: what the content servers were told, what the store says, what the ledger holds.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from waiting import until

from channeld.adapters.broker import Broker, BrokerSettings, Inbound
from channeld.adapters.signer import verify
from channeld.adapters.sqlite.reader import read_whole
from channeld.core.claim import claim_message
from channeld.sandbox.stage import POLICY, Server, Stage
from channeld.wire.requests import request_key
from e2e.world import XRP, World

SERVERS: Final = 3
PAYEES: Final = 4
"""Payees of each server."""
OPEN: Final = 150
"""Ids that a server has unanswered at any time."""
REPEAT_S: Final = 1.0
"""After which a server repeats an id that got no answer."""
CAPS: Final = 'max_drops_per_day = "1000000 XRP"\nmax_locked = "1000000 XRP"\nmax_open_channels = 1000'
# small channels and low marks, so that opening, funding and settling are under way when the end comes
BUSY: Final = POLICY.replace('min = "2 XRP"', 'min = "3 XRP"').replace('worth = "5 XRP"', 'worth = "2 XRP"')
# as shipped, but saved more often: a killed broker then forgets some, as it does in the field
PERSISTENT: Final = "persistence true\npersistence_location {directory}/\nautosave_interval 2"
COME_AGAIN: Final = ("no_headroom", "frozen", "busy")


@dataclass(frozen=True, slots=True)
class Bought:
    """What an accepted id was told, the same for ever."""

    channel_id: str
    amount: int
    covers: tuple[int, int]
    signature: str


@dataclass(slots=True)
class Asked:
    """An id without an answer. `seen` is the highest claim on every channel before it was first sent, `told` how it was
    refused so far.
    """

    payload: dict[str, str]
    seen: dict[str, int]
    due: float = 0.0
    told: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What content servers learn together. `faults` are broken promises; nothing may ever be in it."""

    highest: dict[str, int] = field(default_factory=dict)
    verified: set[tuple[str, int]] = field(default_factory=set)
    claims: int = 0
    replays: int = 0
    faults: list[str] = field(default_factory=list)


class Buyer:
    """A good content server: asks new ids all the time, repeats what got no answer, and some that got one long ago.

    It comes back by itself when the broker was killed.
    """

    def __init__(self, name: str, port: int, payees: list[str], tally: Tally, rng: random.Random) -> None:
        self.name, self.asking, self.accepted = name, True, dict[str, Bought]()
        self.open: dict[str, Asked] = {}
        self._payees, self._tally, self._rng = payees, tally, rng
        self._ids: list[str] = []
        self._again: dict[str, dict[str, str]] = {}
        self._told: dict[str, list[dict[str, Any]]] = {}
        self._broker = Broker(
            BrokerSettings("127.0.0.1", port, f"buyer-{name}", backoff_min_s=0.02, backoff_max_s=0.3),
            subscriptions=(f"channeld/v1/servers/{name}/reply",),
            will=None,
            on_messages=self._took,
            on_connected=lambda present: None,
            on_lost=lambda reason: None,
        )

    async def run(self) -> None:
        """Until cancelled."""
        session = asyncio.create_task(self._broker.run())
        try:
            while True:
                if self._broker.connected:
                    self._ask()
                await asyncio.sleep(0.02)
        finally:
            session.cancel()

    def _ask(self) -> None:
        now = asyncio.get_running_loop().time()
        while self.asking and len(self.open) < OPEN:
            self._new()
        due = [(i, asked) for i, asked in self.open.items() if asked.due <= now]
        for _, asked in due:
            asked.due = now + REPEAT_S
        payloads = [asked.payload for _, asked in due]
        payloads += [self._again[i] for i in self._rng.sample(self._ids, min(2, len(self._ids)))]
        while payloads:
            size = self._rng.choice((1, 1, 1, 7, 30))
            part, payloads = payloads[:size], payloads[size:]
            said = json.dumps(part[0] if size == 1 else part).encode()
            self._broker.publish(f"channeld/v1/servers/{self.name}/claim", said)

    def _new(self) -> None:
        request_id = f"{self.name}-{len(self.accepted) + len(self.open)}"
        payload = {"id": request_id, "payee": self._rng.choice(self._payees), "drops": str(self._rng.randint(1, 2000))}
        self.open[request_id] = Asked(payload, dict(self._tally.highest))

    def _took(self, messages: list[Inbound]) -> None:
        for message in messages:
            said = json.loads(message.payload)
            for item in said if isinstance(said, list) else [said]:
                self._read(item)
            self._broker.ack(message)

    def _read(self, item: dict[str, Any]) -> None:
        asked = self.open.get(item["id"])
        if item["status"] == "accepted":
            self._keep(item["id"], asked, item)
        elif item["code"] not in COME_AGAIN or (item["id"] in self.accepted and not self._stale(item)):
            self._tally.faults.append(f"rejected: {item}")
        elif asked is not None:
            asked.told.append(item)
            asked.due = asyncio.get_running_loop().time() + item["retry_after_ms"] / 1000

    def _stale(self, item: dict[str, Any]) -> bool:
        """Whether an accepted id may be refused so: `busy` it may be told, for a repeat costs as well; anything else
        only if it was told so before. A broker that was killed goes back to what it last saved, and sends that again.
        """
        return item["code"] == "busy" or item in self._told.get(item["id"], ())

    def _keep(self, request_id: str, asked: Asked | None, item: dict[str, Any]) -> None:
        claim, covers = item["claim"], item["covers"]
        span = (int(covers["from"]), int(covers["to"]))
        bought = Bought(claim["channel_id"], int(claim["amount"]), span, claim["signature"])
        tally = self._tally
        if (before := self.accepted.get(request_id)) is not None:
            tally.replays += 1
            if before != bought:
                tally.faults.append(f"{request_id} was told {before} and then {bought}")
            return
        if asked is None:
            tally.faults.append(f"an answer to what was never asked: {item}")
            return
        self._check(asked, bought, item)
        del self.open[request_id]
        self.accepted[request_id], self._again[request_id] = bought, asked.payload
        if asked.told:
            self._told[request_id] = asked.told
        self._ids.append(request_id)
        tally.claims += 1
        tally.highest[bought.channel_id] = max(bought.amount, tally.highest.get(bought.channel_id, 0))

    def _check(self, asked: Asked, bought: Bought, item: dict[str, Any]) -> None:
        start, end = bought.covers
        faults = self._tally.faults
        if end - start != int(asked.payload["drops"]) or bought.amount < end:
            faults.append(f"a slice that is not what was asked for: {item}")
        if start < asked.seen.get(bought.channel_id, 0):
            faults.append(f"below {asked.seen[bought.channel_id]}, which was signed before it was asked: {item}")
        signed = (bought.channel_id, bought.amount)
        if signed not in self._tally.verified:
            self._tally.verified.add(signed)
            message = claim_message(bytes.fromhex(bought.channel_id), bought.amount)
            if not verify(bytes.fromhex(item["claim"]["public_key"]), message, bytes.fromhex(bought.signature)):
                faults.append(f"a signature that does not verify: {item}")


class Soak:
    """One world, its buyers, and who kills what when."""

    def __init__(self, world: World, stage: Stage, buyers: list[Buyer], tally: Tally, rng: random.Random) -> None:
        self.world, self.stage, self.buyers, self.tally = world, stage, buyers, tally
        self.kills = {"daemon": 0, "broker": 0, "both": 0}
        self._rng = rng

    async def kill(self, times: int) -> None:
        """Kill at random moments: mostly in the middle of work, now and then before the daemon is up again."""
        for _ in range(times):
            await self._moment()
            victim = self._rng.choices(("daemon", "broker", "both"), (6, 3, 1))[0]
            self.kills[victim] += 1
            assert self.stage.daemon.running, self.stage.daemon.tail()
            if victim != "broker":
                self.stage.daemon.kill()
            if victim != "daemon":
                await self.world.broker.kill()
                await self.world.broker.start()
            if victim != "broker":
                await self.stage.start(ready=False)
            assert not self.tally.faults, self.tally.faults[:5]

    async def _moment(self) -> None:
        if self._rng.random() < 0.15:
            await asyncio.sleep(self._rng.uniform(0, 1.5))
            return
        wanted = self.tally.claims + int(10 ** self._rng.uniform(0, 3.4))
        await until(lambda: self.tally.claims >= wanted or self.tally.faults, "claims after a kill")
        await asyncio.sleep(self._rng.uniform(0, 0.05))

    async def finish(self) -> None:
        """Ask nothing new, and wait until every id has its answer."""
        for buyer in self.buyers:
            buyer.asking = False
        await until(lambda: not any(b.open for b in self.buyers), "an answer to every id")
        replays = self.tally.replays
        await until(lambda: self.tally.replays > replays + 100, "answers to repeated ids")
        assert not self.tally.faults, self.tally.faults[:5]

    # --- the books --------------------------------------------------------------------------------------------

    def slices_are_disjoint(self) -> int:
        """What was bought on a channel neither overlaps nor leaves a gap, and sums to what is signed; drops in all."""
        slices: dict[str, list[tuple[int, int]]] = {}
        for bought in self._bought():
            slices.setdefault(bought.channel_id, []).append(bought.covers)
        for channel, spans in slices.items():
            at = 0
            for start, end in sorted(spans):
                assert start == at, f"slices of {channel} overlap or leave a gap at {at}"
                at = end
            assert at == self.tally.highest[channel]
        return sum(self.tally.highest.values())

    def _bought(self) -> Iterable[Bought]:
        return (bought for buyer in self.buyers for bought in buyer.accepted.values())

    def store_agrees(self) -> None:
        """The store signed exactly what was told, and remembers exactly the accepted ids, each once."""
        told = {
            request_key(buyer.name, "claim", i): (b.channel_id, *b.covers, b.amount)
            for buyer in self.buyers
            for i, b in buyer.accepted.items()
        }
        with closing(read_whole(self.stage.store)) as db:
            assert dict(db.execute("SELECT channel_id, authorized FROM channel")) == self.tally.highest
            query = (
                "SELECT key, channel_id, covers_from, covers_to, signed FROM request r JOIN channel c"
                " ON r.channel = c.row"
            )
            rows = db.execute(query).fetchall()
        assert len(rows) == len(told)
        assert {row[0]: tuple(row[1:]) for row in rows} == told

    async def ledger_agrees(self) -> None:
        """Every channel holds what was signed on it, and paid no more."""
        for channel, amount in self.tally.highest.items():
            found = await self.world.ledger.result("ledger_entry", payment_channel=channel, ledger_index="validated")
            assert int(found["node"]["Balance"]) <= amount <= int(found["node"]["Amount"])


async def soak(directory: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many times, then compare the books. Returns what was counted; raises `AssertionError` if they differ."""
    rng, tally = random.Random(seed), Tally()
    extra = PERSISTENT.format(directory=directory / "broker")
    async with World(directory, mosquitto={"extra": extra}) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(SERVERS * PAYEES)]
        shares = {f"s{n}": payees[n * PAYEES : (n + 1) * PAYEES] for n in range(SERVERS)}
        servers = [Server(name, share, caps=CAPS) for name, share in shares.items()]
        stage = await world.stage(servers, policy=BUSY, treasury=1_000_000 * XRP)
        buyers = [Buyer(name, world.broker.port, share, tally, rng) for name, share in shares.items()]
        running = [asyncio.create_task(buyer.run()) for buyer in buyers]
        played = Soak(world, stage, buyers, tally, rng)
        try:
            await played.kill(kills)
            await played.finish()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        drops = played.slices_are_disjoint()
        await stage.daemon.stop()
        played.store_agrees()
        await played.ledger_agrees()
        channels = len(tally.highest)
    return {
        "kills": played.kills,
        "claims": tally.claims,
        "replays": tally.replays,
        "drops": drops,
        "channels": channels,
    }
