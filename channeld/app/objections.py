"""Why sound files may not be taken over by this daemon as it is now: what lives would lose what it stands on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from channeld.core.intents import OpenChannel
from channeld.core.policy import Policy
from channeld.core.units import Address
from channeld.service.mirror import Mirror
from channeld.settings import Settings, locator


def objections(mirror: Mirror, settings: Settings, policy: Policy) -> list[str]:
    """Each names file and key; nothing where all can be taken over.

    A pool with live channels must stay, on its wallet: what its channels owe is paid by its terms. An account whose
    incoming channels were never read cannot have claims handed in for it.
    """
    pools = [] if _as_before(mirror, policy) else homeless(mirror, settings.policy_path, policy)
    return [*pools, *_accounts(mirror, settings)]


def homeless(mirror: Mirror, path: Path, policy: Policy) -> list[str]:
    """Why what lives, or is being opened, cannot go on under the policy read from `path`: asked at a start as well.

    Only the wallet that a channel came from can fund, settle and close it; of channels that came from none of ours no
    ledger tells us, and no pool is asked for.
    """
    gone, moved = Counter[str](), Counter[str]()
    for pool, source in _homes(mirror):
        if (terms := policy.pools.get(pool)) is None:
            gone[pool] += 1
        elif source is not None and ((wallet := mirror.wallets.get(terms.wallet)) is None or wallet.address != source):
            moved[pool] += 1
    problems = locator(path)
    for pool, count in sorted(gone.items()):
        remedy = "keep the pool until they are closed; no payee need name it"
        problems.add(("pools", pool), f"is gone, and {_channels(count)}", remedy)
    for pool, count in sorted(moved.items()):
        remedy = "make a new pool for the other wallet"
        problems.add(("pools", pool, "wallet"), f"has changed, and {_channels(count)}", remedy)
    return problems.found


def _as_before(mirror: Mirror, policy: Policy) -> bool:
    """Whether every pool in use keeps its wallet: then nothing need be looked at again, channel by channel."""
    used = {pool for pool, totals in mirror.sums.pools.items() if pool and totals.channels}
    used |= {entry.action.pool for entry in mirror.journal.values() if isinstance(entry.action, OpenChannel)}
    both = [(mirror.policy.pools.get(pool), policy.pools.get(pool)) for pool in used]
    return all(before and after and before.wallet == after.wallet for before, after in both)


def _homes(mirror: Mirror) -> Iterator[tuple[str, Address | None]]:
    """The pool of every channel that lives or is being opened, and the account that it comes from, where it is ours."""
    for state in mirror.channels.values():
        source = state.record.channel.source_account
        if state.record.pool and source in mirror.by_address:
            yield state.record.pool, source
    signed = {live.intent: live.account for live in mirror.live.values()}
    for entry in mirror.journal.values():
        if isinstance(entry.action, OpenChannel):
            wallet = mirror.wallets.get(entry.action.wallet)
            account = signed.get(entry.number) or (wallet.address if wallet else None)
            yield entry.action.pool, account if account in mirror.by_address else None


def _channels(count: int) -> str:
    return f"{count} of its channels live" if count > 1 else "a channel of it lives"


def _accounts(mirror: Mirror, settings: Settings) -> list[str]:
    followed, problems = mirror.receiving(), locator(settings.path)
    for server in settings.servers.values():
        if any(account not in followed for account in server.receive_accounts):
            key = ("servers", server.id, "receive_accounts")
            problems.add(key, "names a wallet that did not receive so far", "only a restart takes that over")
    return problems.found
