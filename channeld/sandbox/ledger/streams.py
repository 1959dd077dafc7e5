"""Subscriptions, and the messages they get.

`ledgerClosed` goes out before that ledger's transactions. An account subscription besides the transactions stream
delivers a matching transaction twice, as rippled does. Messages are serialised once per API version, however many
listen.

Sources: rippled NetworkOPs.cpp pubLedger, pubValidatedTransaction, pubAccountTransaction, transJson (2.3.0).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.headers import Header, iso_time
from channeld.sandbox.ledger.history import Record
from channeld.sandbox.ledger.results import number_of, text_of
from channeld.sandbox.ledger.view import Fees

STREAMS: Final = ("ledger", "transactions", "transactions_proposed")
QUIET_STREAMS: Final = ("server", "validations", "manifests", "peer_status", "consensus", "book_changes")
"""Streams that can be subscribed to and on which nothing ever comes here."""
ALIASES: Final = {"rt_transactions": "transactions_proposed"}


class Subscriber(Protocol):
    """A connection that messages can be sent to."""

    def publish(self, message_type: str, text: str) -> None:
        """Send a message; never blocks."""


class Streams:
    """Who listens to what."""

    def __init__(self) -> None:
        self._streams: dict[str, dict[Subscriber, int]] = defaultdict(dict)
        self._accounts: dict[str, dict[Subscriber, int]] = defaultdict(dict)
        self._proposed: dict[str, dict[Subscriber, int]] = defaultdict(dict)

    def join(self, subscriber: Subscriber, stream: str, api_version: int) -> None:
        """Subscribe to a stream."""
        self._streams[ALIASES.get(stream, stream)][subscriber] = api_version

    def leave(self, subscriber: Subscriber, stream: str) -> None:
        """Unsubscribe from a stream."""
        self._streams[ALIASES.get(stream, stream)].pop(subscriber, None)

    def watch(self, subscriber: Subscriber, addresses: Iterable[str], proposed: bool, api_version: int) -> None:
        """Subscribe to accounts; `proposed` includes transactions that are not validated yet."""
        table = self._proposed if proposed else self._accounts
        for address in addresses:
            table[address][subscriber] = api_version

    def unwatch(self, subscriber: Subscriber, addresses: Iterable[str], proposed: bool) -> None:
        """Unsubscribe from accounts."""
        table = self._proposed if proposed else self._accounts
        for address in addresses:
            if address in table:
                table[address].pop(subscriber, None)
                if not table[address]:
                    del table[address]

    def drop(self, subscriber: Subscriber) -> None:
        """Forget a connection. Costs the number of watched accounts, once per connection."""
        for table in (self._streams, self._accounts, self._proposed):
            for name in [name for name, members in table.items() if subscriber in members]:
                del table[name][subscriber]
                if not table[name]:
                    del table[name]

    def closed(self, header: Header, records: list[Record], fees: Fees, validated_ledgers: str) -> None:
        """Tell of a closed ledger, then of its transactions."""
        message = ledger_fields(header, fees, validated_ledgers)
        text = json.dumps({"type": "ledgerClosed", "txn_count": header.transaction_count, **message})
        for subscriber in list(self._streams.get("ledger", ())):
            subscriber.publish("ledgerClosed", text)
        for record in records:
            self._validated(header, record)

    def _validated(self, header: Header, record: Record) -> None:
        render = _renderer(lambda version: validated_message(header, record, version))
        for name in ("transactions", "transactions_proposed"):
            for subscriber, version in list(self._streams.get(name, {}).items()):
                subscriber.publish("transaction", render(version))
        self._tell_accounts(record.accounts, (self._accounts, self._proposed), render)

    def proposed(self, tx: Transaction, result: str, open_index: int) -> None:
        """Tell of a transaction that went into the open ledger."""
        render = _renderer(lambda version: proposed_message(tx, result, open_index, version))
        for subscriber, version in list(self._streams.get("transactions_proposed", {}).items()):
            subscriber.publish("transaction", render(version))
        self._tell_accounts(_named(tx), (self._proposed,), render)

    def _tell_accounts(
        self,
        addresses: Iterable[str],
        tables: tuple[dict[str, dict[Subscriber, int]], ...],
        render: Callable[[int], str],
    ) -> None:
        """Each connection once, however many of its accounts are concerned."""
        listeners = {
            subscriber: version
            for address in addresses
            for table in tables
            for subscriber, version in table.get(address, {}).items()
        }
        for subscriber, version in listeners.items():
            subscriber.publish("transaction", render(version))


def _renderer(make: Callable[[int], dict[str, Any]]) -> Callable[[int], str]:
    texts: dict[int, str] = {}

    def render(version: int) -> str:
        if version not in texts:
            texts[version] = json.dumps(make(version))
        return texts[version]

    return render


def _named(tx: Transaction) -> set[str]:
    """Accounts named in the transaction itself. A Fund or Claim names only its submitter."""
    names = ("Account", "Destination", "Authorize", "Unauthorize", "RegularKey")
    return {tx.json[name] for name in names if name in tx.json}


def ledger_fields(header: Header, fees: Fees, validated_ledgers: str) -> dict[str, Any]:
    """What subscribe's answer and ledgerClosed say of a ledger. Fees are numbers here."""
    return {
        "fee_base": fees.base,
        "ledger_hash": header.hash,
        "ledger_index": header.index,
        "ledger_time": header.close_time,
        "reserve_base": fees.reserve,
        "reserve_inc": fees.increment,
        "validated_ledgers": validated_ledgers,
    }


def shown(tx: Transaction, api_version: int) -> dict[str, Any]:
    """A transaction's fields; a Payment's Amount is DeliverMax, in version 2 only that."""
    fields = dict(tx.json)
    if tx.type == "Payment":
        fields["DeliverMax"] = fields["Amount"]
        if api_version > 1:
            del fields["Amount"]
    return fields


def _engine(result: str) -> dict[str, Any]:
    return {
        "engine_result": result,
        "engine_result_code": number_of(result),
        "engine_result_message": text_of(result),
    }


def _place_transaction(message: dict[str, Any], tx: Transaction, api_version: int, extra: dict[str, Any]) -> None:
    if api_version > 1:
        message["tx_json"] = shown(tx, api_version) | extra
        message["hash"] = tx.hash
    else:
        message["transaction"] = shown(tx, api_version) | extra | {"hash": tx.hash}


def validated_message(header: Header, record: Record, api_version: int) -> dict[str, Any]:
    """A `transaction` message about a validated transaction."""
    message: dict[str, Any] = {
        "type": "transaction",
        "validated": True,
        "status": "closed",
        "ledger_index": header.index,
        "ledger_hash": header.hash,
        "close_time_iso": iso_time(header.close_time),
        "meta": record.meta,
        **_engine(record.result),
    }
    _place_transaction(message, record.tx, api_version, {"date": header.close_time})
    return message


def proposed_message(tx: Transaction, result: str, open_index: int, api_version: int) -> dict[str, Any]:
    """A `transaction` message about one in the open ledger: no metadata, nothing final."""
    message: dict[str, Any] = {
        "type": "transaction",
        "validated": False,
        "status": "proposed",
        "ledger_current_index": open_index,
        **_engine(result),
    }
    _place_transaction(message, tx, api_version, {})
    return message
