"""One content server's ordinary batch costs no more than admission takes it for: counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from engine import SIGNING, Engine, sign_claim
from worlds import KEY, PAYEES

from channeld.core.claim import claim_message
from channeld.core.requests import Answer, Code, Granted, Held, Refusal
from channeld.core.units import ChannelId, Drops
from channeld.service.ports import ToSign

MOST_VERIFIED = 16


def code(answer: Answer) -> Code | None:
    return answer.code if isinstance(answer, Refusal) else None


def held(channel_id: str, amount: int, *, valid: bool = True) -> Held:
    signature = sign_claim(claim_message(bytes.fromhex(channel_id), amount))
    return Held(ChannelId(channel_id), Drops(amount), signature if valid else signature[:-1])


def counted(function: Callable[..., Any], counts: Counter[str], name: str) -> Callable[..., Any]:
    """The same function, which counts how often it is called."""

    def call(*args: Any) -> Any:
        counts[name] += 1
        return function(*args)

    return call


# --- claims that servers say they hold -------------------------------------------------------------------------------


def test_of_one_server_and_group_few_held_claims_are_verified(engine: Engine) -> None:
    channel_id, counts = engine.opened(), Counter[str]()
    engine.desk._verify = counted(engine.desk._verify, counts, "verified")
    bogus = held(channel_id, 1000, valid=False)
    answers = engine.answer(*(engine.ask(n, 1, held=bogus, server="ab"[n % 2]) for n in range(100)))
    assert counts["verified"] == 2 * MOST_VERIFIED
    assert Code.FROZEN not in {code(a) for a in answers}


def test_bogus_claims_hide_no_real_one_of_another_server_and_none_that_comes_later(engine: Engine) -> None:
    channel_id = engine.opened()
    bogus, real = held(channel_id, 1000, valid=False), held(channel_id, 1000)
    flood = [engine.ask(n, 1, held=bogus) for n in range(MOST_VERIFIED)]
    (*_, hidden) = engine.answer(*flood, engine.ask("hidden", 1, held=real))
    assert code(hidden) is None, "it was one too many of its server and group"
    (*_, found) = engine.answer(*flood, engine.ask("b", 1, held=real, server="b"))
    assert code(found) is Code.FROZEN
    engine.restart()
    assert code(engine.answer(engine.ask("again", 1, held=real))[0]) is Code.FROZEN


def test_held_claims_that_say_nothing_new_are_looked_at_however_many_they_are(engine: Engine) -> None:
    channel_id = engine.opened()
    engine.answer(engine.ask("before", 5))
    usual = [engine.ask(n, 1, held=held(channel_id, 5)) for n in range(40)]
    (*_, last) = engine.answer(*usual, engine.ask("last", 1, held=held(channel_id, 9)))
    assert code(last) is Code.FROZEN


# --- repeats ---------------------------------------------------------------------------------------------------------


def test_repeats_whose_channel_is_gone_look_it_up_once(engine: Engine) -> None:
    channel_id = engine.opened(drops=15)
    asks = [engine.ask(n, 1) for n in range(10)]
    first = [engine.answer(ask)[0] for ask in asks]
    for _ in range(40):
        engine.tick()
    assert engine.ledger.closed == {channel_id: 10}
    counts = Counter[str]()
    engine.store.channel = counted(engine.store.channel, counts, "looked up")  # type: ignore[method-assign]
    again = engine.answer(*asks)
    assert counts["looked up"] == 1
    for was, now in zip(first, again, strict=True):
        assert isinstance(was, Granted)
        assert isinstance(now, Granted)
        assert (now[:2], now.claim.amount, now.claim.signature) == (was[:2], was.claim.amount, was.claim.signature)
        assert (now.replayed, now.claim.paid) == (True, 10)


def test_repeats_are_signed_with_the_new_claims_of_their_group_each_once_and_after_the_commit(engine: Engine) -> None:
    engine.opened(drops=15)
    asks = [engine.ask(n, 1) for n in range(10)]
    first = [engine.answer(ask)[0] for ask in asks]
    groups, on_disk = list[list[ToSign]](), Counter[str]()
    engine.store.accept = counted(engine.store.accept, on_disk, "groups")  # type: ignore[method-assign]

    def sign_each(claims: Sequence[ToSign]) -> list[bytes]:
        groups.append(list(claims))
        assert on_disk["groups"] == 1, "nothing is signed before it is on disk"
        return SIGNING(claims)

    def sign(message: bytes) -> bytes:
        assert on_disk["groups"] == 1
        return sign_claim(message)

    engine.desk._sign_each, engine.desk._signers = sign_each, {KEY: sign}
    *again, new = engine.answer(*asks, *asks, engine.ask("new", 1))
    (group,) = groups
    assert len({message for _, message in group}) == len(group) == len(asks) + 1
    for was, now in zip(first * 2, again, strict=True):
        assert isinstance(was, Granted)
        assert isinstance(now, Granted)
        assert now.replayed
        assert (now[:2], now.claim.amount, now.claim.signature) == (was[:2], was.claim.amount, was.claim.signature)
    assert isinstance(new, Granted)
    assert {a.claim.headroom for a in (*again, new) if isinstance(a, Granted)} == {new.claim.headroom}, "as it is now"


def test_a_repeat_whose_key_is_not_configured_any_more_is_refused_and_harms_no_other(engine: Engine) -> None:
    old, new = engine.ask("old", 3), engine.ask("new", 3, payee=PAYEES[1])
    engine.opened()
    engine.answer(old)
    engine.answer(new)
    for _ in range(3):
        engine.tick()
    assert isinstance(engine.answer(new)[0], Granted)
    (state,) = (s for s in engine.mirror.channels.values() if s.record.channel.payee == PAYEES[0])
    state.record.channel = replace(state.record.channel, public_key="ED" + "0" * 64)
    refused, answered = engine.answer(old, new)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.retry_after_ms) == (Code.INTERNAL, 60_000)
    assert "not configured any more" in refused.reason
    assert isinstance(answered, Granted)


def test_a_signer_that_fails_for_a_repeat_fails_the_group_which_is_on_disk(engine: Engine) -> None:
    engine.opened()
    old, new = engine.ask("old", 1), engine.ask("new", 1)
    engine.answer(old)

    def fail(message: bytes) -> bytes:
        raise OSError("the key is locked")

    sign, engine.desk._signers = engine.desk._signers, {KEY: fail}
    with pytest.raises(OSError, match="locked"):
        engine.answer(old, new)
    engine.desk._signers = sign
    assert [isinstance(a, Granted) and a.replayed for a in engine.answer(old, new)] == [True, True]
