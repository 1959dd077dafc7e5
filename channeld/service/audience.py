"""Which content servers are told of a channel: all that may charge for its payee, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from channeld.core.units import Payee

if TYPE_CHECKING:
    from channeld.service.holdings import Grant


class Audience:
    """The grants turned round. They are read anew when others are given, so replace them and never change them.

    Reading takes about a microsecond a payee.
    """

    def __init__(self, grants: Mapping[str, Grant]) -> None:
        self._read(grants)

    def _read(self, grants: Mapping[str, Grant]) -> None:
        found: dict[Payee, list[str]] = {}
        for server in sorted(grants):
            for granted in grants[server].payees:
                found.setdefault(granted, []).append(server)
        self._grants, self._servers = grants, {granted: tuple(servers) for granted, servers in found.items()}

    def of(self, grants: Mapping[str, Grant], payee: Payee) -> tuple[str, ...]:
        """The servers that may charge for a payee, by name."""
        if self._grants is not grants:
            self._read(grants)
        return self._servers.get(payee, ())

    def gained(self, before: Audience) -> frozenset[Payee]:
        """Payees for which a server may charge that could not before."""
        changed = self._servers.items() - before._servers.items()
        return frozenset(p for p, servers in changed if not set(servers) <= set(before._servers.get(p, ())))
