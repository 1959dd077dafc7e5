"""Everything the client raises on purpose, in one tree, grouped by what the caller must do about it.

    ClientError
      BadArgument        correct the call
      Rejection          the daemon said no; nothing was debited; one class a code of the contract
      NotAnswered        unknown: the request may have been accepted; `finish()` or the same id finds out
      NotAuthorized      the broker refuses this login
      TlsFailed          broker and client do not agree on TLS
      Lie                an answer that must not be believed: serve nothing, tell the operator
        ChannelEnds      the claim is good but its channel does not live long enough; it is kept, redeem it
      FileError          the claims file cannot be used; what it held before is untouched

None of them loses a claim that was held.
"""

from __future__ import annotations

from typing import Final

from channeld.core.errors import ChanneldError
from channeld.wire.answers import Accepted, Rejected


class ClientError(ChanneldError):
    """The root. `id` names the request, None where there is none."""

    def __init__(self, text: str, *, id: str | None = None) -> None:
        super().__init__(text)
        self.id = id


# --- the call --------------------------------------------------------------------------------------------------------


class BadArgument(ClientError, ValueError):
    """An argument is unusable: nothing was sent."""


class IdReused(BadArgument):
    """This id stands for another request, or is being asked right now: take a new id for a new request."""


# --- the daemon said no ----------------------------------------------------------------------------------------------


class Rejection(ClientError):
    """The daemon said no, and nothing was debited. `code`, `reason` and `retry_after_ms` are its own words.

    It was repeated as told for as long as the call's timeout allowed. This class itself stands for codes that are newer
    than this client.
    """

    def __init__(self, said: Rejected, *, id: str | None) -> None:
        super().__init__(f"{said.code}: {said.reason}", id=id)
        self.code, self.reason, self.retry_after_ms = said.code, said.reason, said.retry_after_ms


class BadRequest(Rejection):
    """A field is wrong, which the reason names."""


class TooLate(BadRequest):
    """`not_after` has passed and the id was never accepted: this request is void for ever."""


class BadResponseTopic(Rejection):
    """The broker let us use a Response Topic that is not below our own: its access list does not fit."""


class UnknownPayee(Rejection):
    """This login may not charge for this payee: ask the operator."""


class LimitExceeded(Rejection):
    """A cap of this server, user, tier or payee, which the reason names: later, or ask the operator."""


class NoHeadroom(Rejection):
    """No channel can carry it now; the reason says whether one is being opened or funded."""


class IdConflict(Rejection):
    """The id was accepted with other contents, by somebody who shares this login."""


class Frozen(Rejection):
    """Issuing is stopped; the reason says why."""


class Busy(Rejection):
    """More in flight than the daemon takes."""


class InternalError(Rejection):
    """A defect in the daemon."""


_BY_CODE: Final[dict[str, type[Rejection]]] = {
    "bad_request": BadRequest,
    "bad_response_topic": BadResponseTopic,
    "unknown_payee": UnknownPayee,
    "limit_exceeded": LimitExceeded,
    "no_headroom": NoHeadroom,
    "id_conflict": IdConflict,
    "frozen": Frozen,
    "busy": Busy,
    "internal": InternalError,
}


def rejection(said: Rejected, id: str) -> Rejection:
    """The exception for a rejection of the request `id`."""
    if said.code == "bad_request" and said.reason.startswith("not_after:"):
        return TooLate(said, id=id)
    return _BY_CODE.get(said.code, Rejection)(said, id=id)


# --- nobody knows ----------------------------------------------------------------------------------------------------


class NotAnswered(ClientError):
    """Whether the request was accepted is unknown. It is in the claims file; a late answer is still verified and kept.

    `finish()`, or the same call with this `id`, finds out. Once its `not_after` has passed it cannot be accepted anew.
    """


class BrokerLost(NotAnswered):
    """There is no connection to the broker."""


class LedgerUnreachable(NotAnswered):
    """The request was accepted, but the node that should confirm its channel does not answer. Its claim was kept."""


class NoChannelState(NotAnswered):
    """The request was accepted, but no node was given and the daemon publishes no state of its channel: nobody confirms
    it. Its claim was kept."""


class NotAuthorized(ClientError):
    """The broker refuses this login, or its access list does not let it read its own replies."""


class TlsFailed(ClientError):
    """Broker and client find no way to speak TLS; the text says why.

    Raised where there never was a connection. A client that had one goes on trying, and `BrokerLost` says why.
    """


class BrokerNotTrusted(TlsFailed):
    """The broker's certificate does not prove that it is the broker: nothing was sent to it, no login either."""


class CertificateRefused(TlsFailed):
    """The broker does not take our certificate, or wants one and got none."""


class WrongNetwork(ClientError):
    """The ledger node belongs to another network than the one expected: its channels are other channels."""


class Closed(ClientError):
    """The client is not open."""


# --- lies ------------------------------------------------------------------------------------------------------------


class Lie(ClientError):
    """An answer that must not be believed. Serve nothing for it. `accepted` is what was said, where it could be read.

    It is not counted as paid and nothing that was held is changed. The same id may be asked again.
    """

    def __init__(self, text: str, *, id: str | None = None, accepted: Accepted | None = None) -> None:
        super().__init__(text, id=id)
        self.accepted = accepted


class MalformedAnswer(Lie):
    """Not of the form that the contract promises."""


class WrongId(Lie):
    """An answer for another request came in reply to this one."""


class WrongDrops(Lie):
    """It says that it grants another amount than was asked for."""


class WrongSlice(Lie):
    """The slice is not as large as what was granted."""


class SliceSeen(Lie):
    """The slice, or a part of it, was sold to another request before."""


class ChangedAnswer(Lie):
    """The id was accepted before, with another answer."""


class ClaimTooLow(Lie):
    """The claim is below the end of the slice: it does not pay for it."""


class BadSignature(Lie):
    """The ledger would not accept the signature."""


class WrongKey(Lie):
    """Claim or channel have another public key than the pinned one."""


class WrongPayee(Lie):
    """Answer or channel name another payee."""


class WrongPayer(Lie):
    """Answer and channel name different payers, or one that is not the pinned one."""


class NoSuchChannel(Lie):
    """No validated ledger has the channel."""


class ClaimAboveChannel(Lie):
    """The claim is above what the channel holds."""


class ChannelEnds(Lie):
    """The channel does not live long enough to count on. The claim itself is good and was kept: redeem it soon."""


class ChannelExpired(ChannelEnds):
    """Its end is reached: nothing is paid out any more."""


class ChannelClosing(ChannelEnds):
    """It is closing, or has an expiration."""


class ChannelTooShort(ChannelEnds):
    """Its fixed end is too near."""


class SettleDelayTooShort(ChannelEnds):
    """A close would leave too little time to redeem."""


class ChannelGone(Lie):
    """The channel was closed before this answer could be kept; `accepted.paid` is what the daemon says was paid."""


# --- the file --------------------------------------------------------------------------------------------------------


class FileError(ClientError):
    """The claims file cannot be used. What it held before is untouched.

    `accepted` is an answer that was verified and could not be kept: mend the file, then ask the same id again.
    """

    def __init__(self, text: str, *, id: str | None = None, accepted: Accepted | None = None) -> None:
        super().__init__(text, id=id)
        self.accepted = accepted


class DiskFull(FileError):
    """No room for another claim."""


class FileBusy(FileError):
    """Another process holds the file for longer than we wait."""


class NotAClaimsFile(FileError):
    """It is something else, is damaged, or belongs to another server."""
