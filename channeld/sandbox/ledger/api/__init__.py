"""The node's commands: each a function from a `Call` to a result, raising `RpcError` for an error answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from channeld.sandbox.ledger.api import accounts, admin, channels, history, info, ledgers, subscriptions, transactions
from channeld.sandbox.ledger.api.call import Call

COMMANDS: Final[dict[str, Callable[[Call], dict[str, Any]]]] = {
    "account_channels": accounts.account_channels,
    "account_info": accounts.account_info,
    "account_objects": accounts.account_objects,
    "account_tx": history.account_tx,
    "channel_authorize": channels.channel_authorize,
    "channel_verify": channels.channel_verify,
    "fault": admin.fault,
    "feature": info.feature,
    "fee": info.fee,
    "ledger": ledgers.ledger,
    "ledger_accept": ledgers.ledger_accept,
    "ledger_closed": ledgers.ledger_closed,
    "ledger_current": ledgers.ledger_current,
    "ledger_entry": ledgers.ledger_entry,
    "ping": info.ping,
    "save_state": admin.save_state,
    "server_info": info.server_info,
    "server_state": info.server_state,
    "submit": transactions.submit,
    "subscribe": subscriptions.subscribe,
    "tx": transactions.tx,
    "unsubscribe": subscriptions.unsubscribe,
}
