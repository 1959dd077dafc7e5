"""The topics of the MQTT contract.

Sources: the contract, section 1.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

PLAIN_TOPIC: Final = "without wildcards, of at most 1024 characters and 128 levels"
"""What a Response Topic must be besides, in words."""
VERBS: Final = ("claim", "receive", "query")
_LONGEST_SERVER: Final = 64
_SERVER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Topics:
    """The topics under one prefix."""

    def __init__(self, prefix: str, daemon: str) -> None:
        self.servers = f"{prefix}/servers/"
        self._longest = len(self.servers) + _LONGEST_SERVER + len("/receive")
        self._known = lru_cache(maxsize=65_536)(self._request)
        self._daemons = f"{prefix}/daemons/"
        self.status = f"{prefix}/daemons/{daemon}/status"
        self.every_status = f"{prefix}/daemons/+/status"
        self.witness = f"{prefix}/daemons/{daemon}/witness"
        self.channels = f"{prefix}/servers/+/channels/+"
        self.requests = self.asked("+")
        """Of everybody, as filters."""

    def asked(self, server: str) -> tuple[str, ...]:
        """The topics on which a server asks."""
        return tuple(f"{self.servers}{server}/{verb}" for verb in VERBS)

    def request(self, topic: str) -> tuple[str, str] | None:
        """The server and the verb of a request topic; None for any other topic."""
        return self._known(topic) if len(topic) <= self._longest else None

    def _request(self, topic: str) -> tuple[str, str] | None:
        if not topic.startswith(self.servers):
            return None
        server, _, verb = topic[len(self.servers) :].partition("/")
        known = verb in VERBS and _SERVER.fullmatch(server) is not None
        return (server, verb) if known else None

    def daemon(self, topic: str) -> str | None:
        """Whose status topic this is; None for any other topic."""
        name, _, rest = topic.removeprefix(self._daemons).partition("/")
        return name if topic.startswith(self._daemons) and rest == "status" else None

    def reply(self, server: str) -> str:
        """Where answers go by default."""
        return f"{self.servers}{server}/reply"

    def allows_response(self, server: str, topic: str) -> bool:
        """Whether a Response Topic is the server's own: its reply topic or below it, and a topic one may publish to."""
        own = self.reply(server)
        if topic == own:
            return True
        plain = "+" not in topic and "#" not in topic and "\0" not in topic
        return plain and len(topic) <= 1024 and topic.startswith(own + "/")
