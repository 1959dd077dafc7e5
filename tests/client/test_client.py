"""The client between a real broker, a real ledger and a daemon that fails in every way but a lie."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from client.rig import SERVER, TOPICS, in_file, one_contents_per_id, rejected, rig
from client.scene import Body
from waiting import soon

from channeld.client import Accepted, Ask, Client, SyncClient, errors
from channeld.sandbox.stage import PATIENCE_S


async def test_a_request_is_on_disk_before_it_is_sent_and_a_claim_before_it_is_returned(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        before: list[Any] = []

        def look_first(requests: list[Body]) -> list[Any]:
            before.extend(in_file(made, "SELECT state FROM request WHERE id = ?", requests[0]["id"]))
            return made.daemon.honest(requests)

        made.daemon.answers = look_first
        async with made.client(ledger=False) as client:
            accepted = await made.claim(client, 1500, user="u-17", content="article/9")
            assert before == [("sent",)]
            assert in_file(made, "SELECT channel_id, amount, signature FROM best") == [
                (accepted.claim.channel_id, 1500, accepted.claim.signature)
            ]
            assert in_file(made, "SELECT state FROM request") == [("accepted",)]
            assert (await client.best())[0].claim == accepted.claim
        (request,) = made.daemon.asked
        assert (request["user"], request["content"], request["drops"]) == ("u-17", "article/9", "1500")
        assert made.path.stat().st_mode & 0o077 == 0


async def test_silence_is_answered_with_the_same_id_and_the_best_claim_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as client:
            first = await made.claim(client)
            asked = len(made.daemon.asked)
            monkeypatch.setattr("channeld.client.client._REPEAT_S", (0.2, 1.0))
            made.daemon.answers = lambda requests: (
                [] if len(made.daemon.asked) < asked + 2 else made.daemon.honest(requests)
            )
            second = await made.claim(client)
        repeated = made.daemon.asked[asked:]
        assert len(repeated) >= 2
        for request in repeated:
            assert (request["id"], request["held"]) == (second.id, first.claim.as_json())
        one_contents_per_id(made)


async def test_duplicates_and_any_order_change_nothing(tmp_path: Path) -> None:
    rng = random.Random(3)
    async with rig(tmp_path, channels=False) as made:
        kept_back: list[tuple[Body, Any]] = []

        def later(requests: list[Body]) -> list[Any]:
            kept_back.extend((made.daemon.accept(request), None) for request in requests)
            return []

        made.daemon.answers = later
        async with made.client(ledger=False) as client:
            calls = [asyncio.create_task(made.claim(client, n + 1)) for n in range(60)]
            await soon(lambda: len(kept_back) == 60, "all of them are asked for")
            said = [answer for answer, _ in kept_back] * 3
            rng.shuffle(said)
            for answer in said:
                await made.daemon.publish(f"{TOPICS}/reply/{reply_of(client)}", answer)
            accepted = await asyncio.gather(*calls)
            assert sorted(a.drops for a in accepted) == list(range(1, 61))
            (held,) = await client.best()
            assert held.claim.amount == sum(range(1, 61))
        assert in_file(made, "SELECT start, stop FROM slice") == [(0, sum(range(1, 61)))]


def reply_of(client: Client) -> str:
    assert client._link is not None
    return client._link._reply.rpartition("/")[2]


REFUSALS = {
    "bad_request": errors.BadRequest,
    "bad_response_topic": errors.BadResponseTopic,
    "unknown_payee": errors.UnknownPayee,
    "limit_exceeded": errors.LimitExceeded,
    "no_headroom": errors.NoHeadroom,
    "id_conflict": errors.IdConflict,
    "frozen": errors.Frozen,
    "busy": errors.Busy,
    "something_newer": errors.Rejection,
}


async def test_every_refusal_has_its_own_exception(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as client:
            for code, expected in REFUSALS.items():
                for retry in (None, 3_600_000):
                    made.daemon.answers = lambda r, code=code, retry=retry: [rejected(r[0], code, retry)]  # type: ignore[misc]
                    with pytest.raises(expected) as caught:
                        await made.claim(client)
                    assert type(caught.value) is expected
                    assert (caught.value.code, caught.value.retry_after_ms) == (code, retry)
            assert len(made.daemon.asked) == 2 * len(REFUSALS), "what cannot come in time is not asked again"
            assert await client.unanswered() == []


async def test_a_refusal_that_passes_is_waited_for_as_told(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        times: list[float] = []

        def twice(requests: list[Body]) -> list[Any]:
            times.append(time.monotonic())
            if len(times) < 3:
                return [rejected(requests[0], "no_headroom" if len(times) == 1 else "internal", 300)]
            return made.daemon.honest(requests)

        made.daemon.answers = twice
        async with made.client(ledger=False) as client:
            assert (await made.claim(client)).drops == 1000
        assert all(later - earlier >= 0.3 for earlier, later in itertools.pairwise(times))
        one_contents_per_id(made)


async def test_a_late_answer_is_kept_and_finish_finds_out_about_the_rest(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        made.daemon.answers = lambda _: []
        async with made.client(ledger=False) as client:
            with pytest.raises(errors.NotAnswered) as silent:
                await made.claim(client, id="late", timeout_s=0.2)
            assert (type(silent.value), silent.value.id) == (errors.NotAnswered, "late")
            assert await client.unanswered() == ["late"]
            late = made.daemon.accept(made.daemon.asked[0])
            await made.daemon.publish(f"{TOPICS}/reply/{reply_of(client)}", late)

            async def all_answered() -> bool:
                return not await client.unanswered()

            await soon(all_answered, "the late answer counts")
            assert (await client.best())[0].claim.amount == 1000
            for request_id in ("accepted", "void"):
                with pytest.raises(errors.NotAnswered):
                    await made.claim(client, id=request_id, timeout_s=0.05)
        assert made.daemon.accept(next(r for r in made.daemon.asked if r["id"] == "accepted"))

        def after_the_restart(request: Body) -> Body:
            void = rejected(request, "bad_request") | {"reason": "not_after: has passed"}
            return void if request["id"] == "void" else made.daemon.accept(request)

        async with made.client(ledger=False) as client:
            silent_still = await client.finish(timeout_s=0.2)
            assert [type(result) for result in silent_still] == [errors.NotAnswered] * 2
            assert sorted(await client.unanswered()) == ["accepted", "void"]
            made.daemon.answers = lambda requests: [[after_the_restart(request) for request in requests]]
            results = {result.id: result for result in await client.finish(timeout_s=5)}
            assert isinstance(results["accepted"], Accepted)
            assert results["accepted"].replayed
            assert isinstance(results["void"], errors.TooLate)
            assert await client.unanswered() == []
        one_contents_per_id(made)


async def test_one_batch_goes_out_as_few_messages_and_comes_back_item_by_item(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:

        def mixed(requests: list[Body]) -> list[Any]:
            said = [
                rejected(r, "limit_exceeded") if int(r["drops"]) % 10 == 0 else made.daemon.accept(r) for r in requests
            ]
            return [said if len(said) > 1 else said[0]]

        made.daemon.answers = mixed
        async with made.client(ledger=False) as client:
            payee = str(made.scene.payee)
            results = await client.claims([Ask(payee, n) for n in range(1, 1101)])
            assert len(results) == 1100
            for n, result in enumerate(results, 1):
                if n % 10:
                    assert isinstance(result, Accepted)
                    assert result.drops == n
                else:
                    assert isinstance(result, errors.LimitExceeded)
            assert len(set(made.daemon.messages)) <= 4  # a slow machine makes the client repeat
            assert all(len(message) <= 256 * 1024 for message in made.daemon.messages)
            assert (await client.best())[0].claim.amount == sum(n for n in range(1, 1101) if n % 10)
            assert await client.claims([]) == []


async def test_a_refused_batch_is_refused_for_all_of_it(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        made.daemon.answers = lambda _: [rejected({"id": None}, "bad_request")]
        async with made.client(ledger=False) as client:
            results = await client.claims([Ask(str(made.scene.payee), 5) for _ in range(3)])
            assert [type(result) for result in results] == [errors.BadRequest] * 3


async def test_a_bad_item_spoils_no_other(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:

        def one_bad(requests: list[Body]) -> list[Any]:
            said = [made.daemon.accept(request) for request in requests]
            del said[1]["claim"]["amount"]
            said[3]["id"] = "another"
            return [said]

        made.daemon.answers = one_bad
        async with made.client(ledger=False) as client:
            results = await client.claims([Ask(str(made.scene.payee), 5) for _ in range(5)])
            good = [result.covers_from for result in results if isinstance(result, Accepted)]
            assert good == [0, 10, 20]
            assert [type(results[n]) for n in (1, 3)] == [errors.MalformedAnswer, errors.WrongId]


async def test_an_array_of_the_wrong_length_is_no_answer(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        made.daemon.answers = lambda requests: [[made.daemon.accept(r) for r in requests][:-1]]
        async with made.client(ledger=False) as client:
            results = await client.claims([Ask(str(made.scene.payee), 5) for _ in range(3)])
            assert [type(result) for result in results] == [errors.MalformedAnswer] * 3
            assert await client.best() == []


async def test_an_id_is_one_request_for_ever(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as client:
            first = await made.claim(client, 1000, id="order-1", user="u")
            assert await made.claim(client, 1000, id="order-1", user="u") == first
            for other in ({"drops": 1001}, {"user": "v"}, {"content": "c"}):
                with pytest.raises(errors.IdReused):
                    await made.claim(client, **{"drops": 1000, "id": "order-1", "user": "u", **other})
        async with made.client(ledger=False) as client:
            assert await made.claim(client, 1000, id="order-1", user="u") == first
        assert len(made.daemon.asked) == 1, "an answered id is answered from the file"


async def test_two_clients_share_one_login_and_one_file(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as one, made.client(ledger=False) as two:
            accepted = await asyncio.gather(*(made.claim(c, 10) for c in [one, two] * 40))
            assert len({a.covers_from for a in accepted}) == 80
            assert await one.best() == await two.best()
            assert one.strays == two.strays == 0
        assert in_file(made, "SELECT start, stop FROM slice") == [(0, 800)]


async def test_small_packets_leave_at_once(tmp_path: Path) -> None:
    """Without TCP_NODELAY a reply takes 10 to 40 ms longer."""
    async with rig(tmp_path, channels=False) as made, made.client(ledger=False) as client:
        await made.claim(client)
        ours = [s for s in sockets() if s.getpeername()[1] == made.broker.port]
        assert len(ours) == 2, "the daemon's and the client's"
        assert all(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for s in ours)


def sockets() -> list[socket.socket]:
    """Every TCP connection of this process, as duplicates that the collector closes."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            one = socket.socket(fileno=os.dup(int(path.name)))
            if one.family == socket.AF_INET and one.type == socket.SOCK_STREAM:
                one.getpeername()
                found.append(one)
    return found


async def test_the_synchronous_client_serves_any_thread(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        results: list[Any] = []

        def work() -> None:
            url = f"mqtt://127.0.0.1:{made.broker.port}"
            key = made.scene.claim_key.public_key
            with SyncClient(url, server=SERVER, public_key=key, path=made.path, timeout_s=PATIENCE_S) as client:
                payee = str(made.scene.payee)

                def ask() -> None:
                    results.append(client.claim(payee=payee, drops=5))

                threads = [threading.Thread(target=ask) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                results.extend(client.claims([Ask(payee, 7), Ask(payee, 8)]))
                results.append(client.best()[0].claim.amount)
                results.extend(client.unanswered() + client.finish())
                with pytest.raises(errors.BadArgument):
                    client.claim(payee=payee, drops=0)
            with pytest.raises(errors.Closed):
                client.claim(payee=payee, drops=1)

        await asyncio.to_thread(work)
        assert [r.drops for r in results[:10]] == [5] * 8 + [7, 8]
        assert results[10:] == [55]


BAD: list[dict[str, Any]] = [
    {"drops": 0},
    {"drops": -1},
    {"drops": 1.5},
    {"drops": True},
    {"drops": "5"},
    {"drops": 10**17 + 1},
    {"payee": "r"},
    {"payee": "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTi"},
    {"id": ""},
    {"id": "x" * 129},
    {"id": "\u00e4"},
    {"id": "a\n"},
    {"user": "u" * 129},
    {"content": "c" * 257},
    {"user": "\ud800"},
    {"tier": 3},
]


async def test_a_bad_call_sends_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as client:
            for bad in BAD:
                with pytest.raises(errors.BadArgument) as caught:
                    await client.claim(**{"payee": str(made.scene.payee), "drops": 5, **bad})
                assert str(caught.value).startswith(next(iter(bad)))
        assert made.daemon.asked == []


BAD_TERMS: list[dict[str, Any]] = [
    {"public_key": "ED00"},
    {"public_key": []},
    {"public_key": "Z" * 66},
    {"server": "a/b"},
    {"server": ""},
    {"url": "http://127.0.0.1"},
    {"url": "mqtt://user:secret@127.0.0.1"},
    {"url": "mqtt://127.0.0.1:x"},
    {"payer": "rNobody"},
]


@pytest.mark.parametrize("bad", BAD_TERMS, ids=str)
def test_a_client_is_not_made_of_bad_terms(bad: dict[str, Any], tmp_path: Path) -> None:
    terms = {"url": "mqtt://127.0.0.1", "server": "a", "public_key": "ED" + "0" * 64, "path": tmp_path / "c", **bad}
    with pytest.raises(errors.BadArgument) as caught:
        Client(terms.pop("url"), **terms)
    assert str(caught.value).startswith(next(iter(bad)))
    assert "secret" not in str(caught.value)
