"""Are the nodes of the network that the config names? Channels, keys and money of another one are not ours.

A node of another network is never used, and tried again, for its operator may mend it. But where all that can be
reached is of another network when we first get to know, it is our config that is wrong, and no waiting mends that.
"""

from __future__ import annotations

from collections.abc import Collection

from channeld.core.errors import ConfigError, Unreachable


class Networks:
    """What networks the nodes named `names` are of, as they say; ours is `network_id`."""

    def __init__(self, network_id: int, names: Collection[str]) -> None:
        self._network_id = network_id
        self._untried = set(names)
        self._others: dict[str, int] = {}
        self._met_ours = False

    def check(self, name: str, found: int) -> None:
        """A node said of what network it is. Raises `Unreachable` if that is not ours."""
        if found == self._network_id:
            self._met_ours = True
            return
        self._others[name] = found
        wanted = f"{self._network_id} as [ledger] network_id says"
        raise Unreachable(f"is on network {found}, not {wanted}: take another endpoint")

    def tried(self, name: str) -> None:
        """A connection to a node failed or ended.

        Raises `ConfigError` at first contact: each node was tried, and those that answered are of another network.
        """
        self._untried.discard(name)
        if self._untried or self._met_ours or not self._others:
            return
        said = ", ".join(f"{name} is on network {found}" for name, found in sorted(self._others.items()))
        remedy = "set it to the network meant, or [ledger] endpoints to nodes of it"
        raise ConfigError([f"ledger.network_id: it is {self._network_id}, but {said} ({remedy})"])
