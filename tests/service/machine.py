"""Anything that may happen between journal and ledger, in any order, and what must hold whatever did."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lab import PAYEES, WALLETS, WEALTH, Lab, terms
from sandbox.rig import address, key
from service.sums import added_up

from channeld.core.claim import claim_message
from channeld.core.freezes import Cause
from channeld.core.requests import Granted
from channeld.sandbox.ledger.faults import order

CLOSE = 0x00020000
DEPOSIT_AUTH = 9
ANSWERS = ["telINSUF_FEE_P", "telCAN_NOT_QUEUE_FULL", "tefPAST_SEQ", "tefNO_TICKET", "terPRE_SEQ", "telLOCAL_ERROR"]
AT_ONCE = {"submit_answer": {"mode": "lose"}, "delay_validation": {}, "queue": {"ledgers": 2}, "reorder": {}}


class LedgerMachine(RuleBasedStateMachine):
    """One life of a daemon under everything that nodes, payees, strangers and the power supply do to it."""

    runs: ClassVar[int] = 0
    deaths: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).runs += 1
        self.directory = Path(tempfile.mkdtemp(prefix="channeld-soak-"))
        self.asked = 0
        self.best: dict[str, Granted] = {}

    @initialize(stock=st.sampled_from([0, 0, 3]))
    def begin(self, stock: int) -> None:
        self.lab = Lab(self.directory / "s.db", terms(stock=stock))
        self.money = dict.fromkeys(WALLETS, WEALTH)

    # --- what servers, payees and strangers do -----------------------------------------------------------------------

    @rule(payee=st.sampled_from(sorted(PAYEES)), drops=st.integers(1, 20))
    def ask(self, payee: str, drops: int) -> None:
        self.asked += 1
        answer = self.lab.ask(str(self.asked), drops, payee)
        if isinstance(answer, Granted):
            known = self.best.get(answer.claim.channel_id)
            if known is None or known.claim.amount < answer.claim.amount:
                self.best[answer.claim.channel_id] = answer

    @precondition(lambda self: self.best)
    @rule(pick=st.integers(0, 9), close=st.booleans())
    def redeem(self, pick: int, close: bool) -> None:
        """A payee collects what it holds, and perhaps closes."""
        granted = self.best[sorted(self.best)[pick % len(self.best)]]
        payee = next(p for p in PAYEES if address(p) == granted.claim.destination_account)
        fields = {
            "Balance": str(granted.claim.amount),
            "PublicKey": granted.claim.public_key,
            "Signature": granted.claim.signature.hex().upper(),
        }
        assert granted.claim.signature == self._signed(granted)
        self.lab.rig.submit(
            payee, "PaymentChannelClaim", Channel=granted.claim.channel_id, Flags=CLOSE if close else 0, **fields
        )

    def _signed(self, granted: Granted) -> bytes:
        wallet = next(w for w in WALLETS if key(w).public_key == granted.claim.public_key)
        return key(wallet).signer()(claim_message(bytes.fromhex(granted.claim.channel_id), granted.claim.amount))

    @rule(who=st.sampled_from(sorted(PAYEES)), refuses=st.booleans())
    def deposits(self, who: str, refuses: bool) -> None:
        self.lab.rig.submit(who, "AccountSet", **{"SetFlag" if refuses else "ClearFlag": DEPOSIT_AUTH})

    @rule()
    def strangers_delete_what_expired(self) -> None:
        for channel_id, channel in self.lab.channels().items():
            if channel.get("expiration", 2**32) < self.lab.rig.pct:
                self.lab.rig.submit("carol", "PaymentChannelClaim", Channel=channel_id)

    # --- time, nodes, and the power supply ---------------------------------------------------------------------------

    @rule(count=st.integers(1, 4))
    def ledgers(self, count: int) -> None:
        self.lab.tick(count)

    @rule(count=st.integers(1, 15))
    def ledgers_nobody_sees(self, count: int) -> None:
        for _ in range(count):
            self.lab.close()

    @rule(kind=st.sampled_from(sorted(AT_ONCE)), count=st.integers(1, 3))
    def fault(self, kind: str, count: int) -> None:
        order(self.lab.rig.node.faults, {"kind": kind, "count": count, **AT_ONCE[kind]})

    @rule(code=st.sampled_from(ANSWERS), count=st.integers(1, 20))
    def answers_that_say_no(self, code: str, count: int) -> None:
        order(self.lab.rig.node.faults, {"kind": "submit_refuse", "count": count, "engine_result": code})

    @rule(ledgers=st.integers(0, 4))
    def a_node_that_lags(self, ledgers: int) -> None:
        order(self.lab.rig.node.faults, {"kind": "lag", "ledgers": ledgers})
        self.lab.alive(self.lab.connect)

    @rule()
    def killed(self) -> None:
        self.lab.alive(self.lab.restart)

    @rule(after=st.integers(0, 40))
    def killed_soon(self, after: int) -> None:
        """At one of the next contacts with any step."""
        at = sum(self.lab.contacts.values()) + after
        self.lab.deadly = lambda _where, _count: sum(self.lab.contacts.values()) == at

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_done_twice(self) -> None:
        lab = self.lab
        assert not lab.on_disk("SELECT account, number FROM tx WHERE ended IS NULL GROUP BY 1, 2 HAVING count(*) > 1")
        signed = {h: (i, makes) for h, i, makes in lab.on_disk("SELECT hash, intent, makes FROM tx")}
        jobs: Counter[int] = Counter()
        for record in lab.history():
            assert record.tx.hash in signed, "a transaction was sent that is not on disk"
            intent, _ = signed[record.tx.hash]
            if intent is not None:
                jobs[intent] += 1
        assert max(jobs.values(), default=0) <= 1, "two transactions were validated for one intent"
        open_to = Counter(c["destination_account"] for c in lab.channels().values() if "expiration" not in c)
        assert max(open_to.values(), default=0) <= 1, "two channels for one payee"
        for channel in lab.channels().values():
            assert int(channel["amount"]) - int(channel["balance"]) <= 60, "funded above its target"

    @invariant()
    def what_is_committed_adds_up(self) -> None:
        added_up(self.lab.mirror)

    @invariant()
    def money_conserves(self) -> None:
        lab = self.lab
        for wallet, before in self.money.items():
            ours = [r for r in lab.history() if r.tx.account == address(wallet)]
            closed = sum(int(c["amount"]) - int(c["balance"]) for c in self._of(wallet))
            paid = sum(p for _, p in self._paid(wallet))
            assert lab.settled_balance(wallet) + closed + paid + sum(r.tx.fee for r in ours) == before

    def _of(self, wallet: str) -> list[dict[str, Any]]:
        return [c for c in self.lab.channels().values() if c["account"] == address(wallet)]

    def _paid(self, wallet: str) -> list[tuple[str, int]]:
        """Every movement of a Balance in validated metadata of this wallet's channels."""
        found = []
        for record in self.lab.rig.node.history.all():
            for node in record.meta["AffectedNodes"]:
                body = next(iter(node.values()))
                fields, before = body.get("FinalFields", {}), body.get("PreviousFields", {})
                ours = body["LedgerEntryType"] == "PayChannel" and fields.get("Account") == address(wallet)
                if ours and "Balance" in before:
                    moved = int(fields["Balance"]) - int(before["Balance"])
                    assert moved > 0
                    found.append((body["LedgerIndex"], moved))
        return found

    def teardown(self) -> None:
        """Faults end and time passes: store and ledger agree, everything promised and collectable is paid or closed."""
        if not hasattr(self, "lab"):
            return
        lab, type(self).deaths = self.lab, type(self).deaths + len(self.lab.died)
        lab.deadly = lambda _where, _count: False
        lab.rig.node.faults.clear()
        for payee in PAYEES:
            lab.rig.submit(payee, "AccountSet", ClearFlag=DEPOSIT_AUTH)
        lab.close()
        lab.restart()
        lab.tick(60)
        self._agree(lab)
        lab.loop.close()
        lab.store._db.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _agree(self, lab: Lab) -> None:
        assert not {w: f for w, f in lab.mirror.frozen_wallets.items() if Cause.FOREIGN_TRANSACTION.value in f}
        stored = {
            i: (a, b)
            for i, a, b in lab.on_disk("SELECT channel_id, amount, balance FROM channel WHERE closed_at IS NULL")
        }
        assert stored == {i: (int(c["amount"]), int(c["balance"])) for i, c in lab.channels().items()}
        assert lab.on_disk("SELECT * FROM tx WHERE ended IS NULL") == []
        assert lab.on_disk("SELECT * FROM intent WHERE status IN ('planned', 'signed')") == []
        moved = Counter[str]()
        for wallet in WALLETS:
            for channel_id, drops in self._paid(wallet):
                moved[channel_id] += drops
        assert dict(lab.on_disk("SELECT channel_id, sum(paid) FROM payment GROUP BY 1")) == dict(moved)
        self.nothing_is_done_twice()
        self.money_conserves()
