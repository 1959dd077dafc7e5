"""Transactions as they come in: the blob taken apart, its shape and its signature checked.

A blob becomes a `Transaction` or a `Refused` with rippled's own words; nothing of the ledger is looked at here.

Sources: rippled STTx.cpp, TxFormats.cpp, STTx.cpp passesLocalChecks, apply.cpp checkValidity (2.3.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from channeld.adapters.signer import verify
from channeld.core.claim import claim_message
from channeld.sandbox.ledger import keylets
from channeld.xrpl_core import binarycodec, get_field_instance

_TXN_ID: Final = b"TXN\x00"
_SIGN: Final = b"STX\x00"
_MIN_SIZE: Final = 32
_MAX_SIZE: Final = 1024 * 1024
_MAX_MEMO: Final = 1024
_COMMON_REQUIRED: Final = {"TransactionType", "Account", "Sequence", "Fee", "SigningPubKey"}
_COMMON_OPTIONAL: Final = {
    "Flags",
    "SourceTag",
    "PreviousTxnID",
    "LastLedgerSequence",
    "AccountTxnID",
    "OperationLimit",
    "Memos",
    "TicketSequence",
    "TxnSignature",
    "Signers",
    "NetworkID",
}
_FORMATS: Final[dict[str, tuple[str, str]]] = {
    "Payment": ("Destination Amount", "SendMax Paths InvoiceID DestinationTag DeliverMin CredentialIDs"),
    "PaymentChannelCreate": ("Destination Amount SettleDelay PublicKey", "CancelAfter DestinationTag"),
    "PaymentChannelFund": ("Channel Amount", "Expiration"),
    "PaymentChannelClaim": ("Channel", "Amount Balance Signature PublicKey CredentialIDs"),
    "TicketCreate": ("TicketCount", ""),
    "AccountSet": (
        "",
        "EmailHash WalletLocator WalletSize MessageKey Domain TransferRate SetFlag ClearFlag TickSize NFTokenMinter",
    ),
    "SetRegularKey": ("", "RegularKey"),
    "DepositPreauth": ("", "Authorize Unauthorize AuthorizeCredentials UnauthorizeCredentials"),
}
_URL_CHARACTERS: Final = frozenset(
    b"0123456789-._~:/?#[]@!$&'()*+,;=%ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_PSEUDO: Final = {"EnableAmendment", "SetFee", "UNLModify"}


class Refused(Exception):
    """The submit request is refused with this text; there is no engine_result."""


@dataclass(eq=False)
class Transaction:
    """A decoded transaction. `json` is what the API shows of it, without its hash; not to be changed."""

    blob: bytes
    hash: str
    json: dict[str, Any]

    def __post_init__(self) -> None:
        get = self.json.get
        self.type: str = self.json["TransactionType"]
        self.account: str = self.json["Account"]
        self.sequence: int = self.json["Sequence"]
        self.ticket: int | None = get("TicketSequence") if self.sequence == 0 else None
        self.fee: int = _native(self.json["Fee"])
        self.flags: int = get("Flags", 0)
        self.last_ledger: int | None = get("LastLedgerSequence")

    @property
    def proxy(self) -> int:
        """The sequence or ticket number it uses."""
        return self.ticket if self.ticket is not None else self.sequence

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands among its account's transactions: sequences before tickets."""
        return (0, self.sequence) if self.ticket is None else (1, self.ticket)

    @property
    def spend(self) -> int:
        """The drops beyond the fee that it may take from its account."""
        amount = self.json.get("Amount")
        spends = self.type in {"Payment", "PaymentChannelCreate", "PaymentChannelFund"}
        return int(amount) if spends and isinstance(amount, str) else 0


def _native(value: Any) -> int:
    """Drops of an amount field; -1 for an issued currency, which no rule here accepts."""
    return int(value) if isinstance(value, str) else -1


def decode(tx_blob: str) -> Transaction:
    """Take a transaction blob apart. Raises `Refused` with the exception text rippled shows."""
    blob = bytes.fromhex(tx_blob)
    if not _MIN_SIZE <= len(blob) <= _MAX_SIZE:
        raise Refused("Transaction length invalid")
    try:
        fields = binarycodec.decode(tx_blob)
        if not _is_canonical(fields):
            blob = bytes.fromhex(binarycodec.encode(fields))
    except Exception as error:  # the codec raises many types
        raise Refused("Transaction is not a valid serialization") from error
    if "TransactionType" not in fields:
        raise Refused("Field not found: TransactionType")
    _check_format(fields)
    return Transaction(blob, keylets.half_hex(_TXN_ID + blob), fields)


def _is_canonical(fields: dict[str, Any]) -> bool:
    ordinals = [get_field_instance(name).ordinal for name in fields]
    return ordinals == sorted(ordinals)


def _check_format(fields: dict[str, Any]) -> None:
    required, optional = _FORMATS.get(str(fields["TransactionType"]), ("", ""))
    needed = _COMMON_REQUIRED | set(required.split())
    for name in sorted(needed - fields.keys()):
        raise Refused(f"Field '{name}' is required but missing.")
    if fields["TransactionType"] in _FORMATS:
        for name in sorted(fields.keys() - needed - _COMMON_OPTIONAL - set(optional.split())):
            raise Refused(f"Field '{name}' found in disallowed location.")


def _without(blob: bytes, header: int, value: str | None) -> bytes:
    """The blob without one variable-length field, found by its header, length and value."""
    if value is None:
        return blob
    data = bytes.fromhex(value)
    return blob.replace(bytes([header]) + _length_prefix(len(data)) + data, b"", 1)


def _length_prefix(size: int) -> bytes:
    """The length as it stands before a field of `size` bytes: one byte up to 192, then two (up to 12480)."""
    if size <= 192:
        return bytes([size])
    return bytes([193 + ((size - 193) >> 8), (size - 193) & 0xFF])


def signing_bytes(tx: Transaction) -> bytes:
    """What the transaction's signature covers: all of it but TxnSignature and, in a Claim, Signature."""
    rest = _without(tx.blob, 0x74, tx.json.get("TxnSignature"))
    return _SIGN + _without(rest, 0x76, tx.json.get("Signature"))


def check(tx: Transaction) -> None:
    """The checks that need no ledger: signature and local form. Raises `Refused` with rippled's reason."""
    if problem := _signature_problem(tx):
        raise Refused(problem)
    if problem := _local_problem(tx):
        raise Refused(problem)


def _signature_problem(tx: Transaction) -> str | None:
    """Signers are not verified: no account has a signer list here, so the pipeline refuses every multi-signature."""
    key, signature = tx.json["SigningPubKey"], tx.json.get("TxnSignature", "")
    if "Signers" in tx.json:
        return "Cannot both single- and multi-sign." if key or signature else None
    if not key:
        return "Empty SigningPubKey."
    verified = verify(bytes.fromhex(key), signing_bytes(tx), bytes.fromhex(signature))
    return None if verified else "Invalid signature."


def _local_problem(tx: Transaction) -> str | None:
    if problem := _memo_problem(tx.json.get("Memos", [])):
        return problem
    if tx.type in _PSEUDO:
        return "Cannot submit pseudo transactions."
    return None


def _memo_problem(memos: list[Any]) -> str | None:
    size = 0
    for wrapped in memos:
        memo = wrapped.get("Memo")
        if memo is None:
            return "A memo array may contain only Memo objects."
        size += 2 + sum(4 + len(value) // 2 for value in memo.values())
        for name in ("MemoType", "MemoFormat"):
            if not _URL_CHARACTERS.issuperset(bytes.fromhex(memo.get(name, ""))):
                return (
                    "The MemoType and MemoFormat fields may only contain characters that are allowed in URLs"
                    " under RFC 3986."
                )
    return "The memo exceeds the maximum allowed size." if size > _MAX_MEMO else None


def is_known_key(key: str) -> bool:
    """Whether a public key has a form rippled knows: 33 bytes that begin with ED, 02 or 03. No curve check."""
    return len(key) == 66 and key[:2] in ("ED", "02", "03")


def claim_is_signed(tx: Transaction, drops: int) -> bool:
    """Whether a Claim's own Signature verifies under its PublicKey for its channel and `drops`."""
    message = claim_message(bytes.fromhex(tx.json["Channel"]), drops)
    return verify(bytes.fromhex(tx.json["PublicKey"]), message, bytes.fromhex(tx.json["Signature"]))
