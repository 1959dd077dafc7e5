"""Be paid without channeld: collect the best claim of every channel with the payee's own wallet.

What it needs is the claims file, any ledger node, and the payee's seed. One transaction at a time, each carried to its
end before the next: so running it again, or twice, pays nothing twice; the ledger itself knows what was paid.

Sources: rippled PayChan.cpp (PaymentChannelClaim by the destination; an expired channel pays nothing and succeeds all
the same, so only the Balance in validated metadata counts).
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from channeld.client.booking import Held
from channeld.client.channels import LedgerNode
from channeld.client.errors import BadArgument, ClientError, LedgerUnreachable
from channeld.core.base58 import decode_checked
from channeld.core.channel import Channel, Phase
from channeld.core.errors import BadValue, Malformed
from channeld.core.units import format_xrp, to_ripple
from channeld.wire import ledger as wire
from channeld.wire.transactions import LARGEST_IMPLIED_NETWORK

_LIVES_LEDGERS: Final = 20
_LOOK_S: Final = 0.5
_TRIES: Final = 3


class Wallet(NamedTuple):
    """The payee's key pair. Its repr shows no secret."""

    address: str
    public_key: str
    private_key: str

    def __repr__(self) -> str:
        return f"Wallet({self.address})"


class Outcome(NamedTuple):
    """What came of one channel: `paid` drops by this run, and a sentence. `done`: nothing is left to collect."""

    channel_id: str
    paid: int
    done: bool
    text: str


def read_wallet(path: Path, payees: set[str]) -> Wallet:
    """The wallet of a seed file: one line, `s...` or `sEd...`, readable by its owner only.

    An `s...` seed stands for two accounts, one a key type: the one that is a payee of the claims is taken. Raises
    `BadArgument`, whose text never holds the seed.
    """
    seed = _read_seed(path)
    from xrpl.constants import CryptoAlgorithm
    from xrpl.core import keypairs

    kinds = [CryptoAlgorithm.ED25519]
    if not seed.startswith("sEd"):
        kinds.insert(0, CryptoAlgorithm.SECP256K1)
    found = []
    for kind in kinds:
        public, private = keypairs.derive_keypair(seed, algorithm=kind)
        found.append(Wallet(keypairs.derive_classic_address(public), public, private))
    for wallet in found:
        if wallet.address in payees:
            return wallet
    addresses = " or ".join(wallet.address for wallet in found)
    raise BadArgument(f"--seed-file is of {addresses}, and no claim pays that; the claims pay {', '.join(payees)}")


def _read_seed(path: Path) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadArgument(f"--seed-file: {path}: {os.strerror(error.errno or 0).lower()}") from None
    with os.fdopen(fd, "rb") as file:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
            raise BadArgument(f"--seed-file: {path} is open to others than its owner; chmod 600 {path}")
        text = file.read(1000).decode("ascii", errors="replace").strip()
    if not text.startswith("s") or decode_checked(text) is None:
        raise BadArgument(f"--seed-file: {path} does not hold a family seed: one line, s... or sEd...")
    return text


class Redeemer:
    """Collects with one wallet through one node. `most_fee` bounds each transaction's cost, in drops."""

    def __init__(self, node: LedgerNode, wallet: Wallet, network_id: int, most_fee: int) -> None:
        self._node, self._wallet = node, wallet
        self._network_id, self._most_fee = network_id, most_fee

    async def redeem(self, held: Held) -> Outcome:
        """Collect what a claim is still worth. Raises `LedgerUnreachable` where the node does not answer."""
        channel_id, paid = held.claim.channel_id, 0
        for _ in range(_TRIES):
            channel = (await self._node.known(channel_id, 2**63)).channel
            worth, why = _worth(channel, held)
            if channel is None or not worth:
                return Outcome(channel_id, paid, True, why)
            fee = await self._fee()
            if worth <= fee:
                return Outcome(channel_id, paid, True, f"{worth} drops are left, which the fee of {fee} would eat")
            result = await self._pay_out(channel, held, fee)
            if isinstance(result, int):
                return Outcome(channel_id, paid + result, result == worth, f"paid {format_xrp(result)}")
            why = result
        return Outcome(channel_id, paid, False, why)

    async def _pay_out(self, channel: Channel, held: Held, fee: int) -> int | str:
        """Drops that one transaction moved, by validated metadata; or why it moved none."""
        claim = held.claim
        upto = min(claim.amount, channel.amount)
        account = await self._result("account_info", account=self._wallet.address, ledger_index="current")
        validated = await self._result("ledger", ledger_index="validated")
        last = int(validated["ledger_index"]) + _LIVES_LEDGERS
        fields = {
            "TransactionType": "PaymentChannelClaim",
            "Account": self._wallet.address,
            "Channel": claim.channel_id,
            "Balance": str(upto),
            "Amount": str(claim.amount),
            "Signature": claim.signature,
            "PublicKey": claim.public_key,
            "Fee": str(fee),
            "Flags": 0,
            "Sequence": int(account["account_data"]["Sequence"]),
            "LastLedgerSequence": last,
            "SigningPubKey": self._wallet.public_key,
        }
        if self._network_id > LARGEST_IMPLIED_NETWORK:
            fields["NetworkID"] = self._network_id
        blob, digest = self._sign(fields)
        answer = await self._result("submit", tx_blob=blob)
        return await self._outcome(claim.channel_id, digest, last, str(answer.get("engine_result")))

    def _sign(self, fields: dict[str, Any]) -> tuple[str, str]:
        """Blob and hash of a transaction. Once a channel, so the slow signer will do."""
        import hashlib

        from xrpl.core import binarycodec, keypairs

        message = bytes.fromhex(binarycodec.encode_for_signing(fields))
        signed = fields | {"TxnSignature": keypairs.sign(message, self._wallet.private_key)}
        blob = binarycodec.encode(signed)
        return blob, hashlib.sha512(b"TXN\x00" + bytes.fromhex(blob)).hexdigest()[:64].upper()

    async def _outcome(self, channel_id: str, digest: str, last: int, said: str) -> int | str:
        """Wait until a validated ledger has the transaction, or none can have it any more."""
        while True:
            validated = int((await self._result("ledger", ledger_index="validated"))["ledger_index"])
            answer = await self._node.ask("tx", transaction=digest)
            result = answer.get("result")
            if isinstance(result, dict) and result.get("validated") is True:
                found = wire.validated_transaction(result)
                moved = sum(change.paid for change in found.channels if change.channel.channel_id == channel_id)
                return moved if moved else f"{found.result}, and nothing was paid"
            if validated > last:
                return f"no ledger took the transaction; the node said {said}"
            await asyncio.sleep(_LOOK_S)

    async def _fee(self) -> int:
        """Drops for one transaction now, at most `most_fee`."""
        return min(self._most_fee, int(wire.open_fees(await self._result("fee")).open_ledger))

    async def _result(self, command: str, **parameters: Any) -> dict[str, Any]:
        answer = await self._node.ask(command, **parameters)
        result = answer.get("result")
        if not isinstance(result, dict):
            raise LedgerUnreachable(f"{self._node.url} answers {command} with {str(answer.get('error'))[:80]}")
        return result


def _worth(channel: Channel | None, held: Held) -> tuple[int, str]:
    """Drops a claim can still collect, and why if there are none."""
    if channel is None:
        return 0, "the channel is gone: it was closed, and what it paid before stays paid"
    if channel.phase(to_ripple(time.time())) is Phase.EXPIRED:
        return 0, "the channel has ended: nothing is paid out any more"
    worth = min(held.claim.amount, channel.amount) - channel.balance
    return max(0, worth), f"all of it was paid already, {format_xrp(channel.balance)} in all"


async def redeem_all(
    claims: list[Held],
    wallet: Wallet,
    *,
    url: str,
    network_id: int,
    most_fee: int,
    tell: Callable[[Outcome], None],
) -> bool:
    """Collect every claim that pays the wallet; whether nothing is left. `tell` hears of each as it is done."""
    node, complete = LedgerNode(url, network_id), True
    try:
        redeemer = Redeemer(node, wallet, network_id, most_fee)
        for held in claims:
            if held.payee.account != wallet.address:
                continue
            try:
                outcome = await redeemer.redeem(held)
            except LedgerUnreachable:
                raise
            except (ClientError, Malformed, BadValue, KeyError, TypeError, ValueError) as error:
                outcome = Outcome(held.claim.channel_id, 0, False, f"the node's answer makes no sense: {error!r}")
            tell(outcome)
            complete = complete and outcome.done
    finally:
        await node.close()
    return complete
