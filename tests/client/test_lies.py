"""A daemon that lies, over a real broker and with a real ledger: 270 lies, and not one is believed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from client.rig import TOPICS, Rig, rig
from client.scene import DROPS, SOLD, Told, kinds, lies
from waiting import soon

from channeld.client import Client, errors

EACH = 9
KEPT_ALL_THE_SAME = (errors.ChannelEnds,)


async def sell(made: Rig, client: Client) -> None:
    """An honest beginning: the good channel is sold up to `SOLD`, and the client holds a claim for that."""
    accepted = await made.claim(client, SOLD)
    assert (accepted.covers_from, accepted.covers_to) == (0, SOLD)


async def tell(made: Rig, client: Client, kind: int, rng: random.Random) -> Told:
    """Ask, be lied to, and see that it is called by its name and changed nothing that was held."""
    request_id = rng.randbytes(8).hex()
    told = lies(made.scene, rng, request_id, made.daemon.sold, kind)
    made.daemon.answers = lambda _: [told.payload]
    before = {held.claim.channel_id: held for held in await client.best()}
    with pytest.raises(errors.ClientError) as caught:
        await made.claim(client, DROPS, id=request_id)
    assert type(caught.value) is told.expected, (told, caught.value)
    assert caught.value.id == request_id
    after = {held.claim.channel_id: held for held in await client.best()}
    assert before.items() <= after.items() or isinstance(caught.value, KEPT_ALL_THE_SAME)
    assert isinstance(caught.value, KEPT_ALL_THE_SAME) or after == before
    assert request_id not in await client.unanswered()
    return told


@pytest.mark.slow
async def test_no_lie_is_believed_whatever_it_is_about(tmp_path: Path) -> None:
    rng = random.Random(5)
    told: Counter[str] = Counter()
    async with rig(tmp_path) as made:
        async with made.client() as client:
            await sell(made, client)
            for kind in range(kinds()):
                for _ in range(EACH):
                    if (lie := lies(made.scene, random.Random(1), "x", SOLD, kind)).pinned:
                        told[(await tell(made, client, kind, rng)).kind] += 1
            made.daemon.answers = made.daemon.honest
            assert (await made.claim(client, DROPS)).covers_to == SOLD + DROPS, "the next honest answer is believed"
        async with made.client(pinned=False) as client:
            for kind in range(kinds()):
                if not (lie := lies(made.scene, random.Random(1), "x", SOLD, kind)).pinned:
                    for _ in range(EACH):
                        told[(await tell(made, client, kind, rng)).kind] += 1
                    assert lie.kind in told
    assert len(told) == kinds()
    assert sum(told.values()) == EACH * kinds() > 200


async def test_the_daemons_own_retained_states_are_held_against_it(tmp_path: Path) -> None:
    """Without a node a client can still see that a daemon contradicts itself."""
    about = {errors.ClaimAboveChannel, errors.ChannelClosing, errors.ChannelExpired, errors.SettleDelayTooShort}
    rng = random.Random(6)
    async with rig(tmp_path, channels=False) as made:
        for name in made.scene.channels:
            await made.daemon.show(name)
        async with made.client(ledger=False) as client:
            await sell(made, client)
            for kind in range(kinds()):
                if lies(made.scene, random.Random(1), "x", SOLD, kind).expected in about:
                    await tell(made, client, kind, rng)
            made.daemon.answers = made.daemon.honest
            await made.daemon.show("good", "closing")
            with pytest.raises(errors.ChannelClosing):
                await made.claim(client)


async def test_a_channel_that_nobody_shows_is_not_believed_and_its_claim_is_kept(tmp_path: Path) -> None:
    """Without a node the retained state is all there is: it is waited for, and where none comes nothing is sold."""
    async with rig(tmp_path, channels=False) as made:
        topic = f"{TOPICS}/channels/{made.scene.channels['good'].channel_id}"
        await made.daemon.publish(topic, b"", retain=True)
        async with made.client(ledger=False) as client:
            with pytest.raises(errors.NoChannelState, match=topic) as caught:
                await made.claim(client, 1000, id="one")
            assert caught.value.id == "one"
            assert isinstance(caught.value, errors.NotAnswered)
            (held,) = await client.best()
            assert held.claim.amount == 1000, "it is signed with the pinned key: worth keeping"
            assert await client.unanswered() == ["one"]
        async with made.client(ledger=False, ledger_patience_s=8.0) as client:
            asking = asyncio.create_task(made.claim(client, 1000, id="one"))
            await soon(lambda: len(made.daemon.asked) >= 2, "it is asked again")
            await made.daemon.show("good")
            assert (await asking).replayed, "a state that comes a moment later is waited for"
            assert await client.unanswered() == []
