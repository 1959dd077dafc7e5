"""Between the broker and the claim desk: messages in, requests to the desk, replies out, and then acknowledgements."""

from channeld.adapters.gateway.gateway import FAIR_GROUP, FAIR_SHARE, GROUP, Gateway
from channeld.adapters.gateway.ports import Message, Outbox, Waiting

__all__ = ["FAIR_GROUP", "FAIR_SHARE", "GROUP", "Gateway", "Message", "Outbox", "Waiting"]
