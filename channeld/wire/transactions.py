"""Our transactions in the ledger's JSON form, ready to sign."""

from __future__ import annotations

from typing import Any, Final

from channeld.core.intents import Claim, Create, Fund, MakeTickets, Noop, Number, Redeem, Transaction
from channeld.core.units import Address, Drops, LedgerIndex

TF_CLOSE: Final = 0x00020000
LARGEST_IMPLIED_NETWORK: Final = 1024
"""Networks up to this id must not be named in a transaction, those above must be. Sources: rippled Transactor.cpp."""


def transaction_json(
    transaction: Transaction, *, account: Address, number: Number, fee: Drops, last_ledger: LedgerIndex, network_id: int
) -> dict[str, Any]:
    """A transaction in the ledger's JSON form, ready to sign; `last_ledger` is the last that may contain it.

    Sources: rippled Transactor.cpp checkSeqProxy (a ticket goes with Sequence 0).
    """
    common: dict[str, Any] = {
        "Account": account,
        "Sequence": 0 if number.ticket else number.value,
        "Fee": str(fee),
        "LastLedgerSequence": last_ledger,
        "Flags": 0,
    }
    if number.ticket:
        common["TicketSequence"] = number.value
    if network_id > LARGEST_IMPLIED_NETWORK:
        common["NetworkID"] = network_id
    return common | _own_fields(transaction)


def _own_fields(transaction: Transaction) -> dict[str, Any]:
    if isinstance(transaction, Create):
        fields: dict[str, Any] = {
            "TransactionType": "PaymentChannelCreate",
            "Destination": transaction.destination,
            "Amount": str(transaction.amount),
            "SettleDelay": transaction.settle_delay,
            "PublicKey": transaction.public_key,
        }
        if transaction.destination_tag is not None:
            fields["DestinationTag"] = transaction.destination_tag
        if transaction.cancel_after is not None:
            fields["CancelAfter"] = transaction.cancel_after
        return fields
    if isinstance(transaction, Fund):
        amount = str(transaction.amount)
        return {"TransactionType": "PaymentChannelFund", "Channel": transaction.channel_id, "Amount": amount}
    if isinstance(transaction, Claim):
        fields = {"TransactionType": "PaymentChannelClaim", "Channel": transaction.channel_id}
        if transaction.balance is not None:
            fields["Balance"] = str(transaction.balance)
        return fields | ({"Flags": TF_CLOSE} if transaction.close else {})
    if isinstance(transaction, Redeem):
        return _redeem_fields(transaction)
    if isinstance(transaction, MakeTickets):
        return {"TransactionType": "TicketCreate", "TicketCount": transaction.count}
    assert isinstance(transaction, Noop)
    return {"TransactionType": "AccountSet"}


def _redeem_fields(redeem: Redeem) -> dict[str, Any]:
    """A Claim by the destination.

    Balance is what is to have been paid afterwards, Amount what was signed; without Balance it would deliver nothing.
    """
    fields = {
        "TransactionType": "PaymentChannelClaim",
        "Channel": redeem.channel_id,
        "Balance": str(redeem.balance),
        "Amount": str(redeem.amount),
        "Signature": redeem.signature,
        "PublicKey": redeem.public_key,
    }
    return fields | ({"Flags": TF_CLOSE} if redeem.close else {})
