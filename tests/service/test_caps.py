"""What a stolen login can cost: no spending and no locked capital of anybody ever passes its cap, whatever is asked."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest
from engine import Engine, policy
from hypothesis import event, given, settings
from hypothesis import strategies as st
from service.sums import added_up
from worlds import PAYEES

from channeld.core.policy import Policy, Tier
from channeld.core.requests import Ask, Code, Granted, Refusal
from channeld.core.rules import Rule, Within
from channeld.core.units import Drops, Seconds
from channeld.core.vocabulary import Concern

HOUR = 3600
USERS = ("g1", "g2", "n1", "", "g3")
OFTEN = ("ask",) * 8 + ("tick",) * 5 + ("restart", "leave", "collect", "hour")


@dataclass
class Caps:
    """Drawn so that all of them bind now and then: a channel is opened with 20 and holds 60 at most."""

    seed: int
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        r = self.random = Random(self.seed)
        self.gold, self.other, self.user, self.payee = (
            r.choice([None, r.randint(20, most)]) for most in (90, 60, 45, 110)
        )
        self.servers = {s: (r.randint(20, 200), r.randint(20, 130), r.randint(1, 6)) for s in "ab"}
        self.spent = {
            "spent_hour": r.randint(5, 80),
            "user_spent_hour": r.randint(5, 40),
            "tier_spent_day": r.randint(10, 120),
            "payee_spent_hour": r.randint(5, 80),
        }

    def policy(self) -> Policy:
        terms, some = policy(opens=10, max_per_payee=3, spare=self.random.choice([0, 1])), Drops
        early = replace(terms.guards.early_ends, free=32)
        pool = replace(
            terms.pools["p"],
            max_locked_per_payee=None if self.payee is None else some(self.payee),
            close=replace(terms.pools["p"].close, idle=Seconds(10**6)),
        )
        gold = Tier("gold", ("g*",), dedicated=True)
        limits = [None if cap is None else some(cap) for cap in (self.gold, self.user, self.other)]
        tiers = {
            "gold": replace(gold, max_locked=limits[0], max_locked_per_user=limits[1]),
            "other": Tier("other", default=True, max_locked=limits[2]),
        }
        rules = tuple(Rule(fact, {fact: Within(low=cap + 1)}, {}, "refuse") for fact, cap in self.spent.items())
        return replace(
            terms,
            pools={"p": pool},
            guards=replace(terms.guards, early_ends=early),
            tiers=tiers,
            rules={Concern.ADMIT: rules},
        )


class Thief:
    """Somebody who asks for whatever he likes under two logins, while ledgers close, payees collect and daemons die."""

    def __init__(self, folder: Path, caps: Caps) -> None:
        self.caps, self.random, self.asked = caps, caps.random, 0
        self.engine = Engine(folder / "store.db", terms=caps.policy(), caps=caps.servers)
        self.engine.connect()
        self.spent: list[tuple[float, Ask]] = []
        self.bound: set[str] = set()

    def step(self) -> None:
        engine, move = self.engine, self.random.choice(OFTEN)
        if move == "ask":
            self.ask(self.random.randint(1, 4))
        elif move == "tick":
            engine.tick()
        elif move == "restart":
            engine.restart()
        elif move == "hour":
            engine.tick(self.random.choice([30, 1800, HOUR, 20 * HOUR]))
        elif ids := [i for i, c in engine.ledger.channels.items() if c.expiration is None]:
            chosen = self.random.choice(ids)
            if move == "leave":
                engine.ledger.leave(chosen)
            elif (state := next((s for i, s in engine.mirror.channels.items() if i == chosen), None)) is not None:
                engine.ledger.redeem(chosen, state.record.authorized)
            engine.pass_time(1)
            engine.see()
        self.look()

    def ask(self, count: int) -> None:
        asks = []
        for _ in range(count):
            self.asked += 1
            server = self.random.choice("ab")
            payee = self.random.choice(PAYEES[:2] if server == "a" else PAYEES[:1])
            drops, user = self.random.randint(1, 30), self.random.choice(USERS)
            asks.append(self.engine.ask(self.asked, drops, server=server, payee=payee, user=user))
        for ask, answer in zip(asks, self.engine.answer(*asks), strict=True):
            if isinstance(answer, Granted):
                self.spent.append((self.engine.unix, ask))
            else:
                self.bound.add(answer.reason.partition(" of ")[0])

    def look(self) -> None:
        """Everything that was promised, by what the ledger and the answers say."""
        rows = self.engine.on_disk("SELECT channel_id, server, user, tier, destination, destination_tag FROM channel")
        locked = Counter[str]()
        for channel_id, server, user, tier, account, tag in rows:
            if (channel := self.engine.ledger.channels.get(channel_id)) is not None:
                for name in (server, f"user {user}", f"tier {tier}", f"payee {account} {tag}"):
                    locked[name] += channel.remaining
        caps = {server: most for server, (_, most, _) in self.caps.servers.items()}
        caps |= {"tier gold": self.caps.gold or 10**9, "tier other": self.caps.other or 10**9}
        caps |= {name: self.caps.payee or 10**9 for name in locked if name.startswith("payee ")}
        caps |= {f"user {user}": self.caps.user or 10**9 for user in USERS if user.startswith("g")}
        assert {name: drops for name, drops in locked.items() if drops > caps.get(name, 10**9)} == {}
        added_up(self.engine.mirror)

    def judge(self) -> None:
        """No window of an hour or a day holds more than its cap."""
        caps, found = self.caps.spent, Counter[tuple[str, str, float]]()
        for end in {at for at, _ in self.spent}:
            for at, ask in self.spent:
                tier = "gold" if ask.user.startswith("g") else "other"
                if end - 24 * HOUR < at <= end:
                    found["max_drops_per_day", ask.server, end] += ask.drops
                    found["tier_spent_day", f"{ask.server} {tier}", end] += ask.drops
                if end - HOUR < at <= end:
                    found["spent_hour", ask.server, end] += ask.drops
                    found["payee_spent_hour", str(ask.payee), end] += ask.drops
                    found["user_spent_hour", f"{ask.server} {ask.user}", end] += ask.drops * bool(ask.user)
        for (fact, whose, _), drops in found.items():
            assert drops <= (self.caps.servers[whose][0] if fact == "max_drops_per_day" else caps[fact]), (fact, whose)


@settings(max_examples=max(5, settings().max_examples // 12))
@given(st.integers(0, 2**32))
def test_neither_spending_nor_locked_capital_of_anybody_passes_its_cap(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        thief = Thief(Path(name), Caps(seed))
        for _ in range(40):
            thief.step()
        thief.judge()
        thief.engine.kill()
    for word in ("max_locked", "max_locked_per_user", "max_locked_per_payee", "max_open_channels", "rule"):
        if any(why.startswith(word) for why in thief.bound):
            event(word)


@pytest.mark.parametrize(
    ("limits", "said", "reason"),
    [
        ({"max_locked": Drops(39)}, "max_locked of this tier is reached", "cap_tier"),
        ({"max_locked_per_user": Drops(39)}, "max_locked_per_user of this tier is reached", "cap_user"),
        ({}, "max_locked_per_payee of the payee's pool is reached", "cap_payee"),
    ],
)
def test_who_is_at_its_cap_is_told_which(tmp_path: Path, limits: dict[str, Drops], said: str, reason: str) -> None:
    terms = policy(opens=10, max_per_payee=5)
    tier = replace(Tier("gold", ("g*",), dedicated=True), **limits)
    pool = replace(terms.pools["p"], max_locked_per_payee=None if limits else Drops(39))
    engine = Engine(tmp_path / "store.db", terms=replace(terms, pools={"p": pool}, tiers={"gold": tier}))
    engine.connect()

    def ask(number: int, drops: int) -> Granted | Refusal:
        return engine.answer(engine.ask(number, drops, user="g1"))[0]

    ask(0, 20)
    engine.tick()
    engine.tick()
    assert isinstance(ask(1, 20), Granted)
    for number in range(2, 6):  # what is owed is paid out first, for that makes room
        refusal = ask(number, 40)
        engine.tick()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason) == (Code.LIMIT_EXCEEDED, said)
    assert refusal.retry_after_ms is not None
    (group,) = [g for g in engine.mirror.groups.values() if g.channels]
    assert group.answer is not None
    assert group.answer.reason.value == reason
    for number in range(6, 9):
        answer = ask(number, 10)
        engine.tick()
    assert isinstance(answer, Granted), "so much fits"
