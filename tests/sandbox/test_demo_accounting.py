"""The demo's accounting: one wrong number in any witness's statement turns exactly the right invariant false."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

import pytest

from channeld.core.units import MAX_DROPS
from channeld.sandbox.demo.accounting import INVARIANTS, audit
from channeld.sandbox.demo.books import StoreSays
from channeld.sandbox.demo.chronicle import Chronicle, LedgerSays, Payout
from channeld.sandbox.demo.summary import percentile_ms, summarize
from channeld.sandbox.demo.tally import Bought, Replay, Slices, Tally

OPEN, GONE = "A" * 64, "B" * 64
WALLET, GENESIS, PAYEE, OTHER = "rWallet", "rGenesis", "rPayee", "rOther"
START = {GENESIS: MAX_DROPS - 3_000_100, WALLET: 1_000_000, PAYEE: 1_000_000, OTHER: 1_000_000}
"""100 drops were burned when the accounts were paid in."""

Witnesses = tuple[Tally, StoreSays, LedgerSays]


def _node(how: str, channel_id: str, fields: Mapping[str, object]) -> dict[str, object]:
    kind = "NewFields" if how == "CreatedNode" else "FinalFields"
    return {how: {"LedgerEntryType": "PayChannel", "LedgerIndex": channel_id, kind: dict(fields)}}


def _entry(number: int, fee: int, *nodes: dict[str, object]) -> dict[str, object]:
    """A validated transaction as `account_tx` gives it."""
    return {
        "hash": f"{number:064X}",
        "validated": True,
        "ledger_index": number,
        "tx_json": {"Fee": str(fee)},
        "meta": {"AffectedNodes": list(nodes)},
    }


def _chronicle() -> Chronicle:
    """OPEN: opened with 500, funded to 800, paid 300. GONE: opened with 200, paid 50, closed."""
    chronicle = Chronicle()
    chronicle.read(
        [
            _entry(1, 100),
            _entry(2, 10, _node("CreatedNode", OPEN, {"Destination": PAYEE, "Amount": "500"})),
            _entry(3, 10, _node("CreatedNode", GONE, {"Destination": OTHER, "Amount": "200", "DestinationTag": 7})),
            _entry(4, 10, _node("ModifiedNode", OPEN, {"Amount": "800", "Balance": "0"})),
            _entry(5, 10, _node("ModifiedNode", OPEN, {"Amount": "800", "Balance": "300"})),
            _entry(6, 10, _node("ModifiedNode", GONE, {"Amount": "200", "Balance": "50", "Expiration": 1})),
            _entry(7, 10, _node("DeletedNode", GONE, {"Amount": "200", "Balance": "50", "Expiration": 1})),
        ]
    )
    return chronicle


def _witnesses() -> Witnesses:
    """Three statements about one history that fit."""
    bought = [
        Bought(b"1", OPEN, 0, 300, 300, 300),
        Bought(b"2", OPEN, 300, 310, 10, 350),
        Bought(b"3", OPEN, 310, 350, 40, 350),
        Bought(b"4", GONE, 0, 50, 50, 50),
    ]
    tally = Tally(sent=6, replayed=1, rejected={"no_headroom": 1}, verified=5)
    for one in bought:
        tally.accept(one)
    tally.replays.append(Replay((bought[0], "ABCD"), (bought[0], "ABCD"), marked=True))
    store = StoreSays(
        {one.key: (one.channel_id, one.covers_from, one.covers_to) for one in bought},
        {OPEN: 350, GONE: 50},
        [Payout(OPEN, 5, 300), Payout(GONE, 6, 50)],
        6,
    )
    end = {**START, WALLET: 1_000_000 - 800 - 50 - 60, PAYEE: 1_000_300, OTHER: 1_000_050}
    return tally, store, LedgerSays(8, START, end, {OPEN: 500}, MAX_DROPS - 160, _chronicle())


def _broken(witnesses: Witnesses) -> set[str]:
    return {name for name, found in audit(*witnesses).items() if found}


def test_a_true_history_holds_in_every_invariant() -> None:
    assert _broken(_witnesses()) == set()
    assert set(audit(*_witnesses())) == set(INVARIANTS)


Corruption = Callable[[Witnesses], Witnesses]


def _servers(change: Callable[[Tally], object]) -> Corruption:
    def apply(witnesses: Witnesses) -> Witnesses:
        change(witnesses[0])
        return witnesses

    return apply


def _store(**changes: Callable[[StoreSays], object]) -> Corruption:
    """The store with other values in these fields."""
    return lambda w: (w[0], w[1]._replace(**{name: change(w[1]) for name, change in changes.items()}), w[2])


def _ledger(**changes: Callable[[LedgerSays], object]) -> Corruption:
    """The ledger with other values in these fields."""
    return lambda w: (w[0], w[1], w[2]._replace(**{name: change(w[2]) for name, change in changes.items()}))


def _life(channel_id: str, **fields: int) -> Corruption:
    """The ledger with other values in a channel's life."""

    def apply(witnesses: Witnesses) -> Witnesses:
        lives = witnesses[2].chronicle.lives
        lives[channel_id] = replace(lives[channel_id], **fields)  # type: ignore[arg-type]
        return witnesses

    return apply


def _unseen_fee(witnesses: Witnesses) -> Witnesses:
    del witnesses[2].chronicle.fees[f"{1:064X}"]
    return witnesses


def _overlap(witnesses: Witnesses) -> Witnesses:
    """Two slices that share a drop, in the same way in what the servers and what the store say."""
    tally, store, ledger = witnesses
    tally.bought[1] = tally.bought[1]._replace(covers_from=299, covers_to=309)
    return tally, store._replace(requests={**store.requests, b"2": (OPEN, 299, 309)}), ledger


def _replay(*, amount: int = 300, signature: str = "ABCD", marked: bool = True) -> Corruption:
    def change(tally: Tally) -> None:
        first = tally.replays[0].first
        tally.replays[0] = Replay(first, (first[0]._replace(amount=amount), signature), marked)

    return _servers(change)


def _counted_more(tally: Tally) -> None:
    tally.bought[0] = tally.bought[0]._replace(drops=301)


def _without(requests: Mapping[bytes, tuple[str, int, int]], key: bytes) -> dict[bytes, tuple[str, int, int]]:
    return {k: v for k, v in requests.items() if k != key}


CORRUPTIONS: dict[str, dict[str, Corruption]] = {
    "accepted_equals_signed": {
        "the store signed a drop more": _store(authorized=lambda s: {OPEN: 351, GONE: 50}),
        "the store signed a drop less": _store(authorized=lambda s: {OPEN: 349, GONE: 50}),
        "signed on a channel nobody got a claim on": _store(authorized=lambda s: {**s.authorized, "C": 1}),
        "a request the servers never saw": _store(requests=lambda s: {**s.requests, b"5": (OPEN, 0, 1)}),
        "a request the store lost": _store(requests=lambda s: _without(s.requests, b"2")),
        "another slice in the store": _store(requests=lambda s: {**s.requests, b"1": (OPEN, 0, 299)}),
        "a server counted a drop more": _servers(_counted_more),
        "a claim below what was signed": _servers(lambda t: t.highest.update({OPEN: 349})),
    },
    "settled_not_above_signed": {"more paid than signed": _life(GONE, paid=51)},
    "ledger_conserves": {
        "a drop appeared": _ledger(end=lambda g: {**g.end, GENESIS: g.end[GENESIS] + 1}),
        "a channel holds a drop less": _ledger(remaining=lambda g: {OPEN: 499}),
        "a closed channel still stands": _ledger(remaining=lambda g: {**g.remaining, GONE: 0}),
        "the header burned another fee": _ledger(coins=lambda g: g.coins - 1),
        "a fee was not seen": _unseen_fee,
    },
    "every_reply_verified": {
        "a reply was not verified": _servers(lambda t: setattr(t, "verified", 4)),
        "a reply was found bad": _servers(lambda t: t.problem("bad")),
    },
    "slices_disjoint": {"two slices share a drop": _overlap},
    "replays_identical": {
        "another claim": _replay(amount=301),
        "another signature": _replay(signature="ABCE"),
        "not marked": _replay(marked=False),
        "one was not compared": _servers(lambda t: t.replays.clear()),
    },
    "payees_received_what_was_settled": {
        "a payee got a drop too much": _ledger(end=lambda g: {**g.end, PAYEE: 1_000_301, WALLET: g.end[WALLET] - 1}),
        "a payee got a drop too little": _ledger(end=lambda g: {**g.end, OTHER: 1_000_049, WALLET: g.end[WALLET] + 1}),
        "the store knows of a drop less": _store(payments=lambda s: [Payout(OPEN, 5, 299), *s.payments[1:]]),
        "the store missed a payout": _store(payments=lambda s: s.payments[:1]),
        "the store counted one twice": _store(payments=lambda s: [*s.payments, s.payments[0]]),
    },
    "no_claim_above_channel": {"a channel held less than was claimed": _life(GONE, amount=49)},
    "nothing_unanswered": {
        "one answer is missing": _servers(lambda t: setattr(t, "sent", 7)),
        "a server lost its connection": _servers(lambda t: t.failures.append("lost")),
    },
}
_CASES = [(name, what) for name, cases in CORRUPTIONS.items() for what in cases]


def test_every_invariant_has_a_corruption() -> None:
    assert set(CORRUPTIONS) == set(INVARIANTS)


@pytest.mark.parametrize(("name", "what"), _CASES, ids=[what for _, what in _CASES])
def test_a_wrong_number_breaks_its_invariant_and_no_other(name: str, what: str) -> None:
    assert _broken(CORRUPTIONS[name][what](_witnesses())) == {name}


def test_payouts_after_the_last_ledger_the_store_processed_are_not_expected_of_it() -> None:
    tally, store, ledger = _witnesses()
    assert _broken((tally, store._replace(payments=store.payments[:1], processed=5), ledger)) == set()


def test_the_summary_is_ok_only_if_all_hold_and_something_was_accepted() -> None:
    tally, store, ledger = _witnesses()

    def summary(tally: Tally, store: StoreSays) -> dict[str, object]:
        findings = audit(tally, store, ledger)
        return summarize(seconds=2.0, servers=1, first_ledger=1, tally=tally, ledger=ledger, findings=findings)

    good = summary(tally, store)
    assert good["ok"] is True
    assert (good["drops_issued"], good["drops_settled"], good["claims_per_second"]) == ("400", "350", 2.0)
    assert [good[f"channels_{what}"] for what in ("opened", "funded", "settled", "closed")] == [2, 1, 2, 1]
    bad = summary(tally, store._replace(authorized={}))
    assert bad["ok"] is False
    assert [name for name, holds in bad["invariants"].items() if not holds] == [  # type: ignore[attr-defined]
        "accepted_equals_signed",
        "settled_not_above_signed",
    ]
    assert summary(Tally(), store)["ok"] is False


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    latencies = array("d", [number / 1000 for number in range(100, 0, -1)])
    assert [percentile_ms(latencies, percent) for percent in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile_ms(array("d"), 50) is None


@pytest.mark.parametrize("seed", range(30))
def test_slices_take_what_is_free_and_nothing_else(seed: int) -> None:
    choose, slices, taken = Random(seed), Slices(), set[int]()
    for _ in range(60):
        start = choose.randint(0, 60)
        end = start + choose.randint(-1, 6)
        wanted = set(range(start, end))
        free = bool(wanted) and not wanted & taken
        assert slices.add(start, end) == free
        taken |= wanted if free else set()
