"""A daemon's side of the contract in a test's hands: keys, channels, correct answers, and lies made from them.

A lie is a correct answer with one change, signed anew by whoever could sign it, so that nothing else is wrong with it.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from xrpl.core.addresscodec import encode_classic_address

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import KeyPair, derive
from channeld.client import errors
from channeld.client.checks import Terms
from channeld.core.channel import Channel
from channeld.core.claim import claim_message
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds

TAG = 7
DROPS = 1000
SOLD = 50_000
"""Of the good channel so much is sold and seen when a lie is told."""
AMOUNT = 2_000_000
SETTLE_DELAY = 3600
Body = dict[str, Any]


def some_key() -> KeyPair:
    return derive(new_seed("ed25519").reveal(), "ed25519")


def some_address(rng: random.Random) -> str:
    return str(encode_classic_address(rng.randbytes(20)))


@dataclass
class Scene:
    """Who is who. `channels` holds, by name, one good channel and one for each way in which a channel can be wrong."""

    wallet: KeyPair = field(default_factory=some_key)
    stranger: KeyPair = field(default_factory=some_key)
    claim_key: KeyPair = field(default_factory=some_key)
    other_key: KeyPair = field(default_factory=some_key)
    payee_key: KeyPair = field(default_factory=some_key)
    channels: dict[str, Channel] = field(default_factory=dict)

    @property
    def payee(self) -> Payee:
        return Payee(Address(self.payee_key.address), TAG)

    @property
    def keys(self) -> dict[str, KeyPair]:
        return {key.public_key: key for key in (self.claim_key, self.other_key)}

    def terms(self, *, pinned: bool) -> Terms:
        return Terms(frozenset({self.claim_key.public_key}), self.wallet.address if pinned else None, 600, 3600)

    def invent(self, now: RippleTime) -> None:
        """Channels that no ledger has, for tests without one."""
        good = Channel(
            ChannelId(secrets.token_hex(32).upper()),
            Address(self.wallet.address),
            self.payee.account,
            TAG,
            self.claim_key.public_key,
            Drops(AMOUNT),
            Drops(0),
            Seconds(SETTLE_DELAY),
            None,
            None,
            LedgerIndex(9),
        )

        def like(**change: Any) -> Channel:
            return replace(good, channel_id=ChannelId(secrets.token_hex(32).upper()), **change)

        self.channels = {
            "good": good,
            "other payee": like(destination_account=Address(self.stranger.address)),
            "other tag": like(destination_tag=TAG + 1),
            "no tag": like(destination_tag=None),
            "other key": like(public_key=self.other_key.public_key),
            "other payer": like(source_account=Address(self.stranger.address)),
            "closing": like(expiration=RippleTime(now + SETTLE_DELAY)),
            "expired": like(cancel_after=RippleTime(now - 100)),
            "ends soon": like(cancel_after=RippleTime(now + 600)),
            "hasty": like(settle_delay=Seconds(60)),
        }

    def sign(self, body: Body, key: KeyPair | None = None) -> Body:
        """Sign the claim of an answer anew, with the key that it names."""
        claim = body["claim"]
        signer = key or self.keys[claim["public_key"]]
        message = claim_message(bytes.fromhex(claim["channel_id"]), int(claim["amount"]))
        claim["signature"] = signer.signer()(message).hex().upper()
        return body

    def answer(self, request_id: str, start: int, drops: int = DROPS, channel: str = "good") -> Body:
        """A correct answer, if the channel is."""
        on = self.channels[channel]
        body = {
            "id": request_id,
            "status": "accepted",
            "drops": str(drops),
            "covers": {"from": str(start), "to": str(start + drops)},
            "claim": {
                "channel_id": on.channel_id,
                "amount": str(start + drops),
                "signature": "",
                "public_key": on.public_key,
            },
            "source_account": on.source_account,
            "destination_account": self.payee.account,
            "destination_tag": self.payee.tag,
            "headroom": str(max(0, on.amount - start - drops)),
            "replayed": False,
        }
        return self.sign(body)


@dataclass(frozen=True)
class Told:
    """A lie: its kind, the exception that it must raise, the payload, and whether the payer must be pinned."""

    kind: str
    expected: type[errors.Lie]
    payload: bytes
    pinned: bool = True


Maker = Callable[[Scene, Body, random.Random], Body | bytes]
_MAKERS: list[tuple[str, type[errors.Lie], bool, Maker]] = []


def lie(kind: str, expected: type[errors.Lie], *, pinned: bool = True) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        _MAKERS.append((kind, expected, pinned, make))
        return make

    return register


def kinds() -> int:
    return len(_MAKERS)


def lies(scene: Scene, rng: random.Random, request_id: str, start: int, kind: int) -> Told:
    """A lie of one kind about a request of `DROPS` whose honest slice begins at `start`."""
    name, expected, pinned, make = _MAKERS[kind]
    made = make(scene, scene.answer(request_id, start), rng)
    return Told(name, expected, made if isinstance(made, bytes) else json.dumps(made).encode(), pinned)


# --- answers that are wrong by themselves ----------------------------------------------------------------------------


@lie("other id", errors.WrongId)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return body | {"id": rng.choice([body["id"] + "0", body["id"][:-1], secrets.token_hex(16)])}


@lie("other drops", errors.WrongDrops)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return body | {"drops": str(rng.choice([0, 1, DROPS - 1, DROPS + 1, rng.randrange(DROPS), 10**17]))}


@lie("slice too small", errors.WrongSlice)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    covers = body["covers"]
    cut = rng.randint(1, DROPS)
    if rng.random() < 0.5:
        return body | {"covers": covers | {"from": str(int(covers["from"]) + cut)}}
    return body | {"covers": covers | {"to": str(int(covers["to"]) - cut)}}


@lie("slice too large", errors.WrongSlice)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    end = int(body["covers"]["to"]) + rng.randint(1, 10_000)
    return scene.sign(
        body | {"covers": body["covers"] | {"to": str(end)}, "claim": body["claim"] | {"amount": str(end)}}
    )


@lie("claim too low", errors.ClaimTooLow)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    low = int(body["covers"]["to"]) - rng.randint(1, DROPS)
    return scene.sign(body | {"claim": body["claim"] | {"amount": str(low)}})


@lie("names other payee", errors.WrongPayee)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    change = rng.choice([("destination_account", some_address(rng)), ("destination_tag", rng.randrange(8, 2**32))])
    return body | dict([change])


@lie("names no tag", errors.WrongPayee)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return body | {"destination_tag": rng.choice([None, 0])}


@lie("other payer", errors.WrongPayer)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return scene.answer(body["id"], rng.randrange(10**6), channel="other payer")


@lie("names other payer", errors.WrongPayer, pinned=False)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return body | {"source_account": some_address(rng)}


@lie("other key", errors.WrongKey)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return scene.answer(body["id"], rng.randrange(10**6), channel="other key")


@lie("channel with other key", errors.WrongKey)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    other = scene.answer(body["id"], rng.randrange(10**6), channel="other key")
    other["claim"]["public_key"] = scene.claim_key.public_key
    return scene.sign(other)


@lie("signature with a wrong bit", errors.BadSignature)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    signature = bytearray.fromhex(body["claim"]["signature"])
    signature[rng.randrange(len(signature))] ^= 1 << rng.randrange(8)
    return body | {"claim": body["claim"] | {"signature": signature.hex().upper()}}


@lie("signature of another length", errors.BadSignature)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    signature = body["claim"]["signature"]
    return body | {
        "claim": body["claim"] | {"signature": rng.choice([signature[: 2 * rng.randint(1, 63)], signature + "00"])}
    }


@lie("signed for another amount", errors.BadSignature)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    amount = body["claim"]["amount"]
    body["claim"]["amount"] = str(int(amount) - rng.randint(1, DROPS))
    scene.sign(body)
    body["claim"]["amount"] = amount
    return body


@lie("signed for another channel", errors.BadSignature)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    channel = body["claim"]["channel_id"]
    body["claim"]["channel_id"] = scene.channels[rng.choice(["hasty", "closing", "other key"])].channel_id
    scene.sign(body)
    body["claim"]["channel_id"] = channel
    return body


@lie("signed with another key", errors.BadSignature)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return scene.sign(body, rng.choice([scene.other_key, scene.stranger, scene.wallet]))


@lie("channel that is gone", errors.ChannelGone)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return body | {"channel_state": "closed", "paid": str(rng.randrange(AMOUNT)), "replayed": True}


# --- answers that contradict what was bought before, or the ledger ---------------------------------------------------


@lie("slice sold before", errors.SliceSeen)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    start = rng.choice([0, SOLD - DROPS, SOLD - 1, rng.randrange(SOLD)])
    other = scene.answer(body["id"], start)
    other["claim"]["amount"] = str(max(SOLD, start + DROPS))
    return scene.sign(other)


@lie("no such channel", errors.NoSuchChannel)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return scene.sign(body | {"claim": body["claim"] | {"channel_id": rng.randbytes(32).hex().upper()}})


@lie("channel pays another", errors.WrongPayee)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    return scene.answer(body["id"], rng.randrange(10**6), channel=rng.choice(["other payee", "other tag", "no tag"]))


@lie("claim above the channel", errors.ClaimAboveChannel)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    start = AMOUNT - DROPS + rng.choice([1, DROPS, rng.randint(1, 10**9), 10**16])
    return scene.answer(body["id"], start)


def _from(channel: str) -> Callable[[Scene, Body, random.Random], Body]:
    """A correct answer, but from this channel."""
    return lambda scene, body, rng: scene.answer(body["id"], rng.randrange(10**6), channel=channel)


lie("channel closing", errors.ChannelClosing)(_from("closing"))
lie("channel expired", errors.ChannelExpired)(_from("expired"))
lie("channel ends soon", errors.ChannelTooShort)(_from("ends soon"))
lie("settle delay too short", errors.SettleDelayTooShort)(_from("hasty"))


# --- what is no answer -----------------------------------------------------------------------------------------------


@lie("a field is missing", errors.MalformedAnswer)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    spots = [(body, f) for f in body if f != "destination_tag"] + [
        (body[p], f) for p in ("claim", "covers") for f in body[p]
    ]
    where, name = rng.choice(spots)
    del where[name]
    return body


@lie("a field of another type", errors.MalformedAnswer)
def _(scene: Scene, body: Body, rng: random.Random) -> Body:
    spots = [(body, f) for f in body] + [(body[p], f) for p in ("claim", "covers") for f in body[p]]
    where, name = rng.choice(spots)
    texts = [] if name == "id" else ["-1", "1e3", "\uff11"]
    where[name] = rng.choice([1.5, [], {}, "", 10**30, [where[name]], *texts])
    return body


@lie("a name twice", errors.MalformedAnswer)
def _(scene: Scene, body: Body, rng: random.Random) -> bytes:
    name = rng.choice(list(body))
    return json.dumps(body)[:-1].encode() + f', "{name}": {json.dumps(body[name])}}}'.encode()


@lie("not JSON", errors.MalformedAnswer)
def _(scene: Scene, body: Body, rng: random.Random) -> bytes:
    text = json.dumps(body).encode()
    return rng.choice(
        [b"", b"\xff\xfe", text[: rng.randrange(1, len(text))], b"[" * 5000, b"[" + text + b"," + text + b"]"]
    )
