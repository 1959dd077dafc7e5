"""The executor against the sandbox's ledger: tickets, refusals, last ledgers, several wallets."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import WEALTH, Lab, terms
from sandbox.rig import address

from channeld.core.errors import Unreachable
from channeld.core.freezes import Cause
from channeld.core.requests import Granted
from channeld.sandbox.ledger.faults import order

DEPOSIT_AUTH = 9
CLOSE = 0x00020000


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "s.db")


def bought(lab: Lab, number: str, drops: int, payee: str = "bob") -> Granted:
    for _ in range(12):
        lab.ask(number, drops, payee)
        if number in lab.accepted:
            return lab.accepted[number]
        lab.tick()
    raise AssertionError(lab.ask(number, drops, payee))


def results(lab: Lab, kind: str) -> list[str]:
    return [r.result for r in lab.history() if r.tx.type == kind]


# --- a payee that takes no payout ------------------------------------------------------------------------------------


def test_a_payout_the_payee_refuses_is_reported_and_the_close_goes_alone(lab: Lab) -> None:
    told: list[tuple[str, str]] = []
    lab.reconciler.on_refused = lambda entry, code: told.append((entry.action.kind.value, code))
    granted = bought(lab, "1", 7)
    assert lab.rig.submit("bob", "AccountSet", SetFlag=DEPOSIT_AUTH) == "tesSUCCESS"
    lab.tick(60)
    claims = [r for r in lab.history() if r.tx.type == "PaymentChannelClaim"]
    refused = [r for r in claims if r.result == "tecNO_PERMISSION"]
    assert told[0][1] == "tecNO_PERMISSION"
    assert {kind for kind, _ in told} <= {"settle", "request_close"}
    assert len(told) == len(refused)
    closes = [r for r in claims if r.result == "tesSUCCESS" and "Balance" not in r.tx.json]
    assert closes, "the close was requested alone"
    assert granted.claim.channel_id not in lab.channels()
    assert len(refused) < 10, "no fee is burnt for ever"
    assert sum(r.tx.fee for r in refused) <= 100 * len(refused), "a refused payout is not worth more than the usual fee"


def test_cooldowns_and_refusals_survive_a_restart(lab: Lab) -> None:
    bought(lab, "1", 7)
    lab.rig.submit("bob", "AccountSet", SetFlag=DEPOSIT_AUTH)
    while not lab.mirror.setbacks:
        lab.tick()
    before = dict(lab.mirror.setbacks)
    lab.restart()
    assert lab.mirror.setbacks == before
    count = len(lab.history())
    lab.restart()
    lab.close(1)
    lab.alive(lab.see)
    assert len(lab.history()) == count


# --- tickets ---------------------------------------------------------------------------------------------------------


def test_the_stock_is_made_used_first_and_made_up_again(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "s.db", terms(stock=3))
    lab.tick(2)
    assert len(lab.mirror.tickets) == 6
    bought(lab, "1", 5)
    lab.tick(3)
    (create,) = [r for r in lab.history() if r.tx.type == "PaymentChannelCreate"]
    assert create.tx.ticket is not None
    assert len(lab.on_disk(f"SELECT * FROM ticket WHERE account = '{address('hot')}'")) == 3


def test_tickets_somebody_else_made_are_left_alone(lab: Lab) -> None:
    assert lab.rig.submit("hot", "TicketCreate", TicketCount=3) == "tesSUCCESS"
    lab.tick(2)
    lab.restart()
    assert lab.mirror.tickets == set()


def test_a_ticket_gone_from_the_ledger_is_forgotten_at_the_next_connect(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "s.db", terms(stock=3))
    lab.tick(2)
    gone = lab.mirror.free_tickets(lab.mirror.wallets["hot"])[0]
    assert lab.rig.submit("hot", "AccountSet", Sequence=0, TicketSequence=gone) == "tesSUCCESS"
    lab.close()
    lab.restart()
    assert (address("hot"), gone) not in lab.mirror.tickets


# --- the last ledger -------------------------------------------------------------------------------------------------


def test_validated_exactly_in_its_last_ledger_counts_and_nothing_is_done_twice(lab: Lab) -> None:
    order(lab.rig.node.faults, {"kind": "delay_validation", "count": 1})
    lab.ask("1", 5)
    (live,) = lab.mirror.live.values()
    while lab.rig.node.validated.index < live.last_ledger:
        assert list(lab.mirror.live.values()) == [live], "one number, one live transaction"
        lab.tick()
    assert results(lab, "PaymentChannelCreate") == ["tesSUCCESS"]
    assert lab.on_disk("SELECT status FROM intent") == [("done",)]
    assert lab.on_disk("SELECT ledger FROM tx") == [(live.last_ledger,)]
    bought(lab, "1", 5)
    assert results(lab, "PaymentChannelCreate") == ["tesSUCCESS"]


def test_one_that_never_lands_is_dead_only_after_its_last_ledger_and_its_number_is_reused(lab: Lab) -> None:
    order(lab.rig.node.faults, {"kind": "submit_refuse", "count": 1000, "engine_result": "telCAN_NOT_QUEUE_FULL"})
    lab.ask("1", 5)
    (first,) = lab.mirror.live.values()
    while lab.rig.node.validated.index <= first.last_ledger:
        assert list(lab.mirror.live.values()) == [first]
        lab.tick()
    (second,) = lab.mirror.live.values()
    assert second.hash != first.hash
    assert (second.number, second.ticket) == (first.number, first.ticket)
    assert second.fee > first.fee
    lab.rig.node.faults.clear()
    lab.tick(5)
    assert results(lab, "PaymentChannelCreate") == ["tesSUCCESS"]


def test_a_payout_that_meets_an_expired_channel_succeeds_and_is_booked_as_paying_nothing(lab: Lab) -> None:
    granted = bought(lab, "1", 7)
    assert lab.rig.submit("hot", "PaymentChannelClaim", Channel=granted.claim.channel_id, Flags=CLOSE) == "tesSUCCESS"
    lab.close()
    order(lab.rig.node.faults, {"kind": "delay_validation", "count": 1})
    lab.alive(lab.see)
    lab.mirror.stopped.thaw("hot", Cause.FOREIGN_TRANSACTION)  # the operator closed it by hand, and says so
    lab.tick()
    (live,) = lab.mirror.live.values()
    while lab.rig.node.validated.index < live.last_ledger:
        lab.close(20)
        lab.alive(lab.see)
    assert lab.on_disk(f"SELECT ended FROM tx WHERE hash = '{live.hash}'") == [("tesSUCCESS",)]
    assert lab.on_disk(f"SELECT status, note FROM intent WHERE number = {live.intent}") == [
        ("failed", "expired_unpaid")
    ]
    assert lab.on_disk("SELECT * FROM payment") == []
    assert lab.rig.balance("bob") == WEALTH


# --- several wallets -------------------------------------------------------------------------------------------------


def test_one_wallet_that_is_stuck_does_not_hold_up_another(lab: Lab) -> None:
    refuse = lab.session.submit

    async def submit(blob: str) -> object:
        live = next(t for t in lab.mirror.live.values() if t.blob == blob)
        if live.wallet == "hot":
            raise Unreachable("slow")
        return await refuse(blob)

    lab.session.submit = submit  # type: ignore[method-assign, assignment]
    lab.ask("1", 5, "bob")
    bought(lab, "2", 5, "dave")
    assert len(lab.mirror.live) == 1


def test_a_network_above_1024_is_named_in_every_transaction(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "s.db", network_id=2000)
    bought(lab, "1", 5)
    assert {r.tx.json["NetworkID"] for r in lab.history()} == {2000}
