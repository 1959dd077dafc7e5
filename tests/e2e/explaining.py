"""A run of the daemon with channels at every point of their lives, and what must be said of each of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.parse
from collections import Counter
from random import Random
from typing import Any

from channeld.sandbox.stage import PATIENCE_S, POLICY, Server, Stage
from e2e.world import XRP, ContentServer, World, content_server

PAYEES = 8
RULES = """
[[fund.rule]]
name = "roomier"
match = { idle = { lt = "1h" } }
set = { headroom = { low = "1 XRP", target = "3 XRP" } }
[[settle.rule]]
name = "paid-early"
match = { unredeemed = { gte = "1 XRP" }, age = { gte = "2s" } }
act = "settle"
"""
HASTY = (
    POLICY.replace('settle_delay = "1h"', 'settle_delay = "2s"')
    .replace('worth = "5 XRP"', 'worth = "2 XRP"')
    .replace('idle = "1h", min_age = "1h"', 'idle = "6s", min_age = "1s"')
    .replace('low = "10s", target = "60s"', 'low = "1s", target = "2s"')
) + RULES
Answer = dict[str, Any]


async def run(world: World, seconds: float, seed: int = 1) -> Stage:
    """Content servers ask for readers who come and go, for so long; channels are then at every point of their lives."""
    payees = [f"{world.payee.address}:{n}" for n in range(PAYEES)]
    stage = await world.stage([Server("a", payees, caps='max_drops_per_day = "100000 XRP"')], policy=HASTY)
    async with content_server(world) as server:
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(_reader(server, payee, until, Random(seed * 100 + n)) for n, payee in enumerate(payees)))
    return stage


async def _reader(server: ContentServer, payee: str, until: float, r: Random) -> None:
    """Buys for a while, pauses for long enough to be forgotten, and comes again. What is opened for it, it uses."""
    clock = asyncio.get_running_loop().time
    for number in itertools.count():
        if clock() >= until:
            return
        drops = r.choice([50_000, 300_000, 900_000])
        await server.buy({"id": f"{payee[-6:]}-{number}", "payee": payee, "drops": str(drops)})
        await asyncio.sleep(r.choice([0.2, 0.2, 0.5, 1.0, 12.0]))


def ask(stage: Stage, what: str) -> Answer:
    """What `explain` answers over HTTP."""
    code, text = stage.get(f"/api/v1/explain?{urllib.parse.urlencode({'what': what})}")
    assert code == 200, text
    answer: Answer = json.loads(text)
    return answer


async def of_ledger(world: World, account: str) -> dict[str, dict[str, Answer]]:
    """What really happened: by channel and hash, the transactions of an account that touched it."""
    found: dict[str, dict[str, Answer]] = {}
    for entry in await world.history(account):
        for node in entry["meta"]["AffectedNodes"]:
            (body,) = node.values()
            if body["LedgerEntryType"] == "PayChannel" and entry["tx_json"]["Account"] == account:
                found.setdefault(body["LedgerIndex"], {})[entry["hash"]] = {**entry, "node": node}
    return found


def judge(answer: Answer, happened: dict[str, Answer]) -> Counter[str]:
    """Each chain has for every link the inputs, the rule or terms, the reason; a transaction where one was sent, as the
    ledger has it; and its outcome. What of each kind there was.
    """
    chain, seen, kinds = answer["chain"], {}, Counter[str]()
    assert chain, f"{answer['channel_id']}: nothing is said"
    assert (chain[0]["action"], chain[0]["answer"]) == ("open", "done"), chain[0]
    assert [link["ledger"] for link in chain] == sorted(link["ledger"] for link in chain)
    for link in chain:
        kinds[f"{link['answer']} {link['action'] or link['reason']}"] += 1
        kinds[f"by {link['by']}"] += 1
        assert link["at_unix"], link
        assert link["inputs"], link
        assert "wanted" in link["inputs"], link
        assert link["by"] == "the pool's terms" or all(rule in link["by"] for rule in link["rules"][-1:]), link
        assert link["why"] != link["reason"], f"no sentence for {link['reason']}"
        assert len(link["policy_hash"]) == 64
        assert (link["answer"] == "done") is ("outcome" in link)
        for sent in link.get("transactions", []):
            assert sent["result"], f"it ended long ago: {link}"
            seen[sent["hash"]] = sent
        if link["answer"] == "done":
            assert link["transactions"] or link["status"] == "moot", link
            assert link["status"] in ("done", "failed", "moot"), link
    for tx_hash, entry in happened.items():
        sent = seen.pop(tx_hash)
        assert (sent["result"], sent["ledger"]) == (entry["meta"]["TransactionResult"], entry["ledger_index"])
        assert int(sent["paid"]) == _paid(entry["node"]), sent
    assert not [s for s in seen.values() if s["ledger"] is not None], "what is said to be validated is on the ledger"
    return kinds


def _paid(node: Answer) -> int:
    """The movement of a channel's Balance in one transaction."""
    (body,) = node.values()
    before = body.get("PreviousFields", {}).get("Balance")
    return 0 if before is None else int(body["FinalFields"]["Balance"]) - int(before)


def _over(stage: Stage) -> bool:
    """Whether nothing is under way and the history is not behind."""
    status = json.loads(stage.get("/api/v1/status")[1])
    return not (status["intents_open"] or status["transactions_live"])


async def explained(world: World, stage: Stage, *, source: str) -> Counter[str]:
    """Every channel that the ledger ever had of the wallet, each chain judged; the kinds of links, summed."""
    happened, kinds = await of_ledger(world, stage.wallet.address), Counter[str]()
    assert happened
    for channel_id in happened:
        answer = await asyncio.to_thread(ask, stage, channel_id)
        assert answer["source"] == source
        kinds += judge(answer, happened[channel_id])
    return kinds


async def settled(world: World, stage: Stage) -> None:
    """Return once every channel is closed, nothing is under way, and all of it is written."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            left = await world.ledger.channels(stage.wallet.address)
            if not left and await asyncio.to_thread(_over, stage):
                break
            await asyncio.sleep(0.2)
        channel = next(iter(await of_ledger(world, stage.wallet.address)))
        while (await asyncio.to_thread(ask, stage, channel))["not_written_yet"]:
            await asyncio.sleep(0.1)


__all__ = ["XRP", "ask", "explained", "judge", "of_ledger", "run", "settled"]
