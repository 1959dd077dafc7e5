"""What other daemons say of themselves on the broker, for whoever compares it with what we are."""

from __future__ import annotations

from collections.abc import Callable

from channeld.core.errors import Malformed
from channeld.service.neighbours import Neighbours, Presence
from channeld.wire.daemons import read_status
from channeld.wire.topics import Topics


def presences(topics: Topics, neighbours: Neighbours) -> Callable[[str, bytes], bool]:
    """Whether a message from the broker is another daemon's status; then `neighbours` hears of it."""

    def take(topic: str, payload: bytes) -> bool:
        name = topics.daemon(topic)
        if name is not None:
            try:
                neighbours.heard(name, Presence(*read_status(payload)))
            except Malformed:
                neighbours.heard(name, None)
        return name is not None

    return take
