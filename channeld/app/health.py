"""Whether claims can be issued, what stands against it, and what people should know although they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channeld.app import budgets
from channeld.app.nodes import skipped

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon


def problems(daemon: Daemon) -> list[str]:
    """Why the daemon is not ready; nothing if it is."""
    found = []
    if daemon.follower.problem:
        found.append(f"ledger: {daemon.follower.problem}")
    if not daemon.broker.connected:
        found.append(f"broker: {daemon.broker.last_error or daemon.gateway.presence.namesake or 'not connected yet'}")
    stopped = daemon.desk.stopped()
    if stopped and not (stopped.startswith("no validated ledger") and daemon.follower.problem):
        found.append(f"issuing: {stopped}")
    found += [f"issuing: {why}" for frozen in daemon.mirror.frozen_wallets.values() for why in frozen.values()]
    return found


def warnings(daemon: Daemon) -> list[str]:
    """What people should know although claims are issued; nothing if all is well."""
    dear = daemon.executor.prices.waits()
    found = [f"ledger: {dear}"] if dear else []
    found += [f"deadlines: {beyond}" for beyond in budgets.warnings(daemon.planner.purse)]
    found += [f"keys: {shared}" for shared in daemon.keys.shared]
    found += [f"clock: {wrong}"] if (wrong := daemon.clock.wrong()) else []
    found += [f"writers: {shared}" for shared in daemon.neighbours.warnings()]
    found += [f"history: it cannot be written: {problem}"] if (problem := daemon.annals.problem) else []
    found += [f"broker: {namesake}"] if (namesake := daemon.gateway.presence.namesake) else []
    found += [f"held: {why}" for held in daemon.mirror.held.values() for why in held.values()]
    apart = len(daemon.mirror.held_apart)
    found += [f"held: {apart} users or payees wait for a person: see status"] if apart else []
    found += [f"store: {crowded}"] if (crowded := daemon.ids.warning()) else []
    found += [f"config: {wrong}"] if (wrong := _not_in_force(daemon)) else []
    unread = {endpoint.name: skipped(endpoint) for endpoint in daemon.follower.endpoints.all}
    found += [f"ledger: {n} messages of {name} could not be understood" for name, n in unread.items() if n]
    return found


def _not_in_force(daemon: Daemon) -> str | None:
    """Why the operator's files are not in force, in one line; None where they are."""
    refusal = daemon.files.refusal
    if refusal is None:
        return None
    more = f" (and {len(refusal.problems) - 1} more: see status)" if len(refusal.problems) > 1 else ""
    return f"the files were refused, what was in force still is: {refusal.problems[0]}{more}"
