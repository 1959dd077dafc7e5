"""What the ledger says happened to a wallet's channels, read from validated transactions and from nothing else.

It is the third witness, and shares no code with the daemon's own reading of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from channeld.sandbox.ledger_client import GENESIS_ADDRESS, LedgerClient

_PAGE: Final = 400
OLDEST: Final = -1
"""In a range of ledgers, as the API writes it: the oldest there is."""


class Payout(NamedTuple):
    """Drops that one transaction moved from a channel to its payee."""

    channel_id: str
    ledger_index: int
    drops: int


@dataclass(slots=True)
class Life:
    """A channel from its opening on. Amounts are drops, as of the last transaction that touched it; `closed` if gone.

    `funded` counts the times it got more, `payouts` the times something was paid out.
    """

    channel_id: str
    destination: str
    destination_tag: int | None
    amount: int
    paid: int = 0
    funded: int = 0
    payouts: int = 0
    closing: bool = False
    closed: bool = False


@dataclass(slots=True)
class Chronicle:
    """Channels, payouts and fees, transaction by transaction, each counted once whoever it is read from."""

    lives: dict[str, Life] = field(default_factory=dict)
    payouts: list[Payout] = field(default_factory=list)
    fees: dict[str, int] = field(default_factory=dict)

    def read(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Take in entries of `account_tx` (API version 2), in the order they were validated in."""
        for entry in entries:
            if entry["hash"] in self.fees or not entry.get("validated"):
                continue
            self.fees[entry["hash"]] = int(entry["tx_json"]["Fee"])
            for wrapped in entry["meta"]["AffectedNodes"]:
                ((how, node),) = wrapped.items()
                if node["LedgerEntryType"] == "PayChannel":
                    self._node(how, node, int(entry["ledger_index"]))

    def _node(self, how: str, node: Mapping[str, Any], ledger_index: int) -> None:
        channel_id = str(node["LedgerIndex"])
        if how == "CreatedNode":
            new = node["NewFields"]
            tag = new.get("DestinationTag")
            self.lives[channel_id] = Life(channel_id, new["Destination"], tag, int(new["Amount"]))
            return
        life, now = self.lives[channel_id], node["FinalFields"]
        amount, paid = int(now["Amount"]), int(now["Balance"])
        if paid != life.paid:
            self.payouts.append(Payout(channel_id, ledger_index, paid - life.paid))
            life.payouts += 1
        life.funded += amount > life.amount
        life.amount, life.paid = amount, paid
        life.closing, life.closed = "Expiration" in now, how == "DeletedNode"


class LedgerSays(NamedTuple):
    """The ledger as of one validated ledger, `ledger_index`.

    `start` and `end` are account balances before anything happened and now; `remaining` is what each channel that
    still stands holds; `coins` is how many drops there are in all, as the ledger's header says.
    """

    ledger_index: int
    start: Mapping[str, int]
    end: Mapping[str, int]
    remaining: Mapping[str, int]
    coins: int
    chronicle: Chronicle


async def transactions(ledger: LedgerClient, account: str, first: int, last: int) -> list[dict[str, Any]]:
    """All validated transactions of an account in ledgers `first` to `last`, oldest first."""
    found: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {
        "account": account,
        "ledger_index_min": first,
        "ledger_index_max": last,
        "forward": True,
        "limit": _PAGE,
    }
    while True:
        page = await ledger.result("account_tx", **parameters)
        found += page["transactions"]
        if "marker" not in page:
            return found
        parameters["marker"] = page["marker"]


async def validated_index(ledger: LedgerClient) -> int:
    """The number of the newest validated ledger."""
    answer = await ledger.result("ledger", ledger_index="validated")
    return int(answer["ledger_index"])


async def balances(ledger: LedgerClient, accounts: Iterable[str], index: int) -> dict[str, int]:
    """What accounts held as of ledger `index`, drops."""
    found = {}
    for account in accounts:
        answer = await ledger.result("account_info", account=account, ledger_index=index)
        found[account] = int(answer["account_data"]["Balance"])
    return found


async def question(ledger: LedgerClient, wallet: str, start: Mapping[str, int]) -> LedgerSays:
    """Read everything as of one validated ledger, while it goes on closing others.

    `start` names all accounts there are, with what they held at the beginning.
    """
    index = await validated_index(ledger)
    chronicle = Chronicle()
    for account in (wallet, GENESIS_ADDRESS):
        chronicle.read(await transactions(ledger, account, OLDEST, index))
    header = await ledger.result("ledger", ledger_index=index)
    standing = await ledger.channels(wallet, index)
    remaining = {c["channel_id"]: int(c["amount"]) - int(c["balance"]) for c in standing}
    end = await balances(ledger, start, index)
    return LedgerSays(index, start, end, remaining, int(header["ledger"]["total_coins"]), chronicle)
