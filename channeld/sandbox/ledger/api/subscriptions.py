"""subscribe and unsubscribe.

Sources: rippled Subscribe.cpp, Unsubscribe.cpp (2.3.0).
"""

from __future__ import annotations

from typing import Any, Final

from channeld.sandbox.ledger.api.call import Call, is_address
from channeld.sandbox.ledger.api.errors import RpcError
from channeld.sandbox.ledger.api.info import complete_ledgers
from channeld.sandbox.ledger.streams import ALIASES, QUIET_STREAMS, STREAMS, ledger_fields

_KNOWN: Final = {*STREAMS, *QUIET_STREAMS, *ALIASES}
_PROPOSED: Final = ("accounts_proposed", "rt_accounts")


def _streams(call: Call) -> list[str]:
    names = call.params.get("streams", [])
    if not isinstance(names, list):
        raise RpcError("invalidParams")
    if not all(isinstance(name, str) and name in _KNOWN for name in names):
        raise RpcError("malformedStream")
    return names


def _addresses(call: Call, name: str) -> list[str]:
    addresses = call.params.get(name)
    if addresses is None:
        return []
    if not isinstance(addresses, list):
        raise RpcError("invalidParams")
    if not addresses or not all(is_address(address) for address in addresses):
        raise RpcError("actMalformed")
    return addresses


def subscribe(call: Call) -> dict[str, Any]:
    """Listen on this connection. All is checked before anything is joined."""
    if "url" in call.params:
        raise RpcError("notSupported")
    streams, accounts = _streams(call), _addresses(call, "accounts")
    proposed = [address for name in _PROPOSED for address in _addresses(call, name)]
    result: dict[str, Any] = {}
    for name in streams:
        call.streams.join(call.subscriber, name, call.api_version)
        if name == "ledger":
            result = ledger_fields(call.validated, call.node.settings.fees, complete_ledgers(call))
    call.streams.watch(call.subscriber, accounts, proposed=False, api_version=call.api_version)
    call.streams.watch(call.subscriber, proposed, proposed=True, api_version=call.api_version)
    return result


def unsubscribe(call: Call) -> dict[str, Any]:
    """Stop listening."""
    streams, accounts = _streams(call), _addresses(call, "accounts")
    proposed = [address for name in _PROPOSED for address in _addresses(call, name)]
    for name in streams:
        call.streams.leave(call.subscriber, name)
    call.streams.unwatch(call.subscriber, accounts, proposed=False)
    call.streams.unwatch(call.subscriber, proposed, proposed=True)
    return {}
