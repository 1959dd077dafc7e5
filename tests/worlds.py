"""Small worlds for the tests of deciding: numbers so small that budgets, caps and guards bind most of the time.

A world is made from a seed by plain `random`: some fifty times faster than drawing each number, so that thousands can
be tried; the seed names it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from channeld.core.channel import Channel
from channeld.core.decide import UNUSED_GRACE_S
from channeld.core.demand import Rate
from channeld.core.intents import Kind
from channeld.core.ledger import AccountState, Fees
from channeld.core.policy import ChannelShape, CloseTerms, FundTerms, Guards, Policy, Pool, SettleTerms
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds
from channeld.core.world import ChannelView, GroupView, ServerView, WalletView, World

SOURCE = Address("rsxZupPvnQbaSQbrTtCnTgGtQwJksr8VL3")
PAYEES = tuple(
    Payee(Address(a), tag)
    for a, tag in (
        ("rLFtVprxUEfsH54eCWKsZrEQzMDsx1wqso", None),
        ("rLFtVprxUEfsH54eCWKsZrEQzMDsx1wqso", 7),
        ("rfC7hAciHqQFE3nKmjtzK4NAcaxiWS3uU1", None),
        ("rDx69ebzbowuqztksVDmZXjizTd12BVr4x", 0),
    )
)
KEY = "ED138CD44E5AA73961BFC9F542CB41BAAEBDD7BF695F316F6FD2B1905DDEEAECA0"
NOW = 1000
T = TypeVar("T")
WALLETS = ("hot", "cold")
SERVERS = ("a", "b")


def channel(
    number: int = 1,
    *,
    amount: int = 100,
    balance: int = 0,
    settle_delay: int = 10,
    expiration: int | None = None,
    cancel_after: int | None = None,
    payee: Payee = PAYEES[0],
    ledger: int = 5,
) -> Channel:
    """A channel whose id is its number."""
    return Channel(
        ChannelId(f"{number:064X}"),
        SOURCE,
        payee.account,
        payee.tag,
        KEY,
        Drops(amount),
        Drops(balance),
        Seconds(settle_delay),
        None if expiration is None else RippleTime(expiration),
        None if cancel_after is None else RippleTime(cancel_after),
        LedgerIndex(ledger),
    )


def around(r: Random, low: int = -40, high: int = 40) -> RippleTime:
    """A moment around now: now itself and its neighbours most of all."""
    near = [NOW - 1, NOW, NOW + 1] if high > 0 else [NOW - 1, NOW]
    return RippleTime(r.choice(near) if r.random() < 0.4 else NOW + r.randint(low, high))


def maybe(r: Random, value: T, chance: float = 0.5) -> T | None:
    """The value, or None."""
    return value if r.random() < chance else None


def a_pool(r: Random, name: str) -> Pool:
    """A pool whose values lie in their documented bounds."""
    least = r.randint(1, 8)
    low, runway_low = r.randint(0, 12), r.randint(0, 12)
    delay, margin, most = r.randint(0, 10), r.randint(0, 10), r.randint(1, 4)
    return Pool(
        name,
        r.choice([*WALLETS, "absent"] if name == "odd" else WALLETS),
        Seconds(delay),
        maybe(r, Seconds(r.randint(delay + margin + 1, 60))),
        Seconds(margin),
        ChannelShape(Drops(least), Drops(r.randint(least, 30)), most, r.choice([0, r.randrange(most)])),
        FundTerms(
            Drops(low), Drops(r.randint(low + 1, 25)), Seconds(runway_low), Seconds(r.randint(runway_low + 1, 25))
        ),
        SettleTerms(Drops(r.randint(1, 20)), Seconds(r.randint(1, 40))),
        CloseTerms(Seconds(r.randint(1, 60)), Seconds(r.randint(0, 60))),
    )


def a_view(r: Random, number: int, payee: Payee) -> ChannelView:
    """A channel at any point of its life, over-signed ones included."""
    amount = r.randint(1, 30)
    balance = r.randint(0, amount)
    cooling = (around(r), around(r, high=0)) if r.random() < 0.2 else (None, None)
    shown = channel(
        number,
        amount=amount,
        balance=balance,
        settle_delay=r.randint(0, 10),
        expiration=maybe(r, around(r), 0.2),
        cancel_after=maybe(r, around(r, high=80), 0.3),
        payee=payee,
    )
    return ChannelView(
        shown,
        r.randint(0, amount + 3) if r.random() < 0.8 else 0,
        r.random() < 0.8,
        r.choice([*SERVERS, *SERVERS, "gone"]),
        around(r, low=r.choice([-40, -2 * UNUSED_GRACE_S]), high=0),
        around(r, high=0),
        maybe(r, around(r, high=0)),
        maybe(r, r.choice(list(Kind)), 0.15),
        *cooling,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """A world and the policy it is decided by, and the seed that made both."""

    seed: int
    world: World
    policy: Policy


def case_of(seed: int) -> Case:
    """Any world whose values are in their bounds; two in three are worlds in which much can really be done."""
    r = Random(seed)
    busy = r.random() < 0.66
    names = r.sample(["one", "two"] if busy else ["one", "two", "odd"], r.randint(1, 2))
    guards = Guards(Drops(r.randint(0, 30)), r.randint(1, 4), Seconds(20), Drops(r.randint(10, 14)), Seconds(60))
    policy = Policy(1, {n: a_pool(r, n) for n in names}, guards, "F" * 64)
    everyone = [(pool, payee) for pool in (*names, *([] if busy else ["missing"])) for payee in PAYEES]
    keys = r.sample(everyone, r.randint(2, min(5, len(everyone))))
    number, groups = 0, []
    for pool, payee in sorted(keys, key=str):
        count = r.choice([0, 0, 0, 1]) if busy else r.randint(0, 3)
        views = tuple(a_view(r, number + i, payee) for i in range(count))
        number += count
        rate = Rate(r.choice([0, r.randint(0, 3_000_000)]), RippleTime(NOW - 5))
        most = policy.pools[pool].channel.max if pool in policy.pools else 20
        wanted = r.randint(1, most) if busy else r.choice([0, r.randint(1, 20), r.randint(0, 35)])
        opening = int(r.random() < 0.15 and not busy)
        server = r.choice(SERVERS if busy else [*SERVERS, "gone", ""])
        retry = maybe(r, around(r), 0.05 if busy else 0.2)
        groups.append(GroupView(pool, payee, server, views, opening, wanted, rate, retry))
    wallets = {
        w: WalletView(
            AccountState(SOURCE, Drops(r.randint(0, r.choice([120, 250, 600]))), 1, r.randint(0, 6)),
            r.randint(0, 40),
            r.randint(0, 2),
            r.choice([0, 0, 1, 3]),
        )
        for w in (WALLETS if busy else r.choice([WALLETS, WALLETS[:1]]))
    }
    servers = {s: ServerView(r.randint(0, 60), r.randint(0, 4), r.randint(0, 180), r.randint(0, 8)) for s in SERVERS}
    flying = r.choice([0, 0, 1, 2, 5, 20])
    opens = (flying, min(flying, r.choice([0, 0, 1, 2])))
    fees = Fees(Drops(r.randint(1, 10)), Drops(r.randint(0, 20)), Drops(r.randint(0, 40)))
    lag = 0.0 if busy else r.choice([*[0.0] * 5, 19.9, 20.0, 20.1])
    world = World(RippleTime(NOW), lag, fees, tuple(groups), wallets, servers, *opens)
    return Case(seed, world, policy)


def cases() -> st.SearchStrategy[Case]:
    """Worlds by their seed."""
    return st.integers(0, 2**63 - 1).map(case_of)
