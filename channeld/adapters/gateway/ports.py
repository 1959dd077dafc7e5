"""What the gateway needs of the broker's side."""

from __future__ import annotations

from typing import Any, Protocol


class Message(Protocol):
    """A message as the broker hands it over."""

    payload: bytes

    @property
    def topic(self) -> str: ...
    @property
    def packet_id(self) -> int: ...
    @property
    def retain(self) -> bool: ...
    @property
    def response_topic(self) -> str | None: ...
    @property
    def bad_response_topic(self) -> bool: ...
    @property
    def correlation_data(self) -> bytes | None: ...
    @property
    def expires_at(self) -> float | None: ...


def around(message: Message) -> int:
    """Bytes that a message holds beside its payload: up to 128 KiB, whatever the payload is."""
    return len(message.correlation_data or b"") + len(message.response_topic or "")


class Outbox(Protocol):
    """What the gateway needs of a broker connection."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation_data: bytes | None = None,
        line: str = "",
    ) -> bool: ...
    def ack(self, message: Any) -> None: ...
    @property
    def queued_out(self) -> int: ...
    def queued_in(self, line: str) -> int: ...
    def hold_back(self, held: bool) -> None: ...
    def send(self) -> None: ...


Waiting = tuple[Message, str, str]
"""A request with its server and verb."""
