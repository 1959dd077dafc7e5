"""What an operator may do to a running daemon: every action has a name and a reason, and stands in the audit.

Each takes the JSON object of a request and gives the JSON object of an answer; `BadValue` and `Refused` tell why not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from channeld.adapters.signer import verify
from channeld.adapters.sqlite.backup import copy_store
from channeld.app import reconciliation
from channeld.app.explain import whole_ids
from channeld.core.claim import claim_message
from channeld.core.errors import BadValue, Refused
from channeld.core.freezes import Audit, Cause
from channeld.core.text import HALF_A_CHARACTER
from channeld.core.units import ChannelId, parse_channel_id, parse_drops
from channeld.service.holdings import ChannelState

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

Body = Mapping[str, Any]
Action = Callable[[Body], Awaitable[dict[str, Any]]]
_LONGEST_TEXT: Final = 500


class Operations:
    """The actions of one daemon, by name."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.actions: Mapping[str, Action] = {
            "freeze": self.freeze,
            "thaw": self.thaw,
            "backup": self.backup,
            "adopt": self.adopt,
            "reload": self.reload,
            "close": self.close,
        }

    async def freeze(self, body: Body) -> dict[str, Any]:
        """Stop issuing, opening, funding and closing, for everything or for one wallet."""
        who, why = _signed(body, "wallet")
        freeze, before = self._daemon.guard.freeze(_text(body, "wallet", ""), who, why)
        said = {"frozen": freeze.cause.value, "wallet": freeze.scope or None, "reason": freeze.reason}
        return {**said, "was_frozen": before}

    async def thaw(self, body: Body) -> dict[str, Any]:
        """Lift one freeze."""
        who, why = _signed(body, "wallet", "cause")
        name = _text(body, "cause", "")
        try:
            cause = Cause(name) if name else None
        except ValueError:
            raise BadValue("cause", "not known", ", ".join(c.value for c in Cause)) from None
        lifted = self._daemon.guard.thaw(_text(body, "wallet", ""), cause, who, why)
        mirror = self._daemon.mirror
        left = [*mirror.frozen.values(), *(r for f in mirror.frozen_wallets.values() for r in f.values())]
        return {"thawed": [lifted.value], "still_frozen": left}

    async def reload(self, body: Body) -> dict[str, Any]:
        """Read the operator's files again, and say what became of that."""
        who, why = _signed(body)
        daemon = self._daemon
        outcome = await daemon.files.reload()
        daemon.store.books.audit(Audit(daemon.guard.now(), who, f"reload: {outcome.value}", why))
        refusal, policy = daemon.files.refusal, daemon.files.policy
        return {
            "result": outcome.value,
            "policy_hash": policy.hash,
            "problems": list(refusal.problems) if refusal else [],
        }

    async def backup(self, body: Body) -> dict[str, Any]:
        """A consistent copy of the store at an absolute path of this machine.

        The data version rises before the copy, and again after it: the copy is older than the store from the start.
        """
        who, why = _signed(body, "file")
        target = Path(_text(body, "file"))
        if not target.is_absolute() or "\0" in str(target):
            raise BadValue("file", "not an absolute path", "the path as the daemon sees it")
        daemon = self._daemon
        daemon.watch.bear()
        version = daemon.store.books.identity().data_version
        await asyncio.to_thread(copy_store, daemon.settings.store.path, target)
        daemon.watch.bear()
        daemon.store.books.audit(Audit(daemon.guard.now(), who, f"backup {target}", why))
        return {"file": str(target), "store_id": daemon.store_id, "data_version": version}

    async def adopt(self, body: Body) -> dict[str, Any]:
        """Take over quarantined channels, to settle and close only."""
        who, why = _signed(body, "channels", "pool", "claims")
        states = [self._quarantined(channel_id) for channel_id in await self._named(body)]
        proven = self._proven(body.get("claims"), states)
        pool = self._pool(_text(body, "pool", ""), states)
        daemon = self._daemon
        ids = ", ".join(state.record.channel.channel_id for state in states)
        audit = Audit(daemon.guard.now(), who, f"adopt {ids} into {pool}", why)
        daemon.store.books.adopt(list(proven.items()), pool, audit)
        for state in states:
            daemon.mirror.adopt(state, pool, proven[state.record.channel.channel_id])
        daemon.go_on()
        return {"adopted": list(proven), "pool": pool, "signed": {c: str(a) for c, a in proven.items()}}

    async def close(self, body: Body) -> dict[str, Any]:
        """Close channels: issuing stops at once; the rest is done as soon as nothing else is in flight on them."""
        who, why = _signed(body, "channels")
        mirror, daemon, states = self._daemon.mirror, self._daemon, list[ChannelState]()
        for channel_id in await self._named(body):
            state = mirror.channels.get(channel_id)
            if state is None or not state.record.pool:
                raise Refused(f"{channel_id} is no channel that this daemon manages: see `channeld channels`")
            states.append(state)
        ids = [state.record.channel.channel_id for state in states]
        daemon.store.stop_issuing(ids, Audit(daemon.guard.now(), who, f"close {', '.join(ids)}", why))
        for state in states:
            mirror.stop_issuing(state)
            if state.group is not None:
                daemon.planner.want(state.group)
        daemon.planner.decide_urgent()
        daemon.executor.wake()
        return {"closing": ids}

    async def _named(self, body: Body) -> list[ChannelId]:
        """The channels of a request, each once: by their ids, or by beginnings that are no other channel's."""
        found = await asyncio.to_thread(whole_ids, self._daemon.settings, _listed(body), "channels")
        return list(dict.fromkeys(found))

    def _quarantined(self, channel_id: ChannelId) -> ChannelState:
        state = self._daemon.mirror.channels.get(channel_id)
        if state is None or state.record.pool:
            raise Refused(f"{channel_id} is not in quarantine: see `channeld channels`")
        return state

    def _pool(self, name: str, states: list[ChannelState]) -> str:
        """The pool to adopt into: named, or the first of the wallet. All channels must be of the pool's wallet."""
        mirror = self._daemon.mirror
        sources = {state.record.channel.source_account for state in states}
        pools = mirror.policy.pools
        fitting = [p for p in pools if (w := mirror.wallets.get(pools[p].wallet)) and sources == {w.address}]
        if name and name not in fitting:
            raise BadValue("pool", "no pool of the wallet that these channels are of", ", ".join(fitting) or "none is")
        if not fitting:
            raise Refused("no pool of the policy has the one wallet that these channels are of")
        return name or fitting[0]

    def _proven(self, claims: object, states: list[ChannelState]) -> dict[ChannelId, int]:
        """How much is proven to be signed: what the ledger has paid, or a claim whose signature is right."""
        by_id = {state.record.channel.channel_id: state for state in states}
        proven = {channel_id: int(state.record.channel.balance) for channel_id, state in by_id.items()}
        if not isinstance(claims, list | None):
            raise BadValue("claims", "not a list", "claims as they were handed out")
        for claim in claims or []:
            channel_id, amount = _verified(claim, by_id)
            proven[channel_id] = max(proven[channel_id], amount)
        return proven

    async def reconcile(self, body: Body) -> dict[str, Any]:
        """Compare the ledger with what is believed, now."""
        return await reconciliation.of_daemon(self._daemon)


def _verified(claim: object, states: Mapping[ChannelId, ChannelState]) -> tuple[ChannelId, int]:
    """The channel and amount of a claim that was really signed; raises `BadValue` for any other."""
    if not isinstance(claim, dict):
        raise BadValue("claims", "not claims", "objects with channel_id, amount and signature")
    channel_id = parse_channel_id(claim.get("channel_id"), "claims.channel_id")
    amount = parse_drops(claim.get("amount"), "claims.amount")
    state = states.get(channel_id)
    if state is None:
        raise BadValue("claims.channel_id", "not one of the channels to adopt")
    try:
        key, signature = bytes.fromhex(state.record.channel.public_key), bytes.fromhex(str(claim.get("signature")))
    except ValueError:
        raise BadValue("claims.signature", "not hex") from None
    if amount > state.record.channel.amount or not verify(key, claim_message(state.id_bytes, amount), signature):
        raise BadValue("claims", f"the claim on {channel_id} is not valid", "as it was handed out, word for word")
    return channel_id, amount


def _listed(body: Body) -> list[str]:
    listed = body.get("channels")
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) for item in listed):
        raise BadValue("channels", "missing", "a list of channel ids, or of the beginnings of some")
    return listed


def _signed(body: Body, *known: str) -> tuple[str, str]:
    """Who and why; refuses fields that the action does not know."""
    for name in body:
        if name not in ("who", "why", *known):
            raise BadValue(str(name)[:64], "unknown field", ", ".join(("who", "why", *known)))
    return _text(body, "who"), _text(body, "why")


def _text(body: Body, name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if value is None or not isinstance(value, str):
        raise BadValue(name, "missing" if value is None else "not a text", f"up to {_LONGEST_TEXT} characters")
    if len(value) > _LONGEST_TEXT:
        raise BadValue(name, f"too long, {len(value)} characters", f"{_LONGEST_TEXT} at most")
    if HALF_A_CHARACTER.search(value):  # the audit could not be written
        raise BadValue(name, "not text", "no half of a surrogate pair")
    if default is None and not value.strip():
        raise BadValue(name, "empty", "say it in a few words")
    return value
