"""Do the drops add up? Three witnesses are held against each other; each invariant says in sentences what does not fit.

The servers say what they were answered, the store what was signed, the ledger what was paid. Nothing here asks anybody:
equal statements give equal findings, and an invariant without a finding holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from channeld.core.units import MAX_DROPS
from channeld.sandbox.demo.books import StoreSays
from channeld.sandbox.demo.chronicle import LedgerSays, Payout
from channeld.sandbox.demo.tally import Tally

_MOST_FINDINGS: Final = 20

Findings = Iterator[str]


def _accepted_equals_signed(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """Every request that a server saw accepted stands in the store with its slice, and no other; and channel by channel
    these slices, the highest claim held and what the store has signed are the same number.
    """
    bought = {b.key: (b.channel_id, b.covers_from, b.covers_to) for b in servers.bought}
    if servers.accepted != len(bought) or bought.keys() != store.requests.keys():
        missing, extra = len(bought.keys() - store.requests.keys()), len(store.requests.keys() - bought.keys())
        yield f"servers saw {servers.accepted} accepted; the store lacks {missing} of them and has {extra} others"
    for key in bought.keys() & store.requests.keys():
        if bought[key] != store.requests[key]:
            yield f"a request bought {bought[key]} and stands in the store as {store.requests[key]}"
    spent: Counter[str] = Counter()
    for one in servers.bought:
        spent[one.channel_id] += one.drops
    for channel_id in spent.keys() | store.authorized.keys():
        numbers = (spent[channel_id], servers.highest.get(channel_id, 0), store.authorized.get(channel_id, 0))
        if len(set(numbers)) > 1:
            yield f"{channel_id}: accepted, claimed and signed are {numbers}"


def _settled_not_above_signed(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """No channel paid out more than a claim that a server holds, nor more than the store has signed."""
    for life in ledger.chronicle.lives.values():
        signed = min(servers.highest.get(life.channel_id, 0), store.authorized.get(life.channel_id, 0))
        if life.paid > signed:
            yield f"{life.channel_id} paid {life.paid}, and {signed} were signed"


def _ledger_conserves(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """Accounts, channels and burned fees are all the drops there ever were; and the header counts the same fees."""
    accounts, channels = sum(ledger.end.values()), sum(ledger.remaining.values())
    fees = sum(ledger.chronicle.fees.values())
    if accounts + channels + fees != MAX_DROPS:
        yield f"accounts {accounts} + channels {channels} + fees {fees} are {accounts + channels + fees}"
    if ledger.coins != MAX_DROPS - fees:
        yield f"the header of {ledger.ledger_index} says {ledger.coins} drops are left, transactions burned {fees}"
    for life in ledger.chronicle.lives.values():
        holds = None if life.closed else life.amount - life.paid
        if ledger.remaining.get(life.channel_id) != holds:
            yield f"{life.channel_id} holds {ledger.remaining.get(life.channel_id)}, by its transactions {holds}"


def _every_reply_verified(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """Every accepting reply, replays included, was verified and found good."""
    yield from servers.problems
    if servers.verified != servers.accepted + servers.replayed:
        yield f"{servers.accepted} accepted and {servers.replayed} replayed, but {servers.verified} verified"


def _slices_disjoint(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """No two requests bought the same drop of a channel."""
    last: dict[str, int] = {}
    for one in sorted(servers.bought, key=lambda b: (b.channel_id, b.covers_from)):
        if one.covers_from < last.get(one.channel_id, 0) or one.covers_to <= one.covers_from:
            yield f"{one.channel_id}: {one.covers_from}..{one.covers_to} is not above {last.get(one.channel_id, 0)}"
        last[one.channel_id] = max(one.covers_to, last.get(one.channel_id, 0))


def _replays_identical(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """A repeated id got the answer it had got before, and was told so."""
    if len(servers.replays) != servers.replayed:
        yield f"{servers.replayed} were repeated, {len(servers.replays)} could be compared"
    for replay in servers.replays:
        if replay.first != replay.again or not replay.marked:
            yield f"{replay.first} came back as {replay.again}{'' if replay.marked else ', not marked as a replay'}"


def _payees_received_what_was_settled(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """Each payee's account grew by what its channels paid, and the store knows of every payout it can know of."""
    lives = ledger.chronicle.lives
    paid: Counter[str] = Counter({life.destination: 0 for life in lives.values()})
    for payout in ledger.chronicle.payouts:
        paid[lives[payout.channel_id].destination] += payout.drops
    for account, drops in paid.items():
        if ledger.end.get(account, 0) - ledger.start.get(account, 0) != drops:
            yield f"{account} has {ledger.end.get(account)}, had {ledger.start.get(account)} and was paid {drops}"
    known = Counter(store.payments)
    expected: Counter[Payout] = Counter(p for p in ledger.chronicle.payouts if p.ledger_index <= store.processed)
    for payout in known.keys() | expected.keys():
        if known[payout] != expected[payout]:
            yield f"{payout} is {known[payout]} times in the store and {expected[payout]} times in the ledger"


def _no_claim_above_channel(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """No claim that a server holds is above what its channel holds, or held when it was deleted."""
    for channel_id, claim in servers.highest.items():
        life = ledger.chronicle.lives.get(channel_id)
        if life is None or claim > life.amount:
            yield f"a claim of {claim} on {channel_id}, which holds {life.amount if life else 'nothing'}"


def _nothing_unanswered(servers: Tally, store: StoreSays, ledger: LedgerSays) -> Findings:
    """Every request that was sent got its answer."""
    yield from servers.failures
    if servers.answered != servers.sent:
        yield f"{servers.sent} requests were sent, {servers.answered} answered"


INVARIANTS: Final[Mapping[str, Callable[[Tally, StoreSays, LedgerSays], Findings]]] = {
    "accepted_equals_signed": _accepted_equals_signed,
    "settled_not_above_signed": _settled_not_above_signed,
    "ledger_conserves": _ledger_conserves,
    "every_reply_verified": _every_reply_verified,
    "slices_disjoint": _slices_disjoint,
    "replays_identical": _replays_identical,
    "payees_received_what_was_settled": _payees_received_what_was_settled,
    "no_claim_above_channel": _no_claim_above_channel,
    "nothing_unanswered": _nothing_unanswered,
}


def audit(servers: Tally, store: StoreSays, ledger: LedgerSays) -> dict[str, list[str]]:
    """For every invariant what does not fit, at most twenty sentences each; an empty list where it holds."""
    return {
        name: [finding for finding, _ in zip(check(servers, store, ledger), range(_MOST_FINDINGS), strict=False)]
        for name, check in INVARIANTS.items()
    }
