"""Where a request belongs: its pool, its tier, and whether it draws from channels of its user's own.

What the operator wrote counts first: a user who is listed in a tier is in it. Else a server's request may name a tier
that trusts it; then comes the tier that the payee was given, and at last the default one. A region is the payee's, or
one that the request names where the pool for it trusts requests; it leads to the pool that lists it.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import Final, NamedTuple

from channeld.core.policy import Policy

_REMEMBERED: Final = 16_384


class Labels(NamedTuple):
    """What the operator's configuration says of a payee of a content server."""

    tier: str | None = None
    region: str | None = None


class Standing(NamedTuple):
    """A pool by name; the tier, None for none; and the user whose own channels these are, empty for shared ones.

    `shared_tier` is the tier of shared channels: it goes by the payee, for they serve everybody.
    """

    pool: str
    tier: str | None
    user: str
    shared_tier: str | None


class Standings:
    """A policy's answers. Of `plain` ones every request belongs where its payee is."""

    def __init__(self, policy: Policy) -> None:
        self._tiers, self._pools = policy.tiers, policy.pools
        self._default = next((name for name, tier in policy.tiers.items() if tier.default), None)
        self._listed, patterns = {}, list[tuple[str, re.Pattern[str]]]()
        for name, tier in policy.tiers.items():
            globs = [user for user in tier.users if set(user) & set("*?[")]
            self._listed.update({user: name for user in tier.users if user not in globs})
            if globs:
                patterns.append((name, re.compile("|".join(map(translate, globs)))))
        self._patterns = tuple(patterns)
        self._by_region: dict[str, str] = {}
        for name, pool in policy.pools.items():
            for region in pool.regions:
                self._by_region.setdefault(region, name)
        self.plain = not policy.tiers and not self._by_region
        self._of_user = lru_cache(maxsize=_REMEMBERED)(self._find)

    def of(self, pool: str, labels: Labels, user: str, tier: str | None, region: str | None) -> Standing:
        """Where a request belongs whose payee is in `pool`; `user` (or empty), `tier` and `region` are what it says."""
        shared = labels.tier if labels.tier in self._tiers else self._default
        named = (self._of_user(user) if user else None) or self._trusted(tier) or shared
        place = self._place(pool, labels.region, region)
        own = user if named is not None and self._tiers[named].dedicated else ""
        return Standing(place, named, own, shared)

    def _find(self, user: str) -> str | None:
        found = self._listed.get(user)
        return found or next((name for name, pattern in self._patterns if pattern.match(user)), None)

    def _trusted(self, tier: str | None) -> str | None:
        return tier if tier is not None and tier in self._tiers and self._tiers[tier].trust_request else None

    def _place(self, pool: str, given: str | None, asked: str | None) -> str:
        """The pool for a region: the payee's own where it lists it, else the first that does."""
        found = None if asked is None else self._for_region(pool, asked)
        if found is not None and (found == pool or self._pools[found].trust_request):
            return found
        return pool if given is None else self._for_region(pool, given) or pool

    def _for_region(self, pool: str, region: str) -> str | None:
        own = self._pools.get(pool)
        return pool if own is not None and region in own.regions else self._by_region.get(region)
