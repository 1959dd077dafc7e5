"""Shows every request to the channels that it may draw from: shared ones of its payee, or those of its user alone."""

from __future__ import annotations

from typing import Final

from channeld.core.requests import Ask
from channeld.core.standing import Labels, Standings
from channeld.core.units import Payee
from channeld.service.holdings import Grant, Group
from channeld.service.mirror import Mirror

MOST_WITHOUT_CHANNELS: Final = 20_000
"""Users who wait for channels of their own. Whoever comes when so many wait is served from shared ones."""
_NO_LABELS: Final = Labels()


class Usher:
    """One for a daemon. It goes by the policy and the grants in force."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._read()

    def _read(self) -> None:
        self._policy, self._grants = self._mirror.policy, self._mirror.grants
        self._standings = Standings(self._policy)
        self._shared = sum(len(grant.payees) for grant in self._grants.values())

    def _refresh(self) -> None:
        """Others may be in force by now."""
        if self._mirror.policy is not self._policy or self._mirror.grants is not self._grants:
            self._read()

    @property
    def plain(self) -> bool:
        """Whether requests of one content server differ by their payee alone."""
        self._refresh()
        return self._standings.plain

    def tier(self, ask: Ask, payee: Payee) -> str | None:
        """The tier of a request, None for none; its server is configured and may charge for the payee."""
        self._refresh()
        grant = self._grants[ask.server]
        place = self._standings.of(grant.payees[payee], grant.labels.get(payee, _NO_LABELS), ask.user, ask.tier, None)
        return place.tier

    def group(self, ask: Ask, grant: Grant, payee: Payee) -> Group:
        """The channels for a request; `payee` is one of the grant's."""
        self._refresh()
        mirror = self._mirror
        pool = grant.payees[payee]
        if self._standings.plain:
            return mirror.group(pool, payee)
        place = self._standings.of(pool, grant.labels.get(payee, _NO_LABELS), ask.user, ask.tier, ask.region)
        user = place.user if self._has_room(place.pool, payee, place.user) else ""
        group = mirror.group(place.pool, payee, user)
        group.tier = place.tier if user else place.shared_tier
        return group

    def _has_room(self, pool: str, payee: Payee, user: str) -> bool:
        """Whether a user may have channels of his own. What servers invent must not take memory without end."""
        groups, channels = self._mirror.groups, self._mirror.channels
        return (
            not user
            or (pool, payee, user) in groups
            or (len(groups) - len(channels) < self._shared + MOST_WITHOUT_CHANNELS)
        )
