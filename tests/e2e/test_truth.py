"""A store that is not the newest, or not the only one, does not sign; and nothing that moves money goes unexplained."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.adapters.keystore import write_private
from channeld.adapters.sqlite.reader import read_whole
from channeld.sandbox.stage import POLICY, Server, Stage
from e2e.world import XRP, ContentServer, World, content_server

pytestmark = pytest.mark.slow

SHORT = POLICY.replace('settle_delay = "1h"', 'settle_delay = "2s"')
STARTS = 3
AFTERWARDS_S = 4.0
"""Time for the other one to issue as well, if it would."""


async def cli(stage: Stage, *arguments: str, status: int = 0) -> dict[str, Any]:
    """Run `channeld` as an operator would; its JSON."""
    command = [sys.executable, "-m", "channeld", *arguments, "--config", str(stage.directory / "channeld.toml")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}  # type: ignore[no-any-return]


async def frozen(stage: Stage, cause: str, wallet: str | None = None) -> str:
    """The reason, once the daemon is frozen by this cause."""

    async def reason() -> str | None:
        code, _ = await asyncio.to_thread(stage.get, "/healthz")
        if code != 200:
            return None
        status = await stage.status()
        found = status["frozen_wallets"].get(wallet, {}) if wallet else status["frozen"]
        return found.get(cause)  # type: ignore[no-any-return]

    return str(await until(reason, what=f"frozen by {cause}"))


async def refused(server: ContentServer, request_id: str) -> str:
    reply = await server.ask({"id": request_id, "drops": "5"})
    assert (reply["status"], reply["code"]) == ("rejected", "frozen"), reply
    return str(reply["reason"])


def on_disk(stage: Stage, query: str, *values: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(read_whole(stage.store)) as db:
        return db.execute(query, values).fetchall()


async def heard(server: ContentServer) -> bool:
    with contextlib.suppress(TimeoutError):
        return bool(await server.ask({"id": "heard", "drops": "5"}, timeout_s=1))
    return False


async def signed_then_backup(stage: Stage, server: ContentServer, copy: Path) -> dict[str, Any]:
    """A store that was copied, and signed from after that."""
    await server.buy({"id": "1", "drops": "100"})
    made = await cli(stage, "backup", str(copy), "--why", "daily")
    await server.buy({"id": "2", "drops": "100"})
    await stage.daemon.stop()
    return made


@pytest.mark.parametrize("left", ["all", "yesterday's file", "nothing"])
async def test_yesterdays_store_put_back_does_not_sign(tmp_path: Path, left: str) -> None:
    """By what it is witnessed to be; or, where it was moved and no witness is left, for being put back alone."""
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=SHORT.replace('"2s"', '"6s"'))
        witness = stage.store.with_name("channeld.db.witness")
        async with content_server(world) as server:
            await server.buy({"id": "0", "drops": "1"})
            yesterday = witness.read_text()
            await signed_then_backup(stage, server, tmp_path / "copy.db")
            if left == "yesterday's file":
                witness.write_text(yesterday)
            if left == "nothing":
                witness.unlink()
                stage.name = "channeld-elsewhere"
                stage.write()
            answer = await cli(stage, "restore", str(tmp_path / "copy.db"), "--why", "drill")
            why = "the file beside it" if left == "all" else "restored from a copy"
            assert why in answer["doubt"]
            assert "before-restore" in answer["set_aside"]
            await stage.start(ready=False)
            assert why in await frozen(stage, "old_store")
            await until(lambda: heard(server), what="the broker keeps for it what is asked, under this name too")
            assert why in await refused(server, "3")
            await stage.daemon.stop()
            await stage.start(ready=False)
            assert why in await refused(server, "3"), "no restart forgets it"
            if left == "nothing":
                await frozen(stage, "moved")
                await cli(stage, "thaw", "--why", "nothing runs there", "--cause", "moved")
            await cli(stage, "thaw", "--why", "the newest is lost", "--cause", "old_store")
            old = server.accepted["1"]["claim"]["channel_id"]
            held = server.accepted["2"]["claim"]
            reply = await server.buy({"id": "4", "drops": "7", "held": held})
            assert reply["claim"]["channel_id"] != old, "what the store cannot know it never signs on again"
            ends = "SELECT CAST(balance AS TEXT) FROM channel WHERE channel_id = ? AND closed_at IS NOT NULL"
            paid = await until(lambda: on_disk(stage, ends, old), what="the channel of the old store is gone")
            assert paid == [(held["amount"],)], "what a server can prove is paid all the same"
            told = [(e["who"], e["what"]) for e in (await cli(stage, "audit"))["audit"]]
            assert told.count(("server:a", f"take {old} as signed to {held['amount']}")) == 1


async def two_writers(world: World, label: str, offset_s: float) -> tuple[int, int]:
    """Two daemons with stores of their own on one wallet of their own, the second so much later: what each issued."""
    names = f"a{label}", f"b{label}"
    first, second = [
        await world.stage([Server(name, [world.payee.address])], start=False, name=f"daemon-{name}") for name in names
    ]
    for name in ("hot", "claims"):
        shutil.copy(first.directory / f"secrets/{name}.seed", second.directory / f"secrets/{name}.seed")
    second.wallet = first.wallet
    second.write()
    over = asyncio.Event()
    async with content_server(world, names[0]) as a, content_server(world, names[1]) as b:

        async def known() -> bool:
            """Whether one of them issues, or neither may."""
            return bool(a.accepted or b.accepted) or (await stopped(first) and await stopped(second))

        asking = asyncio.gather(press(a, over), press(b, over))
        try:
            await first.start(ready=False)
            await asyncio.sleep(offset_s)
            await second.start(ready=False)
            await until(known, what="one of the two issues, or neither may")
            await asyncio.sleep(AFTERWARDS_S)
        finally:
            over.set()
            await asking
            for stage in (first, second):
                await stage.daemon.stop()
                world.stages.remove(stage)
        return len(a.accepted), len(b.accepted)


async def test_two_daemons_on_one_wallet_never_both_issue(tmp_path: Path) -> None:
    """The second comes up together with the first, or while it opens, or when it issues already."""
    async with World(tmp_path) as world:
        issued = await asyncio.gather(*(two_writers(world, str(start), start * 2.3) for start in range(STARTS)))
    assert not any(first and second for first, second in issued), issued
    assert any(first or second for first, second in issued), "one of the two does issue, or this shows nothing"


async def test_a_second_daemon_on_the_wallet_is_named_by_both_as_soon_as_it_is_there(tmp_path: Path) -> None:
    """The broker says it before any transaction does; when it is gone nobody speaks of it any more."""
    async with World(tmp_path) as world:
        first = await world.stage([Server("a", [world.payee.address])], name="one")
        second = await world.stage([Server("b", [world.payee.address])], start=False, name="two")
        for name in ("hot", "claims"):
            shutil.copy(first.directory / f"secrets/{name}.seed", second.directory / f"secrets/{name}.seed")
        second.wallet = first.wallet
        second.write()
        assert (await first.status())["warnings"] == []
        await second.start()

        async def named(stage: Stage, other: str) -> bool:
            warned = (await stage.status())["warnings"]
            return any(f"daemon {other} " in w and first.wallet.address in w for w in warned)

        await until(lambda: named(first, "two"), what="the first names the second")
        await until(lambda: named(second, "one"), what="the second names the first")
        second.daemon.kill()

        async def nobody() -> bool:
            return (await first.status())["warnings"] == []

        await until(nobody, what="the will of the dead one is heard")


async def stopped(stage: Stage) -> bool:
    """Whether its wallet is frozen."""
    code, text = await asyncio.to_thread(stage.get, "/api/v1/status")
    return code == 200 and bool(json.loads(text)["frozen_wallets"].get("hot"))


async def press(server: ContentServer, over: asyncio.Event) -> None:
    """Ask without pause until it is over."""
    number = 0
    while not over.is_set():
        number += 1
        with contextlib.suppress(TimeoutError):  # nobody may be there yet
            await server.ask({"id": f"p{number}", "drops": "3"}, timeout_s=1)
        await asyncio.sleep(0.1)


async def test_another_store_under_the_same_name_does_not_sign(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        await stage.daemon.stop()
        shutil.rmtree(stage.directory / "data")
        await stage.start(ready=False)
        assert "bears witness to store" in await frozen(stage, "other_store")
        await cli(stage, "thaw", "--why", "begun anew")
        await stage.ready()
        await cli(stage, "freeze", "--why", "drill", "--who", "eva")
        assert "eva: drill" in await frozen(stage, "operator")
        await stage.daemon.stop()
        await stage.start(ready=False)
        await frozen(stage, "operator")
        await cli(stage, "thaw", "--why", "over")
        await stage.ready()
        told = [(e["who"], e["what"]) for e in (await cli(stage, "audit"))["audit"]]
        assert ("eva", "freeze everything operator") in told


async def balance(stage: Stage) -> int:
    """What the wallet has, as the daemon knows it."""
    return int((await stage.status())["wallets"]["hot"]["balance"])


async def dust(stage: Stage, before: int) -> bool:
    return await balance(stage) == before + 1


async def test_dust_is_booked_and_a_withdrawal_by_hand_freezes(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with content_server(world) as server:
            await server.buy({"id": "1", "drops": "100"})
            before = await balance(stage)
            await world.ledger.fund({stage.wallet.address: 1})
            await until(lambda: dust(stage, before), what="the dust is booked")
            await server.buy({"id": "2", "drops": "100"})
            assert (await cli(stage, "reconcile"))["differences"] == []
            payment = {"TransactionType": "Payment", "Destination": world.payee.address, "Amount": str(5 * XRP)}
            await world.ledger.submit(payment, stage.wallet)
            reason = await frozen(stage, "foreign_transaction", "hot")
            assert "Payment" in reason
            assert "5 XRP left it" in await frozen(stage, "unexplained_decrease", "hot")
            await refused(server, "3")
            for cause in ("foreign_transaction", "unexplained_decrease"):
                await cli(stage, "thaw", "--wallet", "hot", "--cause", cause, "--why", "it was me")
            await server.buy({"id": "3", "drops": "100"})


def create(payee: str, key: str, drops: int) -> dict[str, Any]:
    shape = {"Destination": payee, "Amount": str(drops), "SettleDelay": 2, "PublicKey": key}
    return {"TransactionType": "PaymentChannelCreate", **shape}


async def test_an_unknown_channel_is_quarantined_and_adopted_to_settle_and_close(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=SHORT, start=False)
        made = create(world.payee.address, stage.claim_key.public_key, 3 * XRP)
        await world.ledger.submit(made, stage.wallet)
        await world.ledger.result("ledger_accept")
        await stage.start(ready=False)
        await frozen(stage, "unknown_channels", "hot")
        ((channel),) = (await cli(stage, "channels"))["channels"]
        assert (channel["state"], channel["reason"] is None) == ("quarantined", False)
        channel_id = channel["channel_id"]
        await adopt_with_claim(stage, channel_id)
        await until(lambda: gone(world, channel_id), what="closed on the ledger")
        paid = [e for e in await world.history(stage.wallet.address) if e["tx_json"].get("Balance") == "700"]
        assert len(paid) == 1
        await cli(stage, "thaw", "--wallet", "hot", "--why", "adopted")
        async with content_server(world) as server:
            await server.buy({"id": "1", "drops": "100"})


async def adopt_with_claim(stage: Stage, channel_id: str) -> None:
    from channeld.core.claim import claim_message

    signature = stage.claim_key.signer()(claim_message(bytes.fromhex(channel_id), 700)).hex()
    claims = stage.directory / "claims.json"
    why = ("--claims", str(claims), "--why", "of the old server")
    claims.write_text(json.dumps([{"channel_id": channel_id, "amount": "701", "signature": signature}]))
    await cli(stage, "channels", "adopt", channel_id, *why, status=2)
    claims.write_text(json.dumps([{"channel_id": channel_id, "amount": "700", "signature": signature}]))
    assert (await cli(stage, "channels", "adopt", channel_id, *why))["signed"] == {channel_id: "700"}


async def gone(world: World, channel_id: str) -> bool:
    answer = await world.ledger.ask("ledger_entry", payment_channel=channel_id, ledger_index="validated")
    return "result" not in answer


async def test_a_rebuilt_store_settles_and_closes_what_it_finds_and_goes_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=SHORT)
        async with content_server(world) as server:
            before = await server.buy({"id": "1", "drops": "100"})
            await cli(stage, "rebuild", "--why", "drill", status=2)
            await stage.daemon.stop()
            await cli(stage, "rebuild", "--why", "drill", status=1)
            shutil.rmtree(stage.directory / "data")
            made = await cli(stage, "rebuild", "--why", "the disk is gone")
            assert (made["channels"], made["settle_and_close_only"]) == (1, 1)
            assert (await cli(stage, "reconcile"))["ok"] is True
            await stage.start()
            after = await server.buy({"id": "2", "drops": "100"})
            assert after["claim"]["channel_id"] != before["claim"]["channel_id"]
            await until(lambda: gone(world, before["claim"]["channel_id"]), what="the old channel is closed")


async def test_reconcile_tells_every_difference(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with content_server(world) as server:
            await server.buy({"id": "1", "drops": "100"})
        await stage.daemon.stop()
        import sqlite3

        with sqlite3.connect(stage.store) as db:
            db.execute("UPDATE book SET balance = balance + 7")
            db.execute("UPDATE channel SET amount = amount - 5")
        found = await cli(stage, "reconcile", status=1)
        assert sorted(d["what"] for d in found["differences"]) == ["amount", "balance"]
        assert list(found["difference_drops"].values()) == ["12"]


async def test_nothing_is_changed_without_the_admin_token(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        write_private(stage.directory / "secrets" / "wrong", "not it\n", "wrong")
        (stage.directory / "secrets" / "admin").write_text("something else\n")
        assert "token" in (await cli(stage, "freeze", "--why", "x", status=1))["stderr"]
        await stage.ready()
