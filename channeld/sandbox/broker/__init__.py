"""An embedded MQTT 5 broker for the demo and quick trials; `server` says what it can and cannot."""

from __future__ import annotations

from channeld.sandbox.broker.access import Access, AccessList, Account, read_access_list, read_passwords
from channeld.sandbox.broker.server import Limits, SandboxBroker, serve

__all__ = [
    "Access",
    "AccessList",
    "Account",
    "Limits",
    "SandboxBroker",
    "read_access_list",
    "read_passwords",
    "serve",
]
