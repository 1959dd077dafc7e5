"""The daemon's side of MQTT 5: a session with a broker, acknowledging only when told; `client` is where to start."""

from __future__ import annotations

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.connection import TAKEN_OVER
from channeld.adapters.broker.exchange import Exchange
from channeld.adapters.broker.messages import BrokerSettings, Inbound, Will

__all__ = ["TAKEN_OVER", "Broker", "BrokerSettings", "Exchange", "Inbound", "Will"]
