"""Channels that pay us: which claims are taken in, and the transaction that collects the best of them.

A claim that a payer signed is worth what a validated ledger says the channel still holds of it, for as long as the
channel lives.

*May this claim be taken in?* In this order: the channel stands in a validated ledger; it pays an account for which the
server may hand in; key and signature are those that the ledger will ask for; the amount is within the channel, and
above both the best one held and what was paid; the channel is not closing; and it has what the policy asks for.

When what is held is collected, and whether rules want it otherwise, is said in `core.collecting`.

Sources: rippled PaymentChannelClaim.cpp (who may be paid, expiry first), PaymentChannelFund.cpp (a Fund may set an
Expiration too).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from channeld.core.channel import Channel, Phase
from channeld.core.claim import claim_message
from channeld.core.intents import Redeem
from channeld.core.policy import ReceiveTerms
from channeld.core.records import Incoming
from channeld.core.requests import Code, HandIn, Refusal
from channeld.core.units import Address, Drops, RippleTime

Verify = Callable[[bytes, bytes, bytes], bool]
"""Rippled's verdict on (public key, message, signature); never raises."""


# --- taking in -------------------------------------------------------------------------------------------------------


def judge_claim(
    claim: HandIn,
    incoming: Incoming | None,
    accounts: Collection[Address],
    terms: ReceiveTerms,
    *,
    now: RippleTime,
    verify: Verify,
) -> Drops | Refusal:
    """What a claim adds to what is held, 1 or more; or why it is not taken in.

    `incoming` is what is known of its channel (None: no validated ledger shows it, or it is gone), `accounts` are those
    for which the server may hand in, `now` is the close time of the last validated ledger.
    """
    if incoming is None or incoming.closed_at is not None:
        return Refusal(Code.UNKNOWN_CHANNEL, "claim: no validated ledger shows this channel paying an account of ours")
    if incoming.channel.destination_account not in accounts:
        return Refusal(Code.NOT_OURS, "claim: the channel pays an account this server may not hand in claims for")
    if not _signed(claim, incoming.channel, verify):
        return Refusal(Code.BAD_SIGNATURE, "claim: key or signature are not what the ledger will ask for")
    return _added(claim, incoming, terms, now)


def _added(claim: HandIn, incoming: Incoming, terms: ReceiveTerms, now: RippleTime) -> Drops | Refusal:
    """The same of a claim that its payer signed, on a channel that pays an account of ours."""
    channel = incoming.channel
    if claim.amount > channel.amount:
        return Refusal(Code.AMOUNT_EXCEEDS_CHANNEL, f"claim: the channel holds {channel.amount} drops in all")
    best = max(incoming.held, channel.balance)
    if claim.amount <= best:
        return Refusal(Code.AMOUNT_NOT_HIGHER, f"claim: {best} drops are held or paid already")
    if channel.phase(now) is not Phase.OPEN:
        return Refusal(Code.CHANNEL_CLOSING, "claim: the channel is closing: what is signed now might never be paid")
    if (why := _unfit(channel, terms, now)) is not None:
        return Refusal(Code.POLICY, why)
    return Drops(claim.amount - best)


def _signed(claim: HandIn, channel: Channel, verify: Verify) -> bool:
    if claim.public_key != channel.public_key:
        return False
    message = claim_message(bytes.fromhex(channel.channel_id), claim.amount)
    return verify(bytes.fromhex(channel.public_key), message, claim.signature)


def _unfit(channel: Channel, terms: ReceiveTerms, now: RippleTime) -> str | None:
    """What a channel lacks that the policy asks for, or None."""
    if channel.amount < terms.min_amount:
        return f"claim: the channel holds {channel.amount} drops, receive.min_amount is {terms.min_amount}"
    if channel.settle_delay < terms.min_settle_delay:
        return f"claim: settle delay {channel.settle_delay} s, receive.min_settle_delay is {terms.min_settle_delay} s"
    if channel.cancel_after is not None and channel.cancel_after - now < terms.min_life:
        left = max(0, channel.cancel_after - now)
        return f"claim: the channel ends in {left} s, receive.min_life is {terms.min_life} s"
    return None


# --- collecting ------------------------------------------------------------------------------------------------------


def redemption(incoming: Incoming | None, terms: ReceiveTerms, now: RippleTime, *, halted: bool) -> Redeem | None:
    """The transaction that collects the best claim held; None if nothing is left to collect, or it is too late.

    `halted`: nothing is taken in for the account now. Then the channel is not given up, whatever the terms say: an old
    copy of the store holds less than was signed, and so does a newest one that may not take in what is handed to it.
    """
    if incoming is None or not incoming.collectable or incoming.channel.deletable(now):
        return None
    channel = incoming.channel
    balance = Drops(min(incoming.held, channel.amount))
    close = terms.close_with_last and channel.expiration is not None and not halted
    return Redeem(channel.channel_id, balance, Drops(incoming.held), incoming.signature, channel.public_key, close)
