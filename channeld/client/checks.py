"""What makes an answer believable: a table of checks, each for one kind of lie and for no other.

Pure: they compare what was asked, what was answered and what is known of the channel, and raise a `Lie`. Whether a
slice was seen before only the claims file knows: see `journal`.

Sources: rippled PayChan.cpp (what a claim can collect); paychan rules on expiry, of which the earlier one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from channeld.client.errors import (
    BadSignature,
    ChannelClosing,
    ChannelExpired,
    ChannelGone,
    ChannelTooShort,
    ClaimAboveChannel,
    ClaimTooLow,
    Lie,
    NoSuchChannel,
    SettleDelayTooShort,
    WrongDrops,
    WrongId,
    WrongKey,
    WrongPayee,
    WrongPayer,
    WrongSlice,
)
from channeld.core.channel import Channel
from channeld.core.claim import claim_message
from channeld.core.units import Payee, RippleTime
from channeld.signatures import verify
from channeld.wire.answers import Accepted


class Asked(NamedTuple):
    """A request as it stands in the claims file. `contents` is the JSON of all but its id; `not_after` Unix seconds."""

    id: str
    payee: Payee
    drops: int
    not_after: int
    contents: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What a payee insists on.

    `public_keys` are pinned, upper-case hex; `payer` is, where it is not None, the only account that may pay.
    `min_settle_delay_s` is what a close must leave, `min_life_s` what must be left until a fixed end.
    """

    public_keys: frozenset[str]
    payer: str | None
    min_settle_delay_s: int
    min_life_s: int


class Known(NamedTuple):
    """What is known of a channel: None where no validated ledger has it. `closing` is said beside the ledger's fields.

    `now` is the ripple time to which ends are compared.
    """

    channel: Channel | None
    closing: bool
    now: RippleTime


def _id(said: Accepted, asked: Asked, _: Terms) -> None:
    if said.id != asked.id:
        raise WrongId(f"an answer for {said.id!r} came in reply to {asked.id!r}")


def _drops(said: Accepted, asked: Asked, _: Terms) -> None:
    if said.drops != asked.drops:
        raise WrongDrops(f"{asked.drops} drops were asked for, {said.drops} granted")


def _slice(said: Accepted, asked: Asked, _: Terms) -> None:
    if said.covers_to - said.covers_from != asked.drops:
        raise WrongSlice(f"{asked.drops} drops were asked for, the slice is {said.covers_from}..{said.covers_to}")


def _claim_covers(said: Accepted, _: Asked, __: Terms) -> None:
    if said.claim.amount < said.covers_to:
        raise ClaimTooLow(f"the claim is for {said.claim.amount}, its slice ends at {said.covers_to}")


def _payee(said: Accepted, asked: Asked, _: Terms) -> None:
    if said.payee != asked.payee:
        raise WrongPayee(f"the answer names {said.payee}, not {asked.payee}")


def _payer(said: Accepted, _: Asked, terms: Terms) -> None:
    if terms.payer is not None and said.source_account != terms.payer:
        raise WrongPayer(f"the answer names {said.source_account} as the payer, not {terms.payer}")


def _key(said: Accepted, _: Asked, terms: Terms) -> None:
    if said.claim.public_key not in terms.public_keys:
        raise WrongKey(f"the claim has public key {said.claim.public_key}, which is not pinned")


def _signature(said: Accepted, _: Asked, __: Terms) -> None:
    claim = said.claim
    message = claim_message(bytes.fromhex(claim.channel_id), claim.amount)
    if not verify(bytes.fromhex(claim.public_key), message, bytes.fromhex(claim.signature)):
        raise BadSignature(f"the signature over {claim.amount} on {claim.channel_id} does not verify")


def _lives(said: Accepted, _: Asked, __: Terms) -> None:
    if said.paid is not None:
        raise ChannelGone(f"channel {said.claim.channel_id} is closed and is said to have paid {said.paid} in all")


AnswerCheck = Callable[[Accepted, Asked, Terms], None]
ANSWER_CHECKS: Final[tuple[AnswerCheck, ...]] = (
    _id,
    _drops,
    _slice,
    _claim_covers,
    _payee,
    _payer,
    _key,
    _signature,
    _lives,
)
"""What an answer must be by itself; the cheap ones first."""


def _exists(said: Accepted, _: Asked, __: Terms, known: Known) -> None:
    if known.channel is None:
        raise NoSuchChannel(f"no validated ledger has channel {said.claim.channel_id}")


def _pays_payee(_: Accepted, asked: Asked, __: Terms, known: Known) -> None:
    if known.channel is not None and known.channel.payee != asked.payee:
        raise WrongPayee(f"channel {known.channel.channel_id} pays {known.channel.payee}, not {asked.payee}")


def _from_payer(said: Accepted, _: Asked, __: Terms, known: Known) -> None:
    if known.channel is not None and known.channel.source_account != said.source_account:
        raise WrongPayer(f"the channel is paid by {known.channel.source_account}, not {said.source_account}")


def _has_key(said: Accepted, _: Asked, __: Terms, known: Known) -> None:
    if known.channel is not None and known.channel.public_key.upper() != said.claim.public_key:
        raise WrongKey(f"channel {known.channel.channel_id} has public key {known.channel.public_key}")


def _has_amount(said: Accepted, _: Asked, __: Terms, known: Known) -> None:
    if known.channel is not None and known.channel.amount < said.claim.amount:
        raise ClaimAboveChannel(f"the claim is for {said.claim.amount}, the channel holds {known.channel.amount}")


def _is_not_over(_: Accepted, __: Asked, ___: Terms, known: Known) -> None:
    channel = known.channel
    if channel is not None and channel.deadline is not None and known.now >= channel.deadline:
        raise ChannelExpired(f"channel {channel.channel_id} ended at ripple time {channel.deadline}, it is {known.now}")


def _is_open(_: Accepted, __: Asked, ___: Terms, known: Known) -> None:
    channel = known.channel
    over = channel is not None and channel.expiration is not None and known.now >= channel.expiration
    if channel is not None and not over and (known.closing or channel.expiration is not None):
        raise ChannelClosing(f"channel {channel.channel_id} is closing; it expires at {channel.expiration}")


def _lasts(_: Accepted, __: Asked, terms: Terms, known: Known) -> None:
    channel = known.channel
    if channel is None or channel.cancel_after is None or known.now >= channel.cancel_after:
        return
    if channel.cancel_after - known.now < terms.min_life_s:
        raise ChannelTooShort(f"channel {channel.channel_id} ends in {channel.cancel_after - known.now} s")


def _leaves_time(_: Accepted, __: Asked, terms: Terms, known: Known) -> None:
    channel = known.channel
    if channel is not None and channel.settle_delay < terms.min_settle_delay_s:
        raise SettleDelayTooShort(f"a close leaves {channel.settle_delay} s, {terms.min_settle_delay_s} are asked for")


ChannelCheck = Callable[[Accepted, Asked, Terms, Known], None]
CHANNEL_CHECKS: Final[tuple[ChannelCheck, ...]] = (
    _exists,
    _pays_payee,
    _from_payer,
    _has_key,
    _has_amount,
    _is_not_over,
    _is_open,
    _lasts,
    _leaves_time,
)
"""What the channel must be. Those about its life come last: what fails only there is still worth keeping."""


def check_answer(said: Accepted, asked: Asked, terms: Terms) -> None:
    """Raise the `Lie` that an answer is by itself, if it is one. Some 50 us, nearly all for the signature."""
    try:
        for check in ANSWER_CHECKS:
            check(said, asked, terms)
    except Lie as lie:
        raise _about(lie, said, asked) from None


def check_channel(said: Accepted, asked: Asked, terms: Terms, known: Known) -> None:
    """Raise the `Lie` that the channel shows, if it does."""
    try:
        for check in CHANNEL_CHECKS:
            check(said, asked, terms, known)
    except Lie as lie:
        raise _about(lie, said, asked) from None


def _about(lie: Lie, said: Accepted, asked: Asked) -> Lie:
    lie.id, lie.accepted = asked.id, said
    return lie
