"""One payee with some channels in one pool, as tests about its channels show it to the engine."""

from __future__ import annotations

from worlds import NOW, PAYEES, channel

from channeld.core.demand import Rate
from channeld.core.intents import Action, OpenChannel, RequestClose
from channeld.core.ledger import AccountState, Fees
from channeld.core.policy import ChannelShape, CloseTerms, FundTerms, Guards, Policy, Pool, SettleTerms
from channeld.core.units import Address, Drops, RippleTime, Seconds
from channeld.core.world import ChannelView, Decision, GroupView, ServerView, WalletView, World

IDLE, MOST = 1000, 5


def terms(spare: int, *, most: int = MOST, life: int | None = None, opens: int = 2, floor: int = 0) -> Policy:
    pool = Pool(
        "p", "hot", Seconds(10), None if life is None else Seconds(life), Seconds(5),
        ChannelShape(Drops(20), Drops(100), most, spare), FundTerms(Drops(5), Drops(20), Seconds(10), Seconds(20)),
        SettleTerms(Drops(10**6), Seconds(10**6)), CloseTerms(Seconds(IDLE), Seconds(0)),
    )  # fmt: skip
    return Policy(1, {"p": pool}, Guards(Drops(floor), opens, Seconds(20), Drops(10), Seconds(60)), "F" * 64)


def view(
    number: int, *, ago: int = 1, used: bool = True, amount: int = 100, left: int | None = None, ends: int | None = None
) -> ChannelView:
    """A channel that was last signed, or opened, so many seconds ago. `ends` is when the last claim may be issued."""
    at = RippleTime(NOW - ago)
    shown = channel(number, amount=amount, cancel_after=None if ends is None else NOW + ends + 15)
    signed = (10 if left is None else amount - left) if used else 0
    return ChannelView(shown, signed, True, "a", RippleTime(at - 5000 * used), at, None, None, None, None)


def world(*views: ChannelView, balance: int = 10**6, caps: tuple[int, int] = (10**6, 100), **group: int) -> World:
    shown = GroupView("p", PAYEES[0], "b", views, group.get("opening", 0), group.get("wanted", 0), _rate(group))
    wallets = {"hot": WalletView(AccountState(Address("r"), Drops(balance), 1, len(views)), 0, 0)}
    locked = sum(v.channel.remaining for v in views)
    servers = {s: ServerView(locked, len(views), *caps) for s in "ab"}
    return World(RippleTime(NOW), 0.0, Fees(Drops(10), Drops(0), Drops(1)), (shown,), wallets, servers, 0)


def _rate(group: dict[str, int]) -> Rate:
    return Rate(group.get("per_s", 0) * 10**6, RippleTime(NOW))


def acts(decision: Decision) -> list[Action]:
    return [planned.intent.action for planned in decision.planned]


def opens(decision: Decision) -> list[OpenChannel]:
    return [action for action in acts(decision) if isinstance(action, OpenChannel)]


def closes(decision: Decision) -> set[str]:
    return {action.channel_id for action in acts(decision) if isinstance(action, RequestClose)}
