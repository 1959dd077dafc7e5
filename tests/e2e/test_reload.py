"""Files that are saved while a real daemon answers requests: the bad ones cost nobody anything, the good ones count."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.sandbox.stage import PATIENCE_S, POLICY, Server, Stage
from e2e.world import ContentServer, World, content_server, retained

pytestmark = pytest.mark.slow
RELOADS = 900 if os.environ.get("CHANNELD_SOAK") else 150
ROOMY = POLICY.replace('min = "2 XRP"', 'min = "50 XRP"').replace('max_age = "10m"', 'max_age = "1h"')


class Load:
    """Requests all the while, `width` at a time, and what became of them."""

    def __init__(self, server: ContentServer, width: int = 16) -> None:
        self._server, self._width = server, width
        self._over = False
        self.codes: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        asking = [asyncio.create_task(self._ask(number)) for number in range(self._width)]
        try:
            yield self
        finally:
            self._over = True
            await asyncio.gather(*asking)

    async def _ask(self, number: int) -> None:
        count = 0
        while not self._over:
            count += 1
            reply = await self._server.ask({"id": f"{number}-{count}-{id(self)}", "drops": "1"})
            self.codes[reply.get("code", "accepted")] += 1

    async def more(self, count: int) -> None:
        """Until so many more were answered."""
        goal = self.codes.total() + count
        await until(lambda: self.codes.total() >= goal, "more answers")


def metric(stage: Stage, name: str) -> float:
    """One sample of the daemon's metrics."""
    found = [line.rsplit(" ", 1)[1] for line in stage.get("/metrics")[1].splitlines() if line.startswith(name + " ")]
    assert len(found) == 1, name
    return float(found[0])


async def warned(stage: Stage, words: str) -> bool:
    """Whether the daemon is ready, and warns of its files with these words."""
    code, text = await asyncio.to_thread(stage.get, "/readyz")
    assert code == 200, text
    return any(w.startswith("config: the files were refused") and words in w for w in json.loads(text)["warnings"])


def spoilt(stage: Stage) -> list[tuple[Callable[[], object], str]]:
    """Files as they are when something goes wrong: by hand, by a tool, by a full disk; and what is said of them."""
    policy, config = stage.directory / "policy.toml", stage.directory / "channeld.toml"

    def in_config(old: str, new: str) -> None:
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new))

    def another_pool() -> None:
        policy.write_text(ROOMY.replace("pools.standard", "pools.other"))
        in_config('pool = "standard"', 'pool = "other"')

    return [
        (lambda: policy.write_text(ROOMY[:200]), "policy.toml"),
        (policy.unlink, "no such file"),
        (lambda: policy.write_text(ROOMY.replace("standard", "nobody")), "pool standard is not in"),
        (lambda: in_config('role = "pay"', 'role = "receive"'), "wallets.hot.role"),
        (lambda: in_config("quorum = 1", "quorum = 1\nunknown = 1"), "ledger.unknown: unknown key"),
        (lambda: in_config("[servers.a]", "[servers.b]\npayees_file = 'none.csv'\n[servers.a]"), "none.csv"),
        (lambda: in_config('name = "', 'name = "x'), "daemon.name: has changed"),
        (another_pool, "pools.standard: is gone, and a channel of it lives"),
        (lambda: in_config("payees =", f'receive_accounts = ["{stage.wallet.address}"]\npayees ='), "did not receive"),
        (lambda: policy.write_bytes(b"\0" * 4096), "not TOML"),
    ]


async def test_bad_files_under_load_cost_nobody_anything(tmp_path: Path) -> None:
    """As many requests are refused while bad files come one after the other as without: none. All that is seen of it
    is said where operators look, and the daemon stays ready.
    """
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=ROOMY)
        async with content_server(world) as server:
            await server.buy({"id": "first", "drops": "1"})
            before = await stage.status()
            async with Load(server).running() as calm:
                await calm.more(600)
            async with Load(server).running() as load:
                for number, (spoil, said) in enumerate(spoilt(stage)):
                    stage.write()
                    spoil()
                    if number % 2:  # by the watch alone, too
                        os.kill(stage.daemon.pid, signal.SIGHUP)
                    await until(lambda said=said: warned(stage, said), said)
                    await load.more(60)
            assert set(calm.codes) == {"accepted"}
            assert set(load.codes) == {"accepted"}, load.codes
            after = await stage.status()
            assert after["policy_hash"] == before["policy_hash"]
            assert after["config"]["differs"] is True
            assert metric(stage, "channeld_config_differs") == 1
            assert metric(stage, 'channeld_config_reloads_total{result="refused"}') >= 10
            assert stage.daemon.log.read_text().count("reload_refused") >= 10
            stage.write()
            await until(lambda: asyncio.to_thread(lambda: metric(stage, "channeld_config_differs") == 0))
            assert json.loads(stage.get("/readyz")[1])["warnings"] == []


async def timed(change: Callable[[], object], in_force: Callable[[], Awaitable[bool]]) -> float:
    """Seconds from a save to the first answer that is given by what was saved."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    change()
    async with asyncio.timeout(PATIENCE_S):
        while not await in_force():
            await asyncio.sleep(0.005)
    return loop.time() - began


@pytest.mark.parametrize("signalled", [False, True], ids=["watch", "SIGHUP"])
async def test_a_good_file_takes_effect_within_a_second_under_load(tmp_path: Path, signalled: bool) -> None:
    """A server that is put in may charge and has its channels retained; one that is taken out does not. What others ask
    meanwhile is accepted, all of it. The quickest of a few tries counts: the machine may be busy elsewhere.
    """
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=ROOMY)
        directory, count = stage.directory, 0
        async with content_server(world) as one, content_server(world, "b") as two:
            await one.buy({"id": "first", "drops": "1"})

            async def ask() -> Any:
                nonlocal count
                count += 1
                return await two.ask({"id": f"b{count}", "drops": "1"}, 60)

            async def may() -> bool:
                return bool((await ask())["status"] == "accepted")

            async def may_not() -> bool:
                reply = await ask()
                return bool(reply.get("code") == "unknown_payee")

            def save(servers: list[Server]) -> None:
                stage.servers = servers
                text = stage.directory / "channeld.toml"
                before = text.read_text()
                stage.write()
                written = text.read_text()
                text.write_text(before)  # and now as an editor does
                (directory / "new").write_text(written)
                (directory / "new").replace(text)
                if signalled:
                    os.kill(stage.daemon.pid, signal.SIGHUP)

            with_b = [Server("a", [world.payee.address]), Server("b", [world.payee.address], caps="max_in_flight = 50")]
            times = []
            async with Load(one).running() as load:
                for _ in range(2):
                    times.append(await timed(lambda: save(with_b), may))
                    assert await retained(world, "b") == 1
                    times.append(await timed(lambda: save(with_b[:1]), may_not))
                    await until(lambda: gone(world, "b"), "nothing retained")
                await load.more(100)
            assert set(load.codes) == {"accepted"}, load.codes
            assert min(times) < 1, times
            print(f"in force after {', '.join(f'{t:.2f}' for t in sorted(times))} s")


async def gone(world: World, server: str) -> bool:
    return await retained(world, server) == 0


async def test_many_reloads_of_a_daemon_leave_no_file_open(tmp_path: Path) -> None:
    """Good and bad files in turn, as fast as it reads them;
    it answers on, and holds no more memory than before. A thousand of them with CHANNELD_SOAK.
    """
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=ROOMY)
        async with content_server(world) as server:
            await server.buy({"id": "first", "drops": "1"})
            process = Path(f"/proc/{stage.daemon.pid}")

            def readings() -> float:
                return sum(
                    metric(stage, f'channeld_config_reloads_total{{result="{result}"}}')
                    for result in ("taken", "unchanged", "refused")
                )

            async def reloads(count: int) -> tuple[int, int]:
                goal, number = await asyncio.to_thread(readings) + count, 0
                while await asyncio.to_thread(readings) < goal:
                    number += 1
                    text = (ROOMY.replace("0.005", "0.006"), ROOMY, ROOMY[:300])[number % 3]
                    (stage.directory / "policy.toml").write_text(text)
                    os.kill(stage.daemon.pid, signal.SIGHUP)
                    await asyncio.sleep(0.005)
                return descriptors(process), resident(process)

            files, memory = await reloads(100)
            files_after, memory_after = await reloads(RELOADS)
            assert files_after <= files + 2  # a connection of this test's own, perhaps
            assert memory_after < memory + 20_000, f"{memory} KiB grew to {memory_after} KiB"
            stage.write()
            assert (await server.buy({"id": "last", "drops": "1"}))["status"] == "accepted"


def descriptors(process: Path) -> int:
    """Files that a process has open."""
    return len(list((process / "fd").iterdir()))


def resident(process: Path) -> int:
    """KiB of memory that a process holds."""
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])
