"""Why sound files may not be taken over by this daemon as it is now: what lives would lose what it stands on."""

from __future__ import annotations

from collections import Counter

from channeld.core.intents import OpenChannel
from channeld.core.policy import Policy
from channeld.service.mirror import Mirror
from channeld.settings import Settings, locator


def objections(mirror: Mirror, settings: Settings, policy: Policy) -> list[str]:
    """Each names file and key; nothing where all can be taken over.

    A pool with live channels must stay, on its wallet: what its channels owe is paid by its terms. An account whose
    incoming channels were never read cannot have claims handed in for it.
    """
    return [*_pools(mirror, settings, policy), *_accounts(mirror, settings)]


def _pools(mirror: Mirror, settings: Settings, policy: Policy) -> list[str]:
    lives = {pool: totals.channels for pool, totals in mirror.totals.items() if pool and totals.channels}
    opening = [entry.action.pool for entry in mirror.journal.values() if isinstance(entry.action, OpenChannel)]
    problems = locator(settings.policy_path)
    for pool, count in sorted((Counter(lives) + Counter(opening)).items()):
        before, after = mirror.policy.pools.get(pool), policy.pools.get(pool)
        channels = f"{count} of its channels live" if count > 1 else "a channel of it lives"
        if before is not None and after is None:
            remedy = "keep the pool until they are closed; no payee need name it"
            problems.add(("pools", pool), f"is gone, and {channels}", remedy)
        elif before is not None and after is not None and before.wallet != after.wallet:
            problems.add(
                ("pools", pool, "wallet"), f"has changed, and {channels}", "make a new pool for the other wallet"
            )
    return problems.found


def _accounts(mirror: Mirror, settings: Settings) -> list[str]:
    followed, problems = mirror.receiving(), locator(settings.path)
    for server in settings.servers.values():
        if any(account not in followed for account in server.receive_accounts):
            key = ("servers", server.id, "receive_accounts")
            problems.add(key, "names a wallet that did not receive so far", "only a restart takes that over")
    return problems.found
