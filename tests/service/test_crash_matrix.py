"""A death before and after every step of every kind of intent: what comes after it ends as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import PAYEES, Lab, Where, terms
from sandbox.rig import address

from channeld.core.intents import SettleChannel, Status
from channeld.service.steps import Step

ASKS = {str(n): ("dave" if n % 3 == 0 else "bob", 7) for n in range(9)}


def life(path: Path, death: Where | None = None, nth: int = 1) -> Lab:
    """Channels of two wallets opened, used, funded, paid, closed, deleted, archived; the process dies where told."""
    lab = Lab(path, terms(stock=2), deadly=lambda where, count: where == death and count == nth)
    for number, (payee, drops) in ASKS.items():
        for _ in range(12):
            lab.ask(number, drops, payee)
            if number in lab.accepted:
                break
            lab.tick()
    overtaken(lab)
    lab.tick(70)
    lab.tidy()
    return lab


def overtaken(lab: Lab) -> None:
    """A payout is decided and not signed yet when the payee collects by itself: nothing is left to do for it."""
    lab.signs(False)
    for _ in range(16):
        lab.tick()
        if planned := unsigned(lab):
            break
    for channel_id in planned:
        claims = [g.claim for g in lab.accepted.values()]
        best = max((claim for claim in claims if claim.channel_id == channel_id), key=lambda claim: claim.amount)
        payee = next(p for p in PAYEES if address(p) == best.destination_account)
        signature = {"PublicKey": best.public_key, "Signature": best.signature.hex().upper()}
        lab.rig.submit(payee, "PaymentChannelClaim", Channel=channel_id, Balance=str(best.amount), **signature)
    lab.signs(True)


def unsigned(lab: Lab) -> set[str]:
    """Channels with a payout that is decided and not signed."""
    open_now = [e.action for e in lab.mirror.journal.values() if e.status is Status.PLANNED]
    return {action.channel_id for action in open_now if isinstance(action, SettleChannel)}


def fate(lab: Lab) -> dict[str, Any]:
    """What must be the same whoever died: everything but fees, numbers and times."""
    store = (
        "SELECT count(*), sum(balance), sum(signed), sum(paid), sum(closed_by = ''), sum(opened_by = '') FROM archive"
    )
    promised = lab.on_disk("SELECT channel_id FROM archive WHERE signed <> balance")
    return {
        "accepted": sorted(lab.accepted),
        "paid": {p: lab.rig.balance(p) for p in PAYEES},
        "on the ledger": lab.channels(),
        "promised and not paid": promised,
        "payments": lab.on_disk("SELECT destination, sum(paid) FROM archive GROUP BY 1"),
        "store": lab.on_disk(store),
        "not archived": lab.on_disk("SELECT channel_id FROM channel"),
        "left over": lab.on_disk(
            "SELECT number FROM tombstone UNION ALL SELECT count(*) FROM payment HAVING count(*)"
            " UNION ALL SELECT number FROM intent WHERE channel_id IN (SELECT channel_id FROM archive)"
        ),
        "open": lab.on_disk("SELECT * FROM intent WHERE status IN ('planned', 'signed')"),
        "live": lab.on_disk("SELECT * FROM tx WHERE ended IS NULL"),
        "tickets": len(lab.on_disk("SELECT * FROM ticket")),
        "wallets": {w: lab.rig.balance(w) + fees(lab, w) for w in ("hot", "cold")},
        "freezes": {k: v for k, v in lab.mirror.frozen_wallets.items() if v},
    }


def fees(lab: Lab, wallet: str) -> int:
    return sum(r.tx.fee for r in lab.history() if r.tx.account == address(wallet))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return life(tmp_path_factory.mktemp("clean") / "s.db")


def test_the_life_without_a_death_passes_every_step_and_leaves_nothing(clean: Lab) -> None:
    found = fate(clean)
    assert not clean.died
    assert {w[0] for w in clean.contacts} == {s.value for s in Step}
    kinds = {"open", "fund", "settle", "request_close", "finalize_close"}
    for step in ("number_reserved", "signed", "sent", "answered"):
        assert {w[1] for w in clean.contacts if w[0] == step} >= kinds, step
    assert found["accepted"] == sorted(ASKS)
    assert (found["not archived"], found["left over"], found["promised and not paid"]) == ([], [], [])
    assert found["store"] == [(2, 63, 63, 63, 0, 0)]
    assert (found["on the ledger"], found["open"], found["live"]) == ({}, [], [])
    assert sum(drops for _, drops in found["payments"]) == 7 * len(ASKS)


@pytest.mark.parametrize("nth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_death_at_every_step_ends_as_the_life_without_one(
    clean: Lab, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], nth: int
) -> None:
    """Every step, before and after, of every kind of transaction: its first occasion, and its second."""
    wanted, places = fate(clean), [where for where in sorted(clean.contacts) if clean.contacts[where] >= nth]
    for where in places:
        lab = life(tmp_path_factory.mktemp("life") / "s.db", where, nth)
        assert lab.died, where
        assert fate(lab) == wanted, (where, nth)
        lab.store._db.close()
    with capsys.disabled():
        print(f"\ncrash matrix: a death at {len(places)} places (step x kind x before/after), all ended alike")
