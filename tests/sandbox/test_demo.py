"""`channeld demo` as a user runs it, and the parts of it that need no processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from channeld.adapters.signer import derive
from channeld.adapters.sqlite.reader import read_whole
from channeld.core.claim import claim_message
from channeld.core.errors import StoreError
from channeld.core.units import Address, Payee
from channeld.sandbox.demo.accounting import INVARIANTS
from channeld.sandbox.demo.cast import cast, policy, spellings, treasury
from channeld.sandbox.demo.verifier import Verifier
from channeld.sandbox.ledger_client import GENESIS_ADDRESS, GENESIS_SEED
from channeld.sandbox.stage import PATIENCE_S
from channeld.settings import load_policy
from channeld.wire.payee import parse_payee

ROOT = Path(__file__).parents[2]
FIELDS = {
    "seconds", "servers", "requests", "accepted", "rejected", "verified", "channels_opened", "channels_funded",
    "channels_settled", "channels_closed", "drops_issued", "drops_settled", "ledgers", "claims_per_second",
    "latency_ms", "invariants", "ok",
}  # fmt: skip


def _demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo as a process, its directory below `tmp_path`."""
    return subprocess.Popen(
        [sys.executable, "-m", "channeld", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


def _left_over(tmp_path: Path) -> list[str]:
    """Processes that still run in a directory."""
    running = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve().is_relative_to(tmp_path):
                running.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return running


def _remembered(tmp_path: Path) -> int:
    """Requests that the daemon of the demo has accepted so far."""
    try:
        (path,) = tmp_path.glob("channeld-demo-*/data/channeld.db")
        with closing(read_whole(path)) as db:
            return int(db.execute("SELECT count(*) FROM request").fetchone()[0])
    except (ValueError, StoreError):
        return 0


@pytest.mark.slow
def test_the_demo_adds_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    started = time.monotonic()
    demo = _demo(tmp_path, "--seconds", "8", "--json")
    out, err = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, err
    (line,) = out.splitlines()
    summary = json.loads(line)
    assert summary.keys() >= FIELDS
    assert summary["ok"] is True
    assert summary["invariants"] == dict.fromkeys(INVARIANTS, True)
    assert summary["latency_ms"].keys() == {"p50", "p99"}
    assert summary["accepted"] > 0 < summary["replayed"]
    assert summary["verified"] == summary["accepted"] + summary["replayed"]
    assert summary["requests"] == summary["verified"] + summary["rejected"]
    assert summary["channels_opened"] == 5
    assert int(summary["drops_issued"]) >= int(summary["drops_settled"]) > 0
    assert time.monotonic() - started < 60
    assert list(tmp_path.iterdir()) == _left_over(tmp_path) == []


@pytest.mark.slow
def test_interrupted_it_still_accounts_for_everything(tmp_path: Path) -> None:
    demo = _demo(tmp_path, "--seconds", "600", "--servers", "1", "--rate", "20")
    deadline = time.monotonic() + 60
    while _remembered(tmp_path) < 20:
        assert time.monotonic() < deadline
        assert demo.poll() is None
        time.sleep(0.1)
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, err
    assert json.loads(out)["seconds"] < 60
    assert re.search(r"every_reply_verified\W+holds", err)
    assert err.splitlines()[-1] == "ok"
    assert list(tmp_path.iterdir()) == _left_over(tmp_path) == []


@pytest.mark.parametrize(("rate", "servers"), [(0.1, 1), (50, 3), (100_000, 1000)])
def test_the_policy_of_any_demo_is_a_good_one(tmp_path: Path, rate: float, servers: int) -> None:
    payees = sum(len(role.payees) for role in cast(servers))
    (tmp_path / "policy.toml").write_text(policy(rate, payees))
    assert load_policy(tmp_path / "policy.toml").pools["standard"].wallet == "hot"
    assert treasury(20, rate, payees) <= 10**16


@pytest.mark.parametrize("servers", [1, 2, 3, 40])
def test_payees_differ_and_some_are_left_early(servers: int) -> None:
    roles = cast(servers)
    payees = [payee for role in roles for payee in role.payees]
    assert len({role.name for role in roles}) == servers
    assert len(set(payees)) == len(payees)
    assert {len(role.payees) for role in roles} <= {1, 2}
    assert any(role.leaves for role in roles)
    assert any(set(role.payees) - role.leaves for role in roles)
    for payee in payees:
        assert {parse_payee(text, "payee", 0) for text in spellings(payee)} == {payee}


class _Ledger:
    """Answers `ledger_entry` with a channel of a growing amount, and counts how often it was asked."""

    def __init__(self, public_key: str, destination: str, amounts: list[int]) -> None:
        self.node = {"Account": "rSource", "Destination": destination, "PublicKey": public_key, "SettleDelay": 1}
        self.amounts, self.asked = amounts, 0

    async def ask(self, command: str, **parameters: object) -> dict[str, object]:
        assert (command, parameters["ledger_index"]) == ("ledger_entry", "validated")
        self.asked += 1
        amount = self.amounts[min(self.asked, len(self.amounts)) - 1]
        return {"result": {"validated": True, "node": {**self.node, "Amount": str(amount)}}}


KEY = derive(GENESIS_SEED, "secp256k1")
PAYEE = Payee(Address(GENESIS_ADDRESS))
CHANNEL = "AB" * 32


def _reply(amount: int, start: int, end: int) -> dict[str, object]:
    signature = KEY.signer()(claim_message(bytes.fromhex(CHANNEL), amount)).hex().upper()
    claim = {"channel_id": CHANNEL, "amount": str(amount), "signature": signature, "public_key": KEY.public_key}
    return {
        "drops": str(end - start),
        "covers": {"from": str(start), "to": str(end)},
        "claim": claim,
        "source_account": "rSource",
        "destination_account": PAYEE.account,
        "destination_tag": None,
        "headroom": "0",
    }


async def test_a_good_reply_is_found_good_and_its_channel_is_read_only_when_needed() -> None:
    ledger = _Ledger(KEY.public_key, PAYEE.account, [100, 200])
    verifier = Verifier(ledger, "rSource", KEY.public_key)  # type: ignore[arg-type]
    assert await verifier.check(_reply(50, 0, 50), 50, PAYEE) == []
    assert await verifier.check(_reply(100, 50, 100), 50, PAYEE) == []
    assert ledger.asked == 1
    assert await verifier.check(_reply(150, 100, 150), 50, PAYEE) == []
    assert ledger.asked == 2
    (problem,) = await verifier.check(_reply(201, 150, 201), 51, PAYEE)
    assert "above the channel's 200" in problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"drops": "49"}, "granted"),
        ({"covers": {"from": "1", "to": "50"}}, "covered"),
        ({"covers": {"from": "60", "to": "110"}}, "below what it covers"),
        ({"source_account": "rOther"}, "source_account"),
        ({"destination_account": "rOther"}, "destination_account"),
        ({"destination_tag": 0}, "destination_tag"),
        ({"headroom": None}, "form"),
        ({"claim": None}, "form"),
    ],
)
async def test_what_is_wrong_with_a_reply_is_said(change: dict[str, object], problem: str) -> None:
    verifier = Verifier(_Ledger(KEY.public_key, PAYEE.account, [100]), "rSource", KEY.public_key)  # type: ignore[arg-type]
    found = await verifier.check({**_reply(50, 0, 50), **change}, 50, PAYEE)
    assert problem in " ".join(found)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("amount", "51", "does not verify"),
        ("signature", "00" * 70, "does not verify"),
        ("signature", "zz", "hex"),
        ("public_key", derive("sEdTM1uX8pu2do5XvTnutH6HsouMaM2", "ed25519").public_key, "announced"),
        ("channel_id", "AB", "form"),
    ],
)
async def test_what_is_wrong_with_a_claim_is_said(field: str, value: str, problem: str) -> None:
    verifier = Verifier(_Ledger(KEY.public_key, PAYEE.account, [100]), "rSource", KEY.public_key)  # type: ignore[arg-type]
    reply = _reply(50, 0, 50)
    reply["claim"] = {**reply["claim"], field: value}  # type: ignore[dict-item]
    assert problem in " ".join(await verifier.check(reply, 50, PAYEE))


async def test_a_channel_that_is_another_one_is_refused() -> None:
    verifier = Verifier(_Ledger(KEY.public_key, "rOther", [100]), "rSource", KEY.public_key)  # type: ignore[arg-type]
    (problem,) = await verifier.check(_reply(50, 0, 50), 50, PAYEE)
    assert "rOther" in problem
