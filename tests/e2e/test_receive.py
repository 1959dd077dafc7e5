"""Payers pay us: real Mosquitto, a sandbox ledger, a daemon that is killed, and claims that xrpl-py signed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from waiting import until
from xrpl.core import binarycodec, keypairs

from channeld.adapters.signer import KeyPair, account_id
from channeld.adapters.sqlite.reader import read_whole
from channeld.core.claim import channel_id_of
from channeld.sandbox.stage import PATIENCE_S, POLICY, Server, Stage
from e2e.world import XRP, ContentServer, World, content_server, new_account

pytestmark = pytest.mark.slow

CLOSE = 0x00020000
TERMS = '[receive]\nmin_settle_delay = "10s"\nworth = "50 XRP"\nmax_age = "1h"\n'
DELAY, SHORT = 90, 10
"""Settle delays: what a daemon that is killed and started can keep, and what one that is down cannot."""


def signed(payer: KeyPair, channel_id: str, drops: int) -> dict[str, str]:
    """A claim as a payer's own tools make one."""
    message = binarycodec.encode_for_signing_claim({"channel": channel_id, "amount": str(drops)})
    prefix = "ED" if payer.key_type == "ed25519" else "00"
    signature = keypairs.sign(bytes.fromhex(message), prefix + payer.private.hex().upper())
    return {"channel_id": channel_id, "amount": str(drops), "signature": signature, "public_key": payer.public_key}


class Payer:
    """A stranger with money, who opens channels to us."""

    def __init__(self, world: World, stage: Stage, *, key_type: Any = "ed25519") -> None:
        assert stage.till is not None
        self.world, self.till, self.key = world, stage.till.address, new_account(key_type)

    async def open(self, amount: int = 10 * XRP, **fields: Any) -> str:
        """A channel in a validated ledger."""
        await self.world.ledger.fund({self.key.address: 1000 * XRP, self.till: 100 * XRP})
        create = {
            "TransactionType": "PaymentChannelCreate",
            "Destination": self.till,
            "Amount": str(amount),
            "SettleDelay": DELAY,
            "PublicKey": self.key.public_key,
            **fields,
        }
        answer = await self.world.ledger.submit(create, self.key)
        assert answer["engine_result"] == "tesSUCCESS"
        sequence = answer["tx_json"]["Sequence"]
        channel_id = channel_id_of(account_id(self.key.address), account_id(self.till), sequence)
        await until(lambda: self.entry(channel_id), what="the channel is validated")
        return channel_id

    async def entry(self, channel_id: str) -> dict[str, Any] | None:
        """The channel as the last validated ledger has it."""
        listed = await self.world.ledger.channels(self.key.address)
        return next((c for c in listed if c["channel_id"] == channel_id), None)

    async def over(self, channel_id: str) -> bool:
        """Whether a validated ledger is later than the channel's end."""
        found, result = await self.entry(channel_id), await self.world.ledger.result("ledger", ledger_index="validated")
        return found is not None and result["ledger"]["close_time"] > found.get("expiration", 2**32)

    async def close(self, channel_id: str, flags: int = CLOSE) -> None:
        claim = {"TransactionType": "PaymentChannelClaim", "Channel": channel_id, "Flags": flags}
        assert (await self.world.ledger.submit(claim, self.key))["engine_result"] == "tesSUCCESS"


async def hand_in(
    server: ContentServer, number: str, claim: dict[str, str], timeout_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Hand in until there is an answer that stays, the same id again and again."""
    payload = json.dumps({"id": number, "claim": claim})
    async with asyncio.timeout(timeout_s):
        while True:
            future = server.expect(number)
            await server.publish(payload, "receive")
            done, _ = await asyncio.wait({future}, timeout=2)
            if done and future.result().get("retry_after_ms") is None:
                answer: dict[str, Any] = future.result()
                return answer
            await asyncio.sleep(0.3)


async def balance(world: World, account: str) -> int:
    result = await world.ledger.result("account_info", account=account, ledger_index="validated")
    return int(result["account_data"]["Balance"])


async def fees_of(world: World, account: str) -> int:
    return sum(int(e["tx_json"]["Fee"]) for e in await world.history(account) if e["tx_json"]["Account"] == account)


def in_store(stage: Stage, query: str) -> list[Any]:
    with closing(read_whole(stage.store)) as db:
        return db.execute(query).fetchall()


async def receiving(world: World) -> Stage:
    return await world.stage([Server("a", [world.payee.address], receives=True)], policy=POLICY + TERMS)


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
async def test_a_payer_who_closes_pays_exactly_what_was_accepted_though_we_are_killed(
    tmp_path: Path, key_type: str
) -> None:
    async with World(tmp_path) as world:
        stage = await receiving(world)
        payer = Payer(world, stage, key_type=key_type)
        channel_id = await payer.open()
        till = payer.till
        async with content_server(world) as server:
            before = await balance(world, till)
            accepted = 0
            for number, drops in enumerate((500_000, 1_200_000, 3_000_000)):
                answer = await hand_in(server, str(number), signed(payer.key, channel_id, drops))
                assert answer["status"] == "accepted", answer
                assert answer["amount"] == str(drops)
                accepted += int(answer["drops"])
                stage.daemon.kill()
                await stage.start(ready=False)
            again = await hand_in(server, "1", signed(payer.key, channel_id, 1_200_000))
            assert (again["replayed"], again["drops"]) == (True, "700000")
            lower = await hand_in(server, "9", signed(payer.key, channel_id, 2_000_000))
            assert lower["code"] == "amount_not_higher"
            assert accepted == 3_000_000

            await payer.close(channel_id)
            await until(lambda: in_store(stage, "SELECT 1 FROM tx WHERE wallet = 'till'"), what="it is being collected")
            stage.daemon.kill()
            await stage.start(ready=False)

            async def paid() -> bool:
                found = await payer.entry(channel_id)
                return found is not None and found["balance"] == "3000000"

            await until(paid, what="it is collected before the channel ends")
            assert await balance(world, till) == before + accepted - await fees_of(world, till)
            await until(lambda: in_store(stage, "SELECT paid FROM redeemed") == [(3_000_000,)])
            late = await hand_in(server, "10", signed(payer.key, channel_id, 3_100_000))
            assert late["code"] == "channel_closing"
            mine = [e for e in await world.history(till) if e["tx_json"]["Account"] == till]
            assert len(mine) == 1, "collected once"
            assert mine[0]["tx_json"].get("Flags", 0) & CLOSE == 0


async def test_a_claim_on_a_channel_that_pays_somebody_else_is_told_so(tmp_path: Path) -> None:
    """By the daemon as it runs: the ledger's entry tells, and the id stays free for a claim that is ours."""
    async with World(tmp_path) as world:
        stage = await receiving(world)
        payer = Payer(world, stage)
        mine, payer.till = await payer.open(), world.payee.address
        other = await payer.open()
        async with content_server(world) as server:
            assert (await hand_in(server, "1", signed(payer.key, other, 5)))["code"] == "not_ours"
            assert (await hand_in(server, "1", signed(payer.key, mine, 5)))["status"] == "accepted"


RULES = """
[redeem]
mode = "suggest"
[[redeem.rule]]
name  = "small-change"
match = { unredeemed = { lt = "1 XRP" } }
act   = "hold"
[[redeem.rule]]
name  = "till"
match = { wallet = { in = ["till"] } }
act   = "redeem"
"""


async def test_rules_decide_when_it_is_collected_and_explain_and_plan_tell_so(tmp_path: Path) -> None:
    """Held by a rule, then suggested, then done once the mode applies; a deadline is waited for by nobody."""
    async with World(tmp_path) as world:
        server_of = Server("a", [world.payee.address], receives=True)
        stage = await world.stage([server_of], policy=POLICY + TERMS + RULES)
        payer = Payer(world, stage)
        small, large = await payer.open(), await payer.open(CancelAfter=await soon(world))
        async with content_server(world) as server:
            await hand_in(server, "1", signed(payer.key, small, 900_000))
            await hand_in(server, "2", signed(payer.key, large, 2_000_000))
        asked = f"/api/v1/explain?what={large}"
        now = json.loads((await asyncio.to_thread(stage.get, asked))[1])["now"]
        assert (now["answer"], now["action"], now["reason"]) == ("would", "redeem", "suggested")
        assert (now["by"], now["terms"]["redeem.worth"]) == ("rule redeem/till", 50_000_000)
        plan = json.loads((await asyncio.to_thread(stage.get, "/api/v1/plan"))[1])
        assert (plan["receiving"], plan["do"]) == (2, [])
        assert [(each["subject"], each["target"], each["rules"]) for each in plan["would"]] == [
            (large, "2000000", ["redeem/till"])
        ]
        assert plan["left_alone"]["rule"]["subjects"] == [small]
        assert (await stage.status())["suggestions"]["subjects"] == [large]
        assert in_store(stage, "SELECT * FROM intent") == []
        (stage.directory / "policy.toml").write_text((POLICY + TERMS + RULES).replace('"suggest"', '"apply"'))
        await until(lambda: in_store(stage, "SELECT paid FROM redeemed") == [(2_000_000,)])
        await payer.close(small)
        await until(lambda: in_store(stage, "SELECT sum(paid) FROM redeemed") == [(2_900_000,)])
        purse = (await stage.status())["deadline_purses"]["till"]
        assert (purse["limit"], purse["window_s"], purse["covered"], purse["passed"]) == ("1000000", 86_400, True, 0)
        assert 0 < int(purse["used"]) < 100_000, "what it cost, and no worst case any more"
        chain = json.loads((await asyncio.to_thread(stage.get, f"/api/v1/explain?what={small}"))[1])["chain"]
        (done,) = [link for link in chain if link["answer"] == "done"]
        assert (done["because"], done["by"]) == ("source_closes", "its deadline, which no rule holds back")


async def soon(world: World) -> int:
    """A fixed end that is not near: some hours from now, in the ledger's time."""
    result = await world.ledger.result("ledger", ledger_index="validated")
    return int(result["ledger"]["close_time"]) + 10 * 3600


async def test_what_expires_while_we_are_down_is_a_loss_and_shown(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await receiving(world)
        payer = Payer(world, stage)
        channel_id = await payer.open(SettleDelay=SHORT)
        async with content_server(world) as server:
            answer = await hand_in(server, "1", signed(payer.key, channel_id, 2_000_000))
            assert answer == {
                "id": "1",
                "status": "accepted",
                "drops": "2000000",
                "amount": "2000000",
                "replayed": False,
            }
            stranger = await hand_in(server, "2", signed(new_account(), channel_id, 3_000_000))
            assert stranger["code"] == "bad_signature"
        (shown,) = (await asyncio.to_thread(listed, stage))["channels"]
        assert (shown["direction"], shown["channel_id"], shown["held"]) == ("in", channel_id, "2000000")
        assert (await stage.status())["receiving"]["unredeemed"] == "2000000"
        before = await balance(world, payer.till)
        stage.daemon.kill()
        await payer.close(channel_id)
        await until(lambda: payer.over(channel_id), what="the channel has ended")
        await stage.start()
        metrics = (await asyncio.to_thread(stage.get, "/metrics"))[1]
        assert 'channeld_lost_drops_total{kind="unredeemed"} 2e+06' in metrics
        assert in_store(stage, "SELECT kind, drops FROM loss") == [("unredeemed", 2_000_000)]
        assert in_store(stage, "SELECT * FROM redeemed") == []
        assert await balance(world, payer.till) == before, "no fee is paid for what cannot be had"
        (shown,) = (await asyncio.to_thread(listed, stage))["channels"]
        assert shown["lost"] is True
        code, answer = await asyncio.to_thread(stage.get, "/api/v1/reconcile")
        assert json.loads(answer)["ok"] is True, (code, answer)


def listed(stage: Stage) -> dict[str, Any]:
    """What `channeld channels` prints."""
    command = [sys.executable, "-m", "channeld", "channels", "--config", str(stage.directory / "channeld.toml")]
    answer: dict[str, Any] = json.loads(
        subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S).stdout
    )
    return answer


async def test_hundreds_of_claims_are_taken_in_while_daemons_die(tmp_path: Path) -> None:
    """What was accepted sums up to the best claim, whoever died, and that is what comes in."""
    async with World(tmp_path) as world:
        stage = await receiving(world)
        payer = Payer(world, stage)
        channel_id = await payer.open()
        async with content_server(world) as server:
            before = await balance(world, payer.till)
            answers: dict[str, dict[str, Any]] = {}

            async def one(number: int) -> None:
                claim = signed(payer.key, channel_id, 10_000 * (number + 1))
                answers[str(number)] = await hand_in(server, str(number), claim, 90)

            for start in range(0, 120, 30):
                working = asyncio.gather(*(one(n) for n in range(start, start + 30)))
                await asyncio.sleep(0.2)
                stage.daemon.kill()
                await stage.start(ready=False)
                await working
            taken = [a for a in answers.values() if a["status"] == "accepted"]
            assert {a.get("code") for a in answers.values()} <= {None, "amount_not_higher"}
            assert sum(int(a["drops"]) for a in taken) == 1_200_000
            await payer.close(channel_id)
            await until(lambda: in_store(stage, "SELECT paid FROM redeemed") == [(1_200_000,)])
            assert await balance(world, payer.till) == before + 1_200_000 - await fees_of(world, payer.till)
