"""Commands of this ledger's own, for admin connections: fault and save_state."""

from __future__ import annotations

from typing import Any

from channeld.sandbox.ledger import faults
from channeld.sandbox.ledger.api.call import Call
from channeld.sandbox.ledger.api.errors import RpcError


def fault(call: Call) -> dict[str, Any]:
    """Order a fault. See `channeld.sandbox.ledger.faults` for the kinds."""
    if not call.is_admin:
        raise RpcError("forbidden")
    kind = call.params.get("kind")
    try:
        if kind == "disconnect":
            call.server.disconnect(call.subscriber, call.params.get("count"), call.params.get("after_ms", 0))
        elif kind == "clock":
            call.node.clock.offset_s, call.node.clock.frozen_at = faults.clock_setting(call.params)
        elif kind == "save_state":
            call.server.save_soon()
        else:
            faults.order(call.server.faults if kind in faults.DOOR_KINDS else call.node.faults, call.params)
    except faults.BadFault as bad:
        raise RpcError("invalidParams", str(bad)) from None
    if kind == "clear":
        call.node.clock.offset_s, call.node.clock.frozen_at = 0.0, None
    call.server.wake()
    in_force = call.node.faults.describe() | call.server.faults.describe()
    return {"faults": in_force, "time": call.node.clock.now()}


def save_state(call: Call) -> dict[str, Any]:
    """Write the state file now; the answer comes when that has begun."""
    if not call.is_admin:
        raise RpcError("forbidden")
    if not call.server.save_soon():
        raise RpcError("notSupported")
    return {"ledger_index": call.node.validated.index}
