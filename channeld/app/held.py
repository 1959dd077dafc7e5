"""What stands as it is: what is held and why, what waits for a person, modes and overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from channeld.core.freezes import PAYEE, USER
from channeld.core.policy import Override, Scope
from channeld.core.reasons import why
from channeld.core.units import to_unix
from channeld.core.vocabulary import Concern
from channeld.core.world import Reason

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon
    from channeld.service.frozen import Frozen
    from channeld.service.mirror import Mirror

_SUGGESTED: Final = Reason.SUGGESTED.value
_NAMED: Final = 20


def held(daemon: Daemon) -> dict[str, Any]:
    """By reason, how many channels and payees are left alone for one out of the ordinary, and the longest so."""
    told = {}
    for reason, subjects in daemon.annals.chronicle.standing.items():
        oldest, since = next(iter(subjects.items()))
        said = why(reason, done=False)
        told[reason] = {"count": len(subjects), "why": said, "oldest": oldest, "oldest_since_unix": to_unix(since)}
    return told


def stopped(found: Frozen) -> dict[str, Any]:
    """Everything and wallets that are frozen, and who is held back: by cause why, and how to let it go on."""
    return {
        "frozen": dict(found.everything),
        "frozen_wallets": {wallet: dict(why) for wallet, why in found.wallets.items() if why},
        **held_back(found),
    }


def held_back(found: Frozen) -> dict[str, dict[str, dict[str, str]]]:
    """Content servers, users (by a hash) and payees that are held back, and why and how to let them go on, by cause."""
    apart = found.people.items()
    return {
        "held_servers": {server: dict(why) for server, why in found.servers.items() if why},
        "held_users": {scope.removeprefix(USER): dict(why) for scope, why in apart if scope.startswith(USER)},
        "held_payees": {scope.removeprefix(PAYEE): dict(why) for scope, why in apart if scope.startswith(PAYEE)},
    }


def counts(mirror: Mirror) -> dict[tuple[str, ...], float]:
    """How many servers, users and payees are held back."""
    return {(kind.removeprefix("held_"),): len(who) for kind, who in held_back(mirror.stopped).items()}


def suggestions(daemon: Daemon) -> dict[str, Any]:
    """What would be done, were the mode `apply`: how many, and the first of them; `policy plan` says what."""
    waiting = daemon.annals.chronicle.standing.get(_SUGGESTED, {})
    return {"pending": len(waiting), "subjects": list(waiting)[:_NAMED]}


def in_force(daemon: Daemon) -> dict[str, Any]:
    """Modes by concern, and overrides that hold still; budgets have a place of their own."""
    policy, header = daemon.mirror.policy, daemon.mirror.header
    now = header.close_time if header else 0
    return {
        "modes": {concern.value: policy.mode(concern).value for concern in Concern},
        "overrides": [_override(override) for override in policy.overrides if override.until > now],
    }


def _override(override: Override) -> dict[str, Any]:
    return {
        "scope": _scope(override.scope),
        "concerns": sorted(concern.value for concern in override.concerns),
        "until_unix": to_unix(override.until),
        "why": override.why,
    }


def _scope(scope: Scope) -> dict[str, str]:
    named = {"channel_id": scope.channel_id, "payee": scope.payee, "server": scope.server, "pool": scope.pool}
    return {name: value for name, value in {**named, "tier": scope.tier}.items() if value is not None}
