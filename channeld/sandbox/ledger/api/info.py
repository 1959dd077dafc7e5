"""server_info, server_state, fee, feature, ping: what the node says of itself.

Sources: rippled NetworkOPs.cpp getServerInfo, TxQ.cpp doRPC, Feature1.cpp (2.3.0); shapes as recorded.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from channeld.sandbox.ledger import amendments
from channeld.sandbox.ledger.api.call import Call, is_hash
from channeld.sandbox.ledger.api.errors import RpcError
from channeld.sandbox.ledger.queue import BASE_LEVEL, MEDIAN_LEVEL, required_level

BUILD_VERSION: Final = "2.3.0"
_NODE_KEY: Final = "n9MbLDWhHuLpazmA6yzXbVyKLboi6eKGuEKVBkb5t3Pj2jZYhf1V"
_DROPS_PER_XRP: Final = 1_000_000


def _common(call: Call) -> dict[str, Any]:
    uptime_us = str(int(call.server.uptime_s * 1_000_000))
    states = {name: {"duration_us": "0", "transitions": "0"} for name in ("connected", "syncing", "tracking")}
    states |= {
        "disconnected": {"duration_us": "0", "transitions": "1"},
        "full": {"duration_us": uptime_us, "transitions": "1"},
    }
    fields: dict[str, Any] = {
        "build_version": BUILD_VERSION,
        "complete_ledgers": complete_ledgers(call),
        "initial_sync_duration_us": "0",
        "io_latency_ms": 1,
        "jq_trans_overflow": "0",
        "node_size": "small",
        "load": {"job_types": [], "threads": 1},
        "peer_disconnects": "0",
        "peer_disconnects_resources": "0",
        "peers": 0,
        "ports": [{"port": str(call.server.port), "protocol": ["ws"]}],
        "pubkey_node": _NODE_KEY,
        "pubkey_validator": "none",
        "server_state": "full",
        "server_state_duration_us": uptime_us,
        "state_accounting": states,
        "time": datetime.now(UTC).strftime("%Y-%b-%d %H:%M:%S.%f UTC"),
        "uptime": int(call.server.uptime_s),
        "validation_quorum": 0,
    }
    if call.node.settings.network_id:
        fields["network_id"] = call.node.settings.network_id
    return fields


def complete_ledgers(call: Call) -> str:
    """The range of ledgers the node has."""
    return f"{call.node.first_index}-{call.validated.index}"


def server_info(call: Call) -> dict[str, Any]:
    """For people: fees in XRP."""
    header, fees = call.validated, call.node.settings.fees
    level = required_level(len(call.node.open.transactions), call.node.queue.capacity)
    info = _common(call) | {
        "hostid": "sandbox",
        "last_close": {"converge_time_s": 0.1, "proposers": 0},
        "load_factor": 1 if level == BASE_LEVEL else level / BASE_LEVEL,
        "validated_ledger": {
            "age": max(0, call.node.clock.now() - header.close_time),
            "base_fee_xrp": fees.base / _DROPS_PER_XRP,
            "hash": header.hash,
            "reserve_base_xrp": _xrp(fees.reserve),
            "reserve_inc_xrp": _xrp(fees.increment),
            "seq": header.index,
        },
        "validator_list": {"count": 0, "expiration": "unknown", "status": "unknown"},
    }
    return {"info": info}


def _xrp(drops: int) -> int | float:
    return drops // _DROPS_PER_XRP if drops % _DROPS_PER_XRP == 0 else drops / _DROPS_PER_XRP


def server_state(call: Call) -> dict[str, Any]:
    """For programs: fees in drops."""
    header, fees = call.validated, call.node.settings.fees
    level = required_level(len(call.node.open.transactions), call.node.queue.capacity)
    state = _common(call) | {
        "last_close": {"converge_time": 100, "proposers": 0},
        "load_base": BASE_LEVEL,
        "load_factor": level,
        "load_factor_fee_escalation": level,
        "load_factor_fee_queue": BASE_LEVEL,
        "load_factor_fee_reference": BASE_LEVEL,
        "load_factor_server": BASE_LEVEL,
        "validated_ledger": {
            "base_fee": fees.base,
            "close_time": header.close_time,
            "hash": header.hash,
            "reserve_base": fees.reserve,
            "reserve_inc": fees.increment,
            "seq": header.index,
        },
        "validator_list_expires": 0,
    }
    return {"state": state}


def fee(call: Call) -> dict[str, Any]:
    """What a transaction costs now, and how full ledger and queue are."""
    node = call.node
    base, count = node.settings.fees.base, len(node.open.transactions)
    level = required_level(count, node.queue.capacity)
    return {
        "current_ledger_size": str(count),
        "current_queue_size": str(len(node.queue)),
        "drops": {
            "base_fee": str(base),
            "median_fee": str(MEDIAN_LEVEL * base // BASE_LEVEL),
            "minimum_fee": str(base),
            "open_ledger_fee": str(-(-level * base // BASE_LEVEL)),
        },
        "expected_ledger_size": str(node.queue.capacity),
        "ledger_current_index": node.open.index,
        "levels": {
            "median_level": str(MEDIAN_LEVEL),
            "minimum_level": str(BASE_LEVEL),
            "open_ledger_level": str(level),
            "reference_level": str(BASE_LEVEL),
        },
        "max_queue_size": str(node.queue.maximum),
    }


def feature(call: Call) -> dict[str, Any]:
    """All amendments, or the one asked for by name or id."""
    table = amendments.describe(call.node.rules)
    wanted = call.params.get("feature")
    if wanted is None:
        return {"features": table}
    for key, row in table.items():
        if row["name"] == wanted or (is_hash(wanted) and key == wanted.upper()):
            return {key: row}
    raise RpcError("badFeature", error_code=40, error_message="Feature unknown or invalid.")


def ping(call: Call) -> dict[str, Any]:
    """Are you there?"""
    return {"role": "admin", "unlimited": True} if call.is_admin else {}
