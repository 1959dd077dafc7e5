"""What a content server must check before it believes a claim: the signature, and the channel in a validated ledger."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from channeld.adapters.signer import verify
from channeld.core.claim import claim_message
from channeld.core.errors import ChanneldError
from channeld.core.units import Payee, parse_channel_id, parse_drops
from channeld.sandbox.ledger_client import LedgerClient

_HEX: Final = re.compile(r"(?:[0-9A-F]{2})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Seen:
    """A channel as a validated ledger showed it."""

    source: str
    payee: Payee
    public_key: str
    amount: int


class Verifier:
    """Checks replies for all servers. `source` is the wallet that must pay, `public_key` the claim key expected (hex).

    Channels are read once, and again when a claim is above the amount known.
    """

    def __init__(self, ledger: LedgerClient, source: str, public_key: str) -> None:
        self._ledger, self._source, self._public_key = ledger, source, public_key
        self._seen: dict[str, Seen] = {}

    async def check(self, reply: dict[str, Any], drops: int, payee: Payee) -> list[str]:
        """Everything that is wrong with an accepted reply to a request of `drops` for `payee`; empty if it is good."""
        try:
            channel_id = parse_channel_id(reply["claim"]["channel_id"], "channel_id")
            amount = parse_drops(reply["claim"]["amount"], "amount")
            covers = [parse_drops(reply["covers"][end], f"covers.{end}") for end in ("from", "to")]
            given = parse_drops(reply["drops"], "drops")
            parse_drops(reply["headroom"], "headroom")
        except (KeyError, TypeError, ChanneldError) as error:
            return [f"not of the promised form: {error!r}"]
        problems = _claim_problems(reply["claim"], channel_id, amount)
        if not covers[1] - covers[0] == given == drops:
            problems.append(f"{drops} drops were asked for, {given} granted, {covers[0]}..{covers[1]} covered")
        if amount < covers[1]:
            problems.append(f"the claim's {amount} is below what it covers, {covers[1]}")
        return problems + self._names(reply, payee) + await self._channel(channel_id, amount, payee)

    def _names(self, reply: dict[str, Any], payee: Payee) -> list[str]:
        """What the reply says of the parties and of the key."""
        expected = {
            "source_account": self._source,
            "destination_account": payee.account,
            "destination_tag": payee.tag,
        }
        wrong = [f"{name} is {reply.get(name)!r}" for name, value in expected.items() if reply.get(name) != value]
        if reply["claim"].get("public_key") != self._public_key:
            wrong.append("the public key is not the one that was announced")
        return wrong

    async def _channel(self, channel_id: str, amount: int, payee: Payee) -> list[str]:
        """What a validated ledger says of the channel."""
        seen = self._seen.get(channel_id)
        if seen is None or seen.amount < amount:
            fresh = await self._read(channel_id)
            if isinstance(fresh, str):
                return [fresh]
            seen = self._seen[channel_id] = fresh
        expected = (self._source, payee, self._public_key)
        problems = []
        if (seen.source, seen.payee, seen.public_key) != expected:
            problems.append(f"channel {channel_id} is from {seen.source} to {seen.payee} with key {seen.public_key}")
        if seen.amount < amount:
            problems.append(f"the claim's {amount} is above the channel's {seen.amount}")
        return problems

    async def _read(self, channel_id: str) -> Seen | str:
        answer = await self._ledger.ask("ledger_entry", payment_channel=channel_id, ledger_index="validated")
        result = answer.get("result", {})
        if not result.get("validated"):
            return f"channel {channel_id} is in no validated ledger: {answer.get('error')}"
        node = result["node"]
        payee = Payee(node["Destination"], node.get("DestinationTag"))
        return Seen(node["Account"], payee, node["PublicKey"], int(node["Amount"]))


def _claim_problems(claim: dict[str, Any], channel_id: str, amount: int) -> list[str]:
    """Whether the claim verifies as it stands, as a ledger would."""
    signature, public_key = claim.get("signature"), claim.get("public_key")
    for text in (signature, public_key):
        if not isinstance(text, str) or not _HEX.fullmatch(text):
            return ["signature and public key must be upper-case hex"]
    message = claim_message(bytes.fromhex(channel_id), amount)
    good = verify(bytes.fromhex(str(public_key)), message, bytes.fromhex(str(signature)))
    return [] if good else [f"the signature over {amount} on {channel_id} does not verify"]
