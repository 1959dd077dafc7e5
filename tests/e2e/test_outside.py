"""What the outside may rely on: servers apart from each other, hostile payloads answered, metrics bounded, bad config
refused.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from labels import LABELS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from waiting import until

from channeld.sandbox.stage import PATIENCE_S, POLICY, Server, Stage
from e2e.world import XRP, World, content_server, new_account

pytestmark = pytest.mark.slow


def properties(response_topic: str, correlation: bytes | None = None) -> Properties:
    made = Properties(PacketTypes.PUBLISH)
    made.ResponseTopic = response_topic
    if correlation is not None:
        made.CorrelationData = correlation
    return made


async def test_servers_are_apart_from_each_other(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        other = new_account()
        await world.ledger.fund({other.address: 100 * XRP})
        await world.stage([Server("a", [world.payee.address]), Server("b", [other.address])])
        async with content_server(world, "a") as a, content_server(world, "b") as b:
            await a.buy({"id": "1", "drops": "10"})
            reply = await b.ask({"id": "1", "payee": world.payee.address, "drops": "10"})
            assert reply["code"] == "unknown_payee"
            refused = await b.send_raw(
                b'{"id":"2","drops":"10"}', "2", properties=properties("channeld/v1/servers/a/reply")
            )
            assert refused["code"] == "bad_response_topic"
            heard = len(a.received)
            below = await b.send_raw(
                b'{"id":"3","drops":"10"}', "3", properties=properties("channeld/v1/servers/b/reply/x/y", b"\x00c")
            )
            assert below["code"] == "no_headroom"
            async with content_server(world, "nobody") as nobody:
                assert (await nobody.ask({"id": "1", "drops": "1"}))["code"] == "unknown_payee"
            assert len(a.received) == heard


HOSTILE: list[tuple[bytes, str]] = [
    (b"", "not JSON"),
    (b"nope", "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 10_000, "not JSON"),
    (b'{"a":' * 10_000, ""),
    (b"[]", "1 to 1000 items"),
    (b"3", "Expected `object`"),
    (b'{"drops":"1"}', "id: missing"),
    (b'{"id":"","drops":"1"}', "id:"),
    (b'{"id":"\\u0000","drops":"1"}', "id:"),
    (b"x" * 70_000, ""),
    (b'{"id":"x","drops":"1","pad":"' + b"y" * 70_000 + b'"}', "65536"),
    (b'["' + b"y" * 300_000 + b'"]', "262144"),
]

NAMED: list[tuple[dict[str, Any] | str, str]] = [
    ({"drops": 15}, "drops"),
    ({"drops": 1.5}, "drops"),
    ({"drops": "1.5"}, "drops"),
    ({"drops": "01"}, "drops"),
    ({"drops": "0"}, "drops"),
    ({"drops": "-1"}, "drops"),
    ({"drops": "１２"}, "drops"),
    ({"drops": "9" * 18}, "drops"),
    ({"drops": "1", "payee": "rrrr"}, "payee"),
    ({"drops": "1", "user": "u" * 129}, "user"),
    ({"drops": "1", "surprise": 1}, "surprise"),
    ({"drops": "1", "not_after": 1}, "not_after"),
    ('{"id":"%s","drops":"1","drops":"2"}', "drops"),
    ('{"id":"%s","drops":1e400}', "drops"),
    ('{"id":"%s","not_after":1e400,"drops":"1"}', "not_after"),
]


async def test_hostile_payloads_get_a_clear_answer_and_hurt_nobody(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with content_server(world) as server:
            await server.buy({"id": "good", "drops": "10"})
            for payload, says in HOSTILE:
                reply = await server.send_raw(payload)
                assert (reply["code"], reply["id"]) == ("bad_request", None), payload[:40]
                assert says in reply["reason"], reply
            for n, (body, field) in enumerate(NAMED):
                raw = body % n if isinstance(body, str) else json.dumps({"id": str(n), **body}, ensure_ascii=False)
                reply = await server.send_raw(raw.encode(), str(n))
                assert (reply["code"], reply["id"]) == ("bad_request", str(n))
                assert reply["reason"].startswith(field), reply
            retained = await server.send_raw(b'{"id":"r","drops":"1"}', "r", retain=True)
            assert retained["code"] == "bad_request"
            mixed = await server.ask(
                [{"id": "m1", "drops": "1"}, {"id": "m2", "drops": "x"}, {"id": "m3", "drops": "1"}]
            )
            assert [item["status"] for item in mixed] == ["accepted", "rejected", "accepted"]
            assert (await server.ask({"id": "still", "drops": "1"}))["status"] == "accepted"
        assert "Traceback" not in stage.daemon.log.read_text()


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line and not line.startswith("#")}


def promtool(text: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)


POOL = 300


async def test_metrics_pass_promtool_and_do_not_grow_with_the_pool(tmp_path: Path) -> None:
    caps = 'max_open_channels = 2000\nmax_locked = "100000 XRP"\nmax_drops_per_day = "100000 XRP"\n'
    async with World(tmp_path) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(POOL)]
        stage = await world.stage([Server("a", payees, caps=caps)], treasury=50_000 * XRP)
        async with content_server(world) as server:

            async def opened(first: int, last: int) -> set[str]:
                asks = [{"id": str(n), "payee": payees[n], "drops": "10"} for n in range(first, last)]
                async with asyncio.timeout(PATIENCE_S):
                    while any(r["status"] != "accepted" for r in await server.ask(asks)):
                        await asyncio.sleep(1)
                return series((await asyncio.to_thread(stage.get, "/metrics"))[1])

            few = await opened(0, 10)
            many = await opened(10, POOL)
        assert few == many
        assert len(many) < 500
        text = (await asyncio.to_thread(stage.get, "/metrics"))[1]
        value = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[:1] != "#"}
        kinds = ("capacity", "authorized", "headroom")
        held, signed, free = (value[f'channeld_channel_drops{{kind="{kind}",pool="standard"}}'] for kind in kinds)
        assert (held, signed) == (signed + free, 10 * POOL)
        assert value['channeld_ledger_fees_drops_total{kind="open"}'] >= 10 * POOL
        assert value["channeld_validation_ledgers_count"] >= POOL
        assert value["channeld_loop_lag_seconds_count"] > 0
        treasury = [value[f'channeld_treasury_drops{{kind="{k}",wallet="hot"}}'] for k in ("spendable", "reserved")]
        assert all(0 < drops < value['channeld_wallet_balance_drops{wallet="hot"}'] for drops in treasury)
        assert {label for name in value for label in re.findall(r'(\w+)="', name)} <= LABELS | {
            "le",
            "version",
            "policy_hash",
        }
        checked = await asyncio.to_thread(promtool, text)
        assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")


async def test_caps_of_a_server_bind(tmp_path: Path) -> None:
    caps = 'max_open_channels = 1\nmax_locked = "5 XRP"\nmax_drops_per_day = "3 XRP"\n'
    async with World(tmp_path) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(2)]
        await world.stage([Server("a", payees, caps=caps)])
        async with content_server(world) as server:
            await server.buy({"id": "1", "payee": payees[0], "drops": str(XRP)})
            second = await server.ask({"id": "2", "payee": payees[1], "drops": "1"})
            assert (second["code"], "max_open_channels" in second["reason"]) == ("limit_exceeded", True)
            large = await server.ask({"id": "3", "payee": payees[0], "drops": str(2 * XRP + 1)})
            assert (large["code"], "max_drops_per_day" in large["reason"]) == ("limit_exceeded", True)


async def exit_of(stage: Stage) -> tuple[int, str]:
    stage.daemon.start()
    await until(lambda: not stage.daemon.running, what="it refuses to start")
    return await stage.daemon.stop(), stage.daemon.tail()


async def test_what_cannot_be_right_is_refused_at_start(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], start=False)
        mine = stage.wallet
        stage.wallet = new_account()
        await world.ledger.fund({stage.wallet.address: 100 * XRP})
        stage.write()
        code, said = await exit_of(stage)
        assert (code, "does not belong" in said) == (2, True)
        stage.wallet = mine
        stage.write()
        (stage.directory / "secrets" / "hot.seed").chmod(0o644)
        code, said = await exit_of(stage)
        assert (code, "chmod" in said) == (2, True)
        (stage.directory / "secrets" / "hot.seed").chmod(0o600)
        stage.policy = POLICY.replace("[guards]", "[guards]\nsurprise = 1")
        stage.write()
        code, said = await exit_of(stage)
        assert (code, "surprise" in said) == (2, True)
        stage.policy = POLICY
        stage.write()
        await stage.start()
        second = Stage(tmp_path / "second", [world.ledger_url], world.broker.port, stage.servers)
        second.daemon = type(stage.daemon)(
            second.directory, "daemon", "run", "--config", str(stage.directory / "channeld.toml")
        )
        code, said = await exit_of(second)
        assert (code, "another channeld" in said) == (2, True)
