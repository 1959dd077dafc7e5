"""Errors of the API, in rippled's numbers and words.

Sources: rippled ErrorCodes.cpp (2.3.0).
"""

from __future__ import annotations

from typing import Any, Final

ERRORS: Final[dict[str, tuple[int, str]]] = {
    "actMalformed": (35, "Account malformed."),
    "actNotFound": (19, "Account not found."),
    "badKeyType": (76, "Bad key type."),
    "badSeed": (44, "Disallowed seed."),
    "channelAmtMalformed": (46, "Payment channel amount is malformed."),
    "channelMalformed": (45, "Payment channel is malformed."),
    "excessiveLgrRange": (78, "Ledger range exceeds 1000."),
    "forbidden": (3, "Bad credentials."),
    "internal": (73, "Internal error."),
    "invalidLgrRange": (79, "Ledger range is invalid."),
    "invalidParams": (31, "Invalid parameters."),
    "lgrIdxMalformed": (58, "Ledger index malformed."),
    "lgrIdxsInvalid": (57, "Ledger indexes invalid."),
    "lgrNotFound": (21, "ledgerNotFound"),
    "lgrNotValidated": (22, "Ledger not validated."),
    "malformedStream": (71, "Stream malformed."),
    "noPermission": (6, "You don't have permission for this command."),
    "notImpl": (74, "Not implemented."),
    "notSupported": (75, "Operation not supported."),
    "publicMalformed": (62, "Public key is malformed."),
    "txnNotFound": (29, "Transaction not found."),
    "unknownCmd": (32, "Unknown method."),
}
"""Errors that carry a number and a text. All others (entryNotFound, malformedRequest ...) are bare words in 2.3.0."""


class RpcError(Exception):
    """A request's answer is this error. `fields` stand beside it, as partial results do."""

    def __init__(self, error: str, message: str | None = None, **fields: Any) -> None:
        self.answer: dict[str, Any] = {**fields, "error": error}
        if error in ERRORS:
            number, text = ERRORS[error]
            self.answer |= {"error_code": number, "error_message": message or text}
        elif message is not None:
            self.answer["error_message"] = message
        super().__init__(error)


def missing(name: str) -> RpcError:
    """A field that must be there."""
    return RpcError("invalidParams", f"Missing field '{name}'.")


def invalid(name: str) -> RpcError:
    """A field whose value makes no sense."""
    return RpcError("invalidParams", f"Invalid field '{name}'.")


def expected(name: str, kind: str) -> RpcError:
    """A field of the wrong type."""
    return RpcError("invalidParams", f"Invalid field '{name}', not {kind}.")
