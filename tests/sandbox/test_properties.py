"""What holds after any sequence of transactions, closes and faults."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channeld.core.units import MAX_DROPS
from channeld.sandbox.ledger import directory, keylets
from channeld.sandbox.ledger.faults import Order
from channeld.sandbox.ledger.state import ClosedView, Reader
from channeld.sandbox.ledger.view import Overlay
from tests.sandbox.rig import XRP, Rig, address, key

NAMES = ("alice", "bob", "eve")
CLOSE, RENEW = 0x00020000, 0x00010000
names = st.sampled_from(NAMES)
small = st.integers(1, 50 * XRP)


class AnyHistory(RuleBasedStateMachine):
    """Three accounts open, fund, claim and close channels, make and use tickets, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(capacity=6)
        self.rig.fund(*NAMES, drops=300 * XRP)
        self.channels: list[tuple[str, str, str]] = []
        self.tickets: list[tuple[str, int]] = []

    @rule(source=names, destination=names, drops=small, delay=st.sampled_from([0, 5, 3600]), use_ticket=st.booleans())
    def open_channel(self, source: str, destination: str, drops: int, delay: int, use_ticket: bool) -> None:
        mine = [number for owner, number in self.tickets if owner == source]
        fields: dict[str, Any] = {"Sequence": 0, "TicketSequence": mine[0]} if use_ticket and mine else {}
        body = {"Amount": str(drops), "SettleDelay": delay, "PublicKey": key(source).public_key}
        tx = self.rig.sign(source, "PaymentChannelCreate", Destination=address(destination), **body, **fields)
        if self.rig.offer(tx).result in ("tesSUCCESS", "terQUEUED"):
            channel = keylets.channel(tx.account, address(destination), tx.proxy)
            self.channels.append((channel, source, destination))

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), by=names, drops=small, flags=st.sampled_from([0, 0, CLOSE, RENEW]), pay=st.booleans())
    def claim(self, data: st.DataObject, by: str, drops: int, flags: int, pay: bool) -> None:
        channel, source, _ = data.draw(st.sampled_from(self.channels))
        signer = source if by != source else None
        if pay:
            self.rig.claim(by, channel, signer, Balance=str(drops), Flags=flags)
        else:
            self.rig.claim(by, channel, Flags=flags)

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), by=names, drops=small, ahead=st.none() | st.integers(0, 9000))
    def fund(self, data: st.DataObject, by: str, drops: int, ahead: int | None) -> None:
        channel, _, _ = data.draw(st.sampled_from(self.channels))
        fields = {} if ahead is None else {"Expiration": self.rig.pct + ahead}
        self.rig.submit(by, "PaymentChannelFund", Channel=channel, Amount=str(drops), **fields)

    @rule(by=names, count=st.integers(1, 40))
    def make_tickets(self, by: str, count: int) -> None:
        tx = self.rig.sign(by, "TicketCreate", TicketCount=count)
        if self.rig.offer(tx).result == "tesSUCCESS":
            self.tickets += [(by, tx.sequence + place) for place in range(1, count + 1)]

    @rule(by=names, other=names)
    def preauthorize(self, by: str, other: str) -> None:
        self.rig.submit(by, "DepositPreauth", Authorize=address(other))

    @rule(by=names, gap=st.integers(1, 3))
    def submit_ahead(self, by: str, gap: int) -> None:
        self.rig.submit(by, "AccountSet", Sequence=self.rig.sign(by, "AccountSet").sequence + gap)

    @rule(count=st.integers(1, 3), adverse=st.booleans(), skip_s=st.sampled_from([0, 20, 4000]))
    def close(self, count: int, adverse: bool, skip_s: int) -> None:
        if adverse:
            self.rig.node.faults.orders["reorder"] = Order(1)
        assert self.rig.node.clock.frozen_at is not None
        self.rig.node.clock.frozen_at += skip_s
        self.rig.close(count)

    @invariant()
    def drops_are_conserved(self) -> None:
        node = self.rig.node
        assert _sum_of_drops(dict(node.state.objects())) == node.validated.total_coins
        view = node.open.view
        everything = dict(node.state.objects()) | view.changes
        assert _sum_of_drops(everything) + view.burned == node.validated.total_coins
        assert node.validated.total_coins <= MAX_DROPS

    @invariant()
    def directories_and_owner_counts_agree(self) -> None:
        node = self.rig.node
        closed = ClosedView(node.state, node.validated.index)
        _check_owners(closed, dict(node.state.objects()))
        _check_owners(node.open.view, dict(node.state.objects()) | node.open.view.changes)

    @invariant()
    def the_open_ledger_left_no_trace_in_the_closed(self) -> None:
        node = self.rig.node
        again = Overlay(node.state, node.open.view.context)
        assert again.read(keylets.account(address("alice"))) == node.state.read(keylets.account(address("alice")))
        assert node.validated.account_hash == node.state.digest()


def _sum_of_drops(objects: dict[str, Any]) -> int:
    total = 0
    for fields in objects.values():
        kind = fields["LedgerEntryType"] if fields else None
        if kind == "AccountRoot":
            total += int(fields["Balance"])
        elif kind == "PayChannel":
            total += int(fields["Amount"]) - int(fields["Balance"])
    return total


def _check_owners(reader: Reader, objects: dict[str, Any]) -> None:
    """Every object stands on the page it names, pages link both ways and are sorted, and counts are those of owners."""
    listed: dict[str, set[str]] = {}
    for name in NAMES:
        entries = [key for _, page in directory.pages(reader, address(name)) for key in page]
        assert len(entries) == len(set(entries))
        listed[address(name)] = set(entries)
        _check_links(reader, address(name))
    expected: dict[str, set[str]] = {address(name): set() for name in NAMES}
    owned = dict.fromkeys(expected, 0)
    for index, fields in objects.items():
        if not fields or fields["LedgerEntryType"] not in ("PayChannel", "Ticket", "DepositPreauth"):
            continue
        owned[fields["Account"]] += 1
        _check_page(reader, fields["Account"], fields["OwnerNode"], index)
        expected[fields["Account"]].add(index)
        if "DestinationNode" in fields:
            _check_page(reader, fields["Destination"], fields["DestinationNode"], index)
            expected[fields["Destination"]].add(index)
    assert listed == expected
    for owner, count in owned.items():
        assert (reader.read(keylets.account(owner)) or {})["OwnerCount"] == count


def _check_page(reader: Reader, owner: str, number: str, index: str) -> None:
    page = reader.read(keylets.page(keylets.owner_directory(owner), int(number, 16)))
    assert page is not None
    assert index in page["Indexes"]


def _check_links(reader: Reader, owner: str) -> None:
    previous = 0
    for number, entries in directory.pages(reader, owner):
        page = reader.read(keylets.page(keylets.owner_directory(owner), number)) or {}
        assert entries == sorted(entries)
        assert len(entries) <= directory.PAGE_ENTRIES
        assert number == 0 or (entries and directory.link(page, "IndexPrevious") == previous)
        previous = number
    root = reader.read(keylets.owner_directory(owner))
    assert root is None or directory.link(root, "IndexPrevious") == previous


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
