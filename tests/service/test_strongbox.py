"""Claims that payers signed for us, against the sandbox's ledger: taken in, collected in time, whatever dies when."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coincurve
import pytest
from coincurve._libsecp256k1 import ffi
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import TILL, WEALTH, Lab, Where, terms
from sandbox.rig import Rig, address, key
from xrpl.core import binarycodec

from channeld.adapters.sqlite.journal_reader import reading
from channeld.core.budgets import Budget, Purse
from channeld.core.claim import claim_message
from channeld.core.errors import LedgerError, Unreachable
from channeld.core.freezes import Cause
from channeld.core.ledger import OpenFees
from channeld.core.policy import FreezeIf, Override, Policy, Scope
from channeld.core.requests import Code, HandIn, Refusal, Taken
from channeld.core.rules import OneOf, Rule, Within
from channeld.core.units import Address, ChannelId, Drops, RippleTime, Seconds
from channeld.core.vocabulary import HOLD, Concern, Mode
from channeld.sandbox.ledger import codec
from channeld.sandbox.ledger.faults import order
from channeld.service.strangers import MOST_KNOWN, MOST_WAITING, Strangers

CLOSE = 0x00020000
DELAY = 100


def told(lab: Lab, channel_id: str) -> tuple[Code, bool]:
    """Why a claim is not taken in, and whether it is worth another try."""
    answer = lab.hand_in("1", channel_id, 5, "alice")
    assert isinstance(answer, Refusal)
    return answer.code, answer.retry_after_ms is not None


def test_a_channel_that_pays_somebody_else_is_looked_up_and_told(lab: Lab) -> None:
    """It is unknown until a validated ledger was asked, and what no ledger has stays so; what pays us is judged as ever
    though a node had told otherwise."""
    strangers = Strangers(lab.mirror, lambda: lab.session)
    lab.strongbox.paid = strangers.paid

    def look() -> None:
        asyncio.run(strangers.look())

    unknown, not_ours = (Code.UNKNOWN_CHANNEL, True), (Code.NOT_OURS, False)
    other, nobodys = lab.rig.open_channel("alice", "bob", Amount="1000", SettleDelay=DELAY), "AB" * 32
    lab.alive(lab.see)
    for channel_id in (other, nobodys, key("alice").public_key[:2] * 32):
        assert told(lab, channel_id) == unknown
        assert told(lab, channel_id) == unknown
        look()
    assert [told(lab, other), told(lab, nobodys)] == [not_ours, unknown]
    look()
    mine = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=DELAY)
    lab.rig.close()
    assert told(lab, mine) == unknown
    look()
    assert told(lab, mine) == unknown
    strangers._known[ChannelId(mine)] = Address(address(TILL))
    assert told(lab, mine) == unknown
    strangers._known[ChannelId(mine)] = Address(address("bob"))
    lab.alive(lab.see)
    assert lab.hand_in("1", mine, 5, "alice") == Taken(5, 5, replayed=False)


def test_what_is_handed_in_by_a_flood_is_looked_up_within_bounds(lab: Lab) -> None:
    """Nothing grows, and a node that does not answer costs the one that was asked about."""
    asked: list[str] = []

    async def paid(channel_id: ChannelId, at: int) -> Address | None:
        asked.append(channel_id)
        if len(asked) % 2:
            raise Unreachable("gone")
        return Address(address("bob"))

    strangers = Strangers(lab.mirror, lambda: SimpleNamespace(paid=paid))  # type: ignore[arg-type, return-value]
    for round_ in range(2 * MOST_KNOWN // MOST_WAITING + 1):
        for number in range(MOST_WAITING + 9):
            assert strangers.paid(ChannelId(f"{round_ * 1000 + number:064X}")) is None
        for _ in range(MOST_WAITING):
            asyncio.run(strangers.look())
    assert not strangers._waiting
    assert len(asked) == (2 * MOST_KNOWN // MOST_WAITING + 1) * MOST_WAITING
    assert len(strangers._known) == MOST_KNOWN
    assert strangers.paid(ChannelId(asked[-1])) == address("bob")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return till(tmp_path / "s.db")


def till(path: Path, **more: Any) -> Lab:
    lab = Lab(path, receives=True, **more)
    lab.rig.fund("alice", "ursulaK")
    lab.alive(lab.see)
    return lab


def opened(lab: Lab, payer: str = "alice", amount: int = 1000, **fields: Any) -> str:
    """A channel that pays us, in a ledger that the daemon has seen."""
    fields = {"SettleDelay": DELAY, **fields}
    channel_id = lab.rig.open_channel(payer, TILL, Amount=str(amount), **fields)
    lab.alive(lab.see)
    return channel_id


def taken(lab: Lab, number: str, channel_id: str, drops: int, payer: str = "alice") -> int:
    """Hand in until it is taken; what it added."""
    for _ in range(5):
        answer = lab.hand_in(number, channel_id, drops, payer)
        if isinstance(answer, Taken):
            return answer.drops
    raise AssertionError(answer)


def code(lab: Lab, number: str, channel_id: str, drops: int, payer: str = "alice", **other: Any) -> Code:
    answer = lab.hand_in(number, channel_id, drops, payer, **other)
    assert isinstance(answer, Refusal), answer
    return answer.code


def redeems(lab: Lab) -> list[Any]:
    """Every validated transaction of the till, with its result."""
    return [r for r in lab.rig.node.history.all() if r.tx.account == address(TILL)]


def earned(lab: Lab) -> int:
    """What the till has more than at the start, its fees not counted."""
    return lab.settled_balance(TILL) - WEALTH + sum(r.tx.fee for r in redeems(lab))


# --- fees ------------------------------------------------------------------------------------------------------------


def rich(tmp_path: Path, wealth: int) -> Lab:
    """A till of which the operator allows any fee, and that has less."""
    policy = terms()
    policy = replace(policy, guards=replace(policy.guards, urgent_fee_cap=Drops(50 * 10**6)))
    return till(tmp_path / "s.db", policy=policy, wealth=wealth)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_last_attempt_offers_no_more_than_the_account_has_and_shares_it_with_others(
    tmp_path: Path, count: int
) -> None:
    """The fee comes out of the reserve, if need be; what is above the balance no ledger takes. Half of it is for who
    comes first: what that brings pays for others.
    """
    wealth = 30 * 10**6
    lab = rich(tmp_path, wealth)
    channels = [opened(lab, amount=100 * 10**6) for _ in range(count)]
    lab.signs(False)
    for number, channel_id in enumerate(channels):
        taken(lab, str(number), channel_id, 90 * 10**6)
    lab.tick()
    for channel_id in channels:
        lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick()
    lab.signs(True)
    lab.tick(14)
    assert lab.on_disk("SELECT * FROM loss") == []
    shares = [wealth // 2 // count + (wealth // 2 if first else 0) for first in (True, *[False] * (count - 1))]
    assert lab.on_disk("SELECT fee, ended FROM tx ORDER BY number") == [(fee, "tesSUCCESS") for fee in shares]
    assert lab.settled_balance(TILL) == count * 90 * 10**6


BIG, ASKED = 40 * 10**6, 90_000


def poor(
    tmp_path: Path, *small: int, delay: int = DELAY, held: int = BIG, cap: int = 100_000
) -> tuple[Lab, str, list[str]]:
    """A till with 1 XRP that may offer a tenth of it, a channel on which 40 XRP are held, and others with so little."""
    policy = terms()
    guards = replace(policy.guards, urgent_fee_cap=Drops(cap))
    waits = replace(policy.receive, worth=Drops(10**9), max_age=Seconds(10**6))
    lab = till(tmp_path / "s.db", policy=replace(policy, guards=guards, receive=waits), wealth=10**6)
    lab.tick(12)  # so that it is known how often ledgers close
    big = opened(lab, amount=100 * 10**6, SettleDelay=delay)
    others = [lab.rig.open_channel("alice", TILL, Amount=str(10**7), SettleDelay=DELAY) for _ in small]
    lab.tick()
    taken(lab, "big", big, held)
    for channel_id, drops in zip(others, small, strict=True):
        taken(lab, channel_id, channel_id, drops)
    return lab, big, others


def spike(lab: Lab, asked: int, *, told: int | None) -> None:
    """The network takes nothing below this from now on, and the node says that (None: nothing) of it."""
    request = lab.session.request

    async def dear(command: str, **parameters: Any) -> Any:
        if command == "submit" and int(binarycodec.decode(parameters["tx_blob"])["Fee"]) < asked:
            return {"engine_result": "telINSUF_FEE_P", "engine_result_message": "", "accepted": False}
        return await request(command, **parameters)

    async def fees() -> OpenFees:
        if told is None:
            raise LedgerError("unknownCmd")
        return OpenFees(Drops(told), Drops(told))

    lab.session.request, lab.session.open_fees = dear, fees  # type: ignore[method-assign]


def closing(lab: Lab, *channels: str) -> None:
    for channel_id in channels:
        lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick()


@pytest.mark.parametrize("delay", [DELAY, 400])
def test_claims_of_a_drop_take_nothing_from_what_a_big_one_may_offer(tmp_path: Path, delay: int) -> None:
    """A payer closes many at once, most of them worth nothing, while the network is dear: shared by all alike 76 923
    drops would be offered for each, which nobody takes.
    """
    lab, big, small = poor(tmp_path, *[1] * 12, delay=delay)
    spike(lab, ASKED, told=ASKED)
    closing(lab, big, *small)
    lab.tick(delay // 10 + 4)
    assert lab.on_disk("SELECT channel_id, paid FROM redeemed") == [(big, BIG)]
    assert lab.on_disk("SELECT DISTINCT fee FROM tx") in ([(ASKED,)], [(100_000,)]), "nothing was tried in vain"
    assert lab.on_disk("SELECT max(drops) FROM loss") == [(1,)]


def test_in_a_spike_what_the_first_bring_pays_for_the_others(tmp_path: Path) -> None:
    """Shared by all alike 24 390 drops would be offered for each, and nothing be collected at all."""
    lab, big, others = poor(tmp_path, *[9 * 10**6] * 40)
    spike(lab, 50_000, told=50_000)
    closing(lab, big, *others)
    lab.tick(12)
    assert lab.on_disk("SELECT count(*), sum(paid) FROM redeemed") == [(41, 400 * 10**6)]
    assert lab.on_disk("SELECT * FROM loss") == []


@pytest.mark.parametrize("told", [ASKED, 10, None])
@pytest.mark.parametrize("first", ["big", "small"])
def test_a_claim_of_a_drop_holds_up_no_big_one_behind_it(tmp_path: Path, told: int | None, first: str) -> None:
    """With no time but for last attempts, whoever closes first, and whatever the node says of its fee."""
    lab, big, small = poor(tmp_path, 1, 2)
    spike(lab, ASKED, told=told)
    closing(lab, *([big] if first == "big" else small))
    if first == "small":
        lab.tick()
    closing(lab, *(small if first == "big" else [big]))
    lab.tick(12)
    assert (big, BIG) in lab.on_disk("SELECT channel_id, paid FROM redeemed")
    of_small = "SELECT max(fee) FROM tx JOIN intent i ON i.number = intent WHERE target < 10"
    assert lab.on_disk(of_small) in ([(10,)], [(None,)]), "no more is offered for them than they bring"


@settings(max_examples=settings().max_examples // 4)
@given(
    small=st.lists(st.one_of(st.integers(1, 20), st.integers(1, 10**6)), max_size=6),
    place=st.integers(0, 6),
    pauses=st.lists(st.integers(0, 1), min_size=7, max_size=7),
    told=st.sampled_from([ASKED, 10, None, 10**9]),
    asked=st.sampled_from([10, ASKED]),
)
def test_whatever_closes_beside_it_and_whatever_is_told_the_biggest_is_collected(
    small: list[int], place: int, pauses: list[int], told: int | None, asked: int, tmp_path_factory: Any
) -> None:
    """And no more is under way at any time than the account has, nor offered for anything than it brings."""
    lab, big, others = poor(tmp_path_factory.mktemp("till"), *small, delay=200)
    spike(lab, asked, told=told)
    closes = [*others[:place], big, *others[place:]]
    for channel_id, pause in zip(closes, pauses, strict=False):
        lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
        lab.tick(pause)
    for _ in range(24):
        lab.tick()
        assert sum(live.fee for live in lab.mirror.live.values()) <= lab.settled_balance(TILL)
    assert (big, BIG) in lab.on_disk("SELECT channel_id, paid FROM redeemed")
    offered = lab.on_disk("SELECT fee, target FROM tx JOIN intent i ON i.number = intent")
    assert all(fee <= max(10, target) for fee, target in offered)
    lab.loop.close()
    lab.store._db.close()


def test_what_keeps_a_payout_from_being_held_up_costs_no_more_than_that_brings(tmp_path: Path) -> None:
    lab, big, small = poor(tmp_path, 1, held=150_000)
    spike(lab, ASKED, told=10)
    closing(lab, *small)
    lab.tick()
    closing(lab, big)
    lab.tick(12)
    assert lab.settled_balance(TILL) >= 10**6 - 20
    assert lab.on_disk("SELECT count(*) FROM tx WHERE fee > 10") != [(0,)]


def test_nothing_is_put_before_a_payout_that_is_not_taken_either(tmp_path: Path) -> None:
    """It would only take the number of the next attempt."""
    lab, big, small = poor(tmp_path, 1, delay=600)
    spike(lab, ASKED, told=10)
    closing(lab, *small)
    lab.tick(3)
    closing(lab, big)
    spike(lab, ASKED, told=ASKED)
    lab.tick(16)
    assert lab.on_disk("SELECT channel_id, paid FROM redeemed") == [(big, BIG)]
    assert lab.on_disk("SELECT count(*) FROM tx WHERE intent IS NULL") == [(0,)]


def test_however_many_cheap_ones_died_below_it_a_payout_burns_nothing_to_fill_their_places(tmp_path: Path) -> None:
    """It ends with them, and takes the first of their numbers."""
    lab, big, small = poor(tmp_path, *[1] * 12, held=200_000)
    spike(lab, 90_000, told=10)
    closing(lab, *small)
    lab.tick(2)
    closing(lab, big)
    lab.tick(16)
    assert lab.on_disk("SELECT channel_id, paid FROM redeemed") == [(big, 200_000)]
    assert lab.on_disk("SELECT count(*) FROM tx WHERE intent IS NULL") == [(0,)]
    assert lab.settled_balance(TILL) == 10**6 + 200_000 - 100_000


def test_a_big_one_that_has_time_stands_before_no_smaller_one_that_has_none(tmp_path: Path) -> None:
    """Signed for little while there is time, it would hold up what is signed behind it to its end."""
    lab, big, small = poor(tmp_path, 9 * 10**6, delay=1600)
    spike(lab, 90_000, told=10)
    closing(lab, big, *small)
    lab.tick(16)
    assert lab.on_disk("SELECT channel_id, paid FROM redeemed") == [(small[0], 9 * 10**6)]


def test_a_smaller_one_that_is_late_goes_before_a_big_one_that_has_time(tmp_path: Path) -> None:
    """With its part and what is for the first; the rest stays for the big one."""
    lab, big, small = poor(tmp_path, 2 * 10**6, delay=4000, cap=10**6)
    spike(lab, 0, told=10**9)
    closing(lab, big, *small)
    lab.tick(8)
    half = 10**6 // 2
    assert lab.on_disk("SELECT channel_id, fee FROM tx") == [(small[0], half + half * 2 // 42)]


def test_a_node_that_lies_about_its_fee_holds_up_only_what_is_worth_less_than_that(tmp_path: Path) -> None:
    lab, big, small = poor(tmp_path, 1, 500)
    spike(lab, 0, told=10**9)
    closing(lab, big, *small)
    lab.tick(12)
    assert lab.on_disk("SELECT channel_id, paid FROM redeemed") == [(big, BIG)]


def test_what_comes_to_press_goes_before_what_is_worth_less(tmp_path: Path) -> None:
    """It was decided when it had time, so it stood behind all that had none; a start puts it where it belongs, too."""
    lab, big, small = poor(tmp_path, *[1] * 3, delay=DELAY - 20)
    lab.signs(False)
    lab.policy = lab.mirror.policy = replace(lab.policy, receive=replace(lab.policy.receive, worth=Drops(10**6)))
    lab.collector.touch_all()
    lab.tick()
    closing(lab, *small)

    def line() -> list[Any]:
        return [entry.channel_id for entry in lab.mirror.backlog.of(TILL)]

    assert (line()[-1], len(line())) == (big, 4)
    closing(lab, big)
    assert line() == [big, *sorted(small)]
    planned = lab.executor._workload.planned(lab.mirror.wallets[TILL], next(lab.mirror.backlog.of(TILL)))
    assert [entry.channel_id for entry in planned] == line(), "whoever was passed over before it came to press"
    lab.restart()
    assert line() == [big, *sorted(small)]
    lab.signs(True)
    lab.tick(2)
    assert lab.on_disk("SELECT channel_id FROM tx WHERE number = (SELECT min(number) FROM tx)") == [(big,)]
    assert lab.on_disk("SELECT sum(paid) FROM redeemed") == [(BIG + 3,)]


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_a_spent_budget_holds_back_what_can_wait_and_nothing_once_the_source_closes(tmp_path: Path) -> None:
    """And a death in between changes neither."""
    nothing_left = Budget("fees", Purse.FEES, Drops(999), Seconds(10**6))  # urgent_fee_cap is 1000
    lab = till(tmp_path / "s.db", policy=replace(terms(), budgets=(nothing_left,)))
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 30)
    lab.tick(3)
    lab.restart()
    lab.tick(3)
    assert redeems(lab) == []
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick(3)
    assert earned(lab) == 30
    (fee,) = [r.tx.fee for r in redeems(lab)]
    assert lab.planner.spending.used() == {"fees": 0}, "what has a deadline has a purse of its own"
    assert lab.planner.spending.purse_used(TILL) == fee
    lab.restart()
    assert lab.planner.spending.purse_used(TILL) == fee


def everything_against_it() -> Policy:
    """A rule, the mode, an override, a freeze and a spent budget: each alone would hold collecting back."""
    base = terms()
    brake = Override(Scope(server="a"), frozenset(Concern), RippleTime(2**31), "why")
    guards = replace(base.guards, freeze_if=(FreezeIf("network_fee_drops", 0),))
    stop = (Rule("stop", {}, {}, HOLD),)
    return replace(
        base, rules={Concern.REDEEM: stop}, modes={Concern.REDEEM: Mode.OBSERVE}, overrides=(brake,), guards=guards,
        budgets=(Budget("fees", Purse.FEES, Drops(0), Seconds(1)),),
    )  # fmt: skip


@pytest.mark.parametrize("ends", ["source closes", "fixed end"])
def test_whatever_the_policy_says_it_is_collected_before_a_deadline(tmp_path: Path, ends: str) -> None:
    """And not before; with the wallet frozen by hand on top of it, and a death in between."""
    lab = till(tmp_path / "s.db", policy=everything_against_it())
    fixed = {"CancelAfter": lab.rig.pct + 250} if ends == "fixed end" else {}
    channel_id = opened(lab, **fixed)
    taken(lab, "1", channel_id, 990)
    lab.mirror.frozen[Cause.OPERATOR.value] = "frozen by hand"
    lab.tick(13)
    assert redeems(lab) == []
    lab.restart()
    lab.mirror.frozen[Cause.OPERATOR.value] = "frozen by hand"
    if not fixed:
        lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick(9)
    assert earned(lab) == 990
    assert lab.on_disk("SELECT reason FROM intent") == [("before_end" if fixed else "source_closes",)]


def test_rules_decide_when_what_can_wait_is_collected(tmp_path: Path) -> None:
    """Laid terms, then an act; a rule that counts days is looked at again when they are over."""
    rules = (
        Rule("worth-more", {"wallet": OneOf(frozenset({TILL}))}, {"worth": 500, "max_age": 10**6}),
        Rule("old", {"unredeemed_age": Within(100, None)}, {}, "redeem"),
    )
    lab = till(tmp_path / "s.db", policy=replace(terms(), rules={Concern.REDEEM: rules}))
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 499)
    lab.tick(9)
    assert earned(lab) == 0
    lab.tick(3)
    assert earned(lab) == 499
    assert lab.on_disk("SELECT reason, path FROM intent") == [("rule", "redeem/worth-more redeem/old")]
    taken(lab, "2", channel_id, 999)
    lab.tick(2)
    assert earned(lab) == 999


# --- taking in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payer", ["alice", "ursulaK"])
def test_claims_of_both_key_types_add_up_and_are_collected_once_worth_it(lab: Lab, payer: str) -> None:
    channel_id = opened(lab, payer)
    assert [taken(lab, str(n), channel_id, drops, payer) for n, drops in enumerate((5, 12, 30))] == [5, 7, 18]
    lab.tick(2)
    assert earned(lab) == 30
    (redeem,) = redeems(lab)
    assert redeem.tx.json.get("Flags", 0) & CLOSE == 0
    assert lab.on_disk("SELECT paid FROM redeemed") == [(30,)]
    assert taken(lab, "9", channel_id, 31, payer) == 1


def test_every_refusal_has_its_code(lab: Lab) -> None:
    channel_id = opened(lab)
    assert code(lab, "1", "AB" * 32, 5) is Code.UNKNOWN_CHANNEL
    assert code(lab, "1", channel_id, 5, "bob") is Code.BAD_SIGNATURE
    assert code(lab, "1", channel_id, 5, signature=b"\0" * 64) is Code.BAD_SIGNATURE
    assert code(lab, "1", channel_id, 1001) is Code.AMOUNT_EXCEEDS_CHANNEL
    taken(lab, "2", channel_id, 20)
    assert code(lab, "3", channel_id, 20) is Code.AMOUNT_NOT_HIGHER
    assert code(lab, "2", channel_id, 21) is Code.ID_CONFLICT
    assert code(lab, "4", channel_id, 22, server="stranger") is Code.UNKNOWN_PAYEE
    short = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=39)
    small = lab.rig.open_channel("alice", TILL, Amount="9", SettleDelay=DELAY)
    brief = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=DELAY, CancelAfter=lab.rig.pct + 99)
    lab.alive(lab.see)
    assert [code(lab, "5", c, 5) for c in (short, small, brief)] == [Code.POLICY] * 3
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick()
    assert code(lab, "6", channel_id, 30) is Code.CHANNEL_CLOSING


def test_a_full_store_of_ids_takes_no_new_claim_and_answers_what_it_took(lab: Lab) -> None:
    channel_id = opened(lab)
    lab.max_ids = 2
    lab.restart()
    taken(lab, "1", channel_id, 5)
    taken(lab, "2", channel_id, 6)
    assert code(lab, "3", channel_id, 7) is Code.BUSY
    lab.restart()
    assert code(lab, "3", channel_id, 7) is Code.BUSY
    assert lab.hand_in("1", channel_id, 5, "alice") == Taken(5, 5, replayed=True)
    assert lab.store.claims.forget(1 << 40, 1) == 1
    assert taken(lab, "3", channel_id, 7) == 1


def test_in_one_group_nobody_takes_the_share_of_another(lab: Lab) -> None:
    channel_id = opened(lab)
    lab.max_ids = 20
    lab.restart()
    lab.mirror.grants["b"] = lab.mirror.grants["a"]
    lab.strongbox._ids._servers = lambda: lab.mirror.grants
    for n in range(1, 18):
        taken(lab, str(n), channel_id, n)

    def claim(server: str, drops: int) -> HandIn:
        signature = key("alice").signer()(claim_message(bytes.fromhex(channel_id), drops))
        name = f"{server}{drops}".encode().ljust(16)
        return HandIn(server, name, name, ChannelId(channel_id), drops, signature, key("alice").public_key)

    answers = lab.strongbox.answer([claim(server, 18 + n) for n, server in enumerate("aaabbb")])
    assert [isinstance(a, Taken) for a in answers] == [True, True, False, True, False, False]
    assert lab.store.ids == 20


def test_a_channel_of_ours_that_pays_somebody_else_is_not_ours(lab: Lab) -> None:
    lab.ask("1", 5, "bob")
    lab.tick(3)
    (ours,) = lab.channels()
    assert code(lab, "1", ours, 5, "hot") is Code.NOT_OURS


def test_an_account_of_ours_that_the_server_may_not_hand_in_for_is_not_ours(lab: Lab) -> None:
    channel_id = opened(lab)
    grant = lab.mirror.grants["a"]
    lab.mirror.grants = {"a": grant, "b": type(grant)({}, 1, 1, 1)}
    assert code(lab, "1", channel_id, 5, server="b") is Code.NOT_OURS


def test_a_repeated_id_gets_the_same_answer_whatever_has_happened_since(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 7)
    taken(lab, "2", channel_id, 30)
    lab.tick(2)
    lab.restart()
    assert lab.hand_in("1", channel_id, 7, "alice") == Taken(7, 7, replayed=True)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick(15)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id)
    lab.tick()
    assert lab.mirror.vault.channels == {}
    assert lab.hand_in("2", channel_id, 30, "alice") == Taken(23, 30, replayed=True)
    assert code(lab, "3", channel_id, 40) is Code.UNKNOWN_CHANNEL


def test_one_group_judges_its_claims_in_turn(lab: Lab) -> None:
    channel_id = opened(lab)

    def claim(number: str, drops: int) -> Any:
        signature = key("alice").signer()(claim_message(bytes.fromhex(channel_id), drops))
        name = number.encode().rjust(16)
        return HandIn("a", name, name, ChannelId(channel_id), drops, signature, key("alice").public_key)

    group = [claim("1", 5), claim("2", 9), claim("3", 7), claim("2", 9), claim("4", 12)]
    answers = lab.strongbox.answer(group)
    told = [a.drops if isinstance(a, Taken) else a.code for a in answers]
    assert told == [5, 4, Code.AMOUNT_NOT_HIGHER, 4, 3]
    assert [a.replayed for a in answers if isinstance(a, Taken)] == [False, False, True, False]
    assert lab.on_disk("SELECT held FROM incoming") == [(12,)]


def test_while_frozen_nothing_is_taken_in_and_all_is_collected(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 20)
    lab.mirror.frozen[Cause.OPERATOR.value] = "frozen by hand"
    assert code(lab, "2", channel_id, 30) is Code.FROZEN
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick(3)
    assert earned(lab) == 20


# --- finding channels ------------------------------------------------------------------------------------------------


def test_channels_opened_funded_and_paid_while_nobody_looked_are_found_by_the_next_start(lab: Lab) -> None:
    known = opened(lab)
    taken(lab, "1", known, 20)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=known, Balance="8")
    lab.rig.submit("alice", "PaymentChannelFund", Channel=known, Amount="500")
    new = lab.rig.open_channel("alice", TILL, Amount="77", SettleDelay=DELAY)
    outgoing = lab.rig.open_channel(TILL, "alice", Amount="77", SettleDelay=DELAY)
    lab.restart()
    seen = {c: (i.channel.amount, i.channel.balance, i.unredeemed) for c, i in lab.mirror.vault.channels.items()}
    assert seen == {known: (1500, 8, 12), new: (77, 0, 0)}
    assert outgoing not in seen
    assert taken(lab, "2", known, 21) == 1, "what was paid meanwhile was held before"


def test_pages_that_are_empty_but_not_the_last_hide_nothing(tmp_path: Path) -> None:
    lab = till(tmp_path / "s.db")
    assert lab.rig.submit(TILL, "TicketCreate", TicketCount=200) == "tesSUCCESS"
    ids = {lab.rig.open_channel("alice", TILL, Amount=str(10 + n), SettleDelay=DELAY) for n in range(5)}
    pages: list[int] = []
    ask = lab.session.request

    async def small(command: str, **parameters: Any) -> Any:
        if command == "account_objects" and parameters["type"] == "payment_channel":
            page = await ask(command, **{**parameters, "limit": 10})
            pages.append(len(page["account_objects"]))
            return page
        return await ask(command, **parameters)

    lab.build()
    ask = lab.session.request
    lab.session.request = small  # type: ignore[method-assign]
    lab.connect()
    assert set(lab.mirror.vault.channels) == ids
    assert 0 in pages[:-1], "a page that is empty and not the last"


def test_a_destination_tag_of_zero_is_kept(lab: Lab) -> None:
    channel_id = opened(lab, DestinationTag=0)
    assert lab.mirror.vault.channels[channel_id].channel.destination_tag == 0  # type: ignore[index]
    lab.restart()
    assert lab.mirror.vault.channels[channel_id].channel.destination_tag == 0  # type: ignore[index]


def test_the_owner_may_use_an_account_that_only_receives(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 20)
    lab.rig.submit(TILL, "Payment", Destination=address("bob"), Amount="1000000")
    lab.tick(2)
    assert not lab.mirror.frozen_wallets.get(TILL)
    assert taken(lab, "2", channel_id, 30) == 10
    lab.tick(3)
    assert lab.on_disk("SELECT sum(paid) FROM redeemed") == [(30,)]


def test_an_account_that_is_not_funded_yet_holds_nothing_up(tmp_path: Path) -> None:
    lab = till(tmp_path / "s.db")
    wallet = lab.mirror.wallets[TILL]
    lab.mirror.by_address.pop(wallet.address)
    wallet.address, wallet.account = Address(address("nobody")), None
    lab.mirror.by_address[wallet.address] = wallet
    lab.connect()
    lab.tick()
    assert lab.mirror.header is not None
    assert lab.mirror.header.index == lab.rig.node.validated.index
    lab.rig.fund("nobody")
    lab.alive(lab.see)
    assert wallet.account is not None, "it is used from the ledger that made it"


# --- in time ---------------------------------------------------------------------------------------------------------


def test_what_is_old_is_collected_though_it_is_little(lab: Lab) -> None:
    taken(lab, "1", opened(lab), 3)
    lab.tick(11)
    assert earned(lab) == 0
    lab.tick(4)
    assert earned(lab) == 3


def test_a_close_requested_by_the_source_is_answered_at_once(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 3)
    assert lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE) == "tesSUCCESS"
    lab.tick(2)
    assert earned(lab) == 3
    lab.tick()
    told = [(e.server, e.event.news.value, e.event.owed, e.event.paid) for e in lab.store.events.waiting(0, 100)]
    assert told == [
        ("a", "channel_closing", None, None),
        ("a", "at_risk", 3, None),
        ("a", "redeemed", None, 3),
    ]
    assert lab.on_disk("SELECT * FROM loss") == []


@pytest.mark.parametrize("stopped", [Cause.OLD_STORE.value, "witness", None])
def test_a_channel_is_not_given_up_for_a_claim_that_may_not_be_the_best(tmp_path: Path, stopped: str | None) -> None:
    """By a store that is known to be old, or before anybody was asked; what the newest one holds comes in time."""
    base = terms()
    policy = replace(base, receive=replace(base.receive, close_with_last=True, worth=10**9, max_age=10**9))
    lab = till(tmp_path / "s.db", policy=policy)
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 100)
    if stopped:
        lab.mirror.frozen[stopped] = "it may be an old copy"
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick(3)
    assert earned(lab) == 100
    ((closed_at,),) = lab.on_disk("SELECT closed_at FROM incoming")
    assert (closed_at is None) is (stopped is not None)


def test_an_expiration_set_by_a_fund_counts_as_a_close(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 3)
    end = lab.rig.pct + DELAY + 50
    fund = lab.rig.submit("alice", "PaymentChannelFund", Channel=channel_id, Amount="1", Expiration=end)
    assert fund == "tesSUCCESS"
    lab.tick(2)
    assert earned(lab) == 3


def test_before_a_fixed_end_it_is_collected(lab: Lab) -> None:
    channel_id = opened(lab, CancelAfter=lab.rig.pct + 150)
    taken(lab, "1", channel_id, 3)
    lab.tick(5)
    assert earned(lab) == 0
    lab.tick(6)
    assert earned(lab) == 3
    told = [(e.event.news.value, e.event.owed, e.event.paid) for e in lab.store.events.waiting(0, 100)]
    assert told == [("at_risk", 3, None), ("redeemed", None, 3)]


def test_it_goes_again_with_a_rising_fee_until_it_is_paid(lab: Lab) -> None:
    lab.tick(12)  # so that it is known how often ledgers close
    channel_id = opened(lab, SettleDelay=600)
    order(lab.rig.node.faults, {"kind": "submit_refuse", "count": 1000, "engine_result": "telCAN_NOT_QUEUE_FULL"})
    taken(lab, "1", channel_id, 990)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    fees: list[int] = []
    numbers: set[int] = set()
    while lab.mirror.vault.channels[channel_id].collectable and 990 not in fees:  # type: ignore[index]
        lab.tick()
        for live in lab.mirror.live.values():
            numbers.add(live.number)
            fees += [live.fee] if live.fee not in fees else []
    lab.rig.node.faults.clear()
    lab.tick(6)  # a node that had no room is left in peace for some ledgers
    assert fees == sorted(fees)
    assert len(fees) > 3
    assert fees[-1] == 990 < lab.policy.guards.urgent_fee_cap, "with little time left all that it is worth is offered"
    assert len(numbers) == 1, "what is replaced can never happen beside its replacement"
    assert earned(lab) == 990


def test_what_comes_too_late_is_a_loss_booked_once(lab: Lab) -> None:
    """The payer's close is seen, and the payout lands when the channel has expired: it succeeds and pays nothing."""
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 20)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.close()
    order(lab.rig.node.faults, {"kind": "delay_validation", "count": 1})
    lab.alive(lab.see)
    (live,) = lab.mirror.live.values()
    for _ in range(12):
        lab.close(30)
        lab.alive(lab.see)
    (redeem,) = [r for r in redeems(lab) if r.tx.hash == live.hash]
    assert redeem.result == "tesSUCCESS"
    assert earned(lab) == 0
    assert lab.on_disk("SELECT channel_id, kind, drops FROM loss") == [(channel_id, "unredeemed", 20)]
    assert lab.on_disk("SELECT * FROM redeemed") == []
    assert lab.on_disk("SELECT note FROM intent WHERE kind = 'redeem' AND status = 'failed'") == [("expired_unpaid",)]
    assert lab.on_disk("SELECT * FROM intent WHERE status IN ('planned', 'signed')") == []


def test_a_channel_that_expired_while_we_were_away_is_a_loss_before_anybody_deletes_it(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 20)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    for _ in range(12):
        lab.close()
    lab.restart()
    assert lab.on_disk("SELECT channel_id, kind, drops FROM loss") == [(channel_id, "unredeemed", 20)]
    assert redeems(lab) == [], "no fee is paid for what cannot be had"
    lab.restart()
    counted: list[int] = []
    telemetry: Any = lab.reconciler._telemetry
    telemetry.lost = lambda _kind, drops: counted.append(drops)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id)
    lab.tick(2)
    assert lab.on_disk("SELECT count(*) FROM loss") == [(1,)]
    assert counted == [], "it was counted when it was lost, and not again when the channel went"
    assert lab.on_disk("SELECT lost, closed_at IS NULL FROM incoming") == [(1, 0)]


def test_a_source_that_pays_by_itself_leaves_nothing_to_collect(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 20)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Balance="20", Flags=CLOSE)
    lab.tick(20)
    assert redeems(lab) == []
    assert earned(lab) == 20
    assert lab.on_disk("SELECT * FROM loss") == []


# --- what others change of it ----------------------------------------------------------------------------------------


def overtaken(lab: Lab, change: Callable[[dict[str, Any]], None]) -> None:
    """Whoever sees a collection hands in one of his own making before it: other than it in what we do not sign."""
    ask = lab.session.request

    async def request(command: str, **parameters: Any) -> Any:
        if command == "submit":
            fields = binarycodec.decode(parameters["tx_blob"])
            if "Signature" in fields:
                change(fields)
                lab.rig.offer(codec.decode(binarycodec.encode(fields)))
        return await ask(command, **parameters)

    lab.session.request = request  # type: ignore[method-assign]


def signed_again(fields: dict[str, Any]) -> None:
    """The payer signs the same claim once more, which gives another signature."""
    digest = hashlib.sha512(claim_message(bytes.fromhex(fields["Channel"]), int(fields["Amount"]))).digest()[:32]
    nonce = (ffi.NULL, ffi.new("unsigned char[32]", b"n" * 32))
    payer = coincurve.PrivateKey(key("ursulaK").private)
    fields["Signature"] = payer.sign(digest, hasher=None, custom_nonce=nonce).hex().upper()


@pytest.mark.parametrize("pays", [False, True])
def test_a_collection_whose_claim_the_payer_signed_again_is_ours_all_the_same(lab: Lab, pays: bool) -> None:
    counted: list[str] = []
    telemetry: Any = lab.reconciler._telemetry
    telemetry.altered, telemetry.foreign = lambda: counted.append("altered"), lambda: counted.append("foreign")
    lab.mirror.wallets[TILL].pays = pays
    channel_id = opened(lab, "ursulaK")
    overtaken(lab, signed_again)
    taken(lab, "1", channel_id, 500, "ursulaK")
    lab.tick(3)
    (redeem,) = redeems(lab)
    assert lab.on_disk("SELECT hash FROM tx") != [(redeem.tx.hash,)]
    assert (counted, lab.on_disk("SELECT * FROM freeze")) == (["altered"], [])
    assert lab.on_disk("SELECT i.status, t.ended FROM intent i JOIN tx t ON t.intent = i.number") == [
        ("done", "tesSUCCESS")
    ]
    assert lab.on_disk("SELECT fee FROM outlay") == [(redeem.tx.fee,)]
    assert lab.on_disk("SELECT paid, hash FROM redeemed") == [(500, redeem.tx.hash)]
    with reading(lab.path) as journal:
        assert [(sent.result, sent.paid) for sent in journal.of_channel(channel_id)[0].sent] == [("tesSUCCESS", 500)]
    assert not lab.mirror.live


def spoilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drops: int, *, delay: int = 900, times: int = 10**6) -> Lab:
    """A source closes a channel on which so much is held, and somebody leaves the claim's signature out so often."""
    left = iter(range(times))

    def without(fields: dict[str, Any]) -> None:
        if next(left, None) is not None:
            del fields["Signature"]

    monkeypatch.setattr("lab.Rig", partial(Rig, fixCleanup3_2_0=True))  # before it, that was not validated at all
    rich = replace(terms().receive, worth=Drops(10**6))
    lab = till(tmp_path / "s.db", policy=replace(terms(), receive=rich))
    lab.tick(12)  # so that it is known how often ledgers close
    channel_id = opened(lab, amount=2000, SettleDelay=delay)
    overtaken(lab, without)
    taken(lab, "1", channel_id, drops)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick()
    return lab


def test_a_collection_that_was_spoilt_before_a_deadline_goes_again_at_once_and_its_fee_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = spoilt(tmp_path, monkeypatch, 500, times=3)
    lab.tick(4)
    assert earned(lab) == 500
    results = [(r.result, r.tx.fee) for r in redeems(lab)]
    assert results == [("tecNO_PERMISSION", 10)] * 3 + [("tesSUCCESS", 10)], "a higher fee would not help"
    assert lab.planner.spending.purse_used(TILL) == 40
    assert lab.on_disk("SELECT count(*) FROM intent") == [(1,)]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_collection_is_spoilt_no_more_often_than_it_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    lab = spoilt(tmp_path, monkeypatch, 45)
    lab.tick(3)
    if restarted:
        request, before = lab.session.request, [(e.attempts, e.spent) for e in lab.mirror.journal.values()]
        lab.restart()
        assert [(e.attempts, e.spent) for e in lab.mirror.journal.values()] == before
        lab.session.request = request  # type: ignore[method-assign]
    lab.tick(90)
    fees = [r.tx.fee for r in redeems(lab)]
    assert fees == [10] * 5, "until the fees are what it would bring, and then no more"
    assert lab.planner.spending.purse_used(TILL) == sum(fees)
    assert lab.on_disk("SELECT kind, drops FROM loss") == [("unredeemed", 45)]


def test_with_little_time_left_no_more_is_offered_than_what_was_spoilt_left_to_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = spoilt(tmp_path, monkeypatch, 1500, delay=DELAY)
    lab.tick(9)
    assert [r.tx.fee for r in redeems(lab)] == [lab.policy.guards.urgent_fee_cap, 500]


def test_a_spoilt_collection_that_can_wait_cools_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.Rig", partial(Rig, fixCleanup3_2_0=True))
    lab = till(tmp_path / "s.db")
    channel_id = opened(lab)
    overtaken(lab, lambda fields: fields.pop("Signature"))
    taken(lab, "1", channel_id, 500)
    lab.tick()
    assert lab.on_disk("SELECT status, note FROM intent") == [("failed", "tecNO_PERMISSION")]
    assert lab.on_disk("SELECT subject, failures FROM setback") == [(channel_id, 1)]
    assert lab.on_disk("SELECT fee, deadline FROM outlay") == [(10, 0)]


# --- deaths ----------------------------------------------------------------------------------------------------------


def life(path: Path, death: Where | None = None, nth: int = 1) -> Lab:
    """Two channels are used and collected; one payer closes, the other is collected when it is worth it."""
    lab = till(path, deadly=lambda where, count: where == death and count == nth)
    one, two = opened(lab, "alice"), opened(lab, "ursulaK")
    for n, drops in enumerate((4, 9, 17)):
        taken(lab, f"one {n}", one, drops)
        taken(lab, f"two {n}", two, drops + 13, "ursulaK")
        lab.tick()
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=one, Flags=CLOSE)
    lab.tick(20)
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=one)
    lab.tick(2)
    return lab


def fate(lab: Lab) -> dict[str, Any]:
    return {
        "earned": earned(lab),
        "taken in": sorted(lab.on_disk("SELECT channel_id, drops, amount FROM taken_in")),
        "held": sorted(lab.on_disk("SELECT channel_id, held, signature, balance, lost FROM incoming")),
        "redeemed": sorted(lab.on_disk("SELECT channel_id, sum(paid) FROM redeemed GROUP BY 1")),
        "loss": lab.on_disk("SELECT * FROM loss"),
        "open": lab.on_disk("SELECT * FROM intent WHERE status IN ('planned', 'signed')"),
        "live": lab.on_disk("SELECT * FROM tx WHERE ended IS NULL"),
    }


def urgent_fees(lab: Lab) -> int:
    """What collecting before a deadline really cost, by the ledger's own history."""
    asked = "SELECT t.hash FROM tx t JOIN intent i ON i.number = t.intent WHERE i.reason = 'source_closes'"
    hashes = {tx_hash for (tx_hash,) in lab.on_disk(asked)}
    return sum(r.tx.fee for r in redeems(lab) if r.tx.hash in hashes)


def test_a_death_at_every_step_of_collecting_loses_nothing_and_collects_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    clean = life(tmp_path / "clean" / "s.db")
    wanted = fate(clean)
    assert wanted["earned"] == 17 + 30
    assert sum(paid for _, paid in wanted["redeemed"]) == 17 + 30
    places = [w for w in sorted(clean.contacts) if w[1] in ("redeem", "")]
    assert {w[0] for w in places} >= {"journaled", "signed", "persisted", "sent", "validated", "outcome_written"}
    for number, where in enumerate(places):
        for nth in range(1, min(2, clean.contacts[where]) + 1):
            folder = tmp_path / f"{number}-{nth}"
            folder.mkdir()
            lab = life(folder / "s.db", where, nth)
            assert lab.died, where
            assert fate(lab) == wanted, (where, nth)
            assert lab.planner.spending.purse_used(TILL) == urgent_fees(lab) > 0, (where, nth)
            lab.store._db.close()


def test_an_account_that_is_to_receive_no_more_is_still_collected_for(lab: Lab) -> None:
    channel_id = opened(lab)
    taken(lab, "1", channel_id, 20)
    lab.follows = False  # the role is taken from the wallet, and the account from the server
    lab.restart()
    assert code(lab, "2", channel_id, 30) is Code.NOT_OURS
    lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=CLOSE)
    lab.tick(3)
    assert earned(lab) == 20
