"""Starting the ledger: as a service, or inside a test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from channeld.sandbox.ledger import persist
from channeld.sandbox.ledger.headers import Header
from channeld.sandbox.ledger.node import Node
from channeld.sandbox.ledger.server import LedgerServer
from channeld.sandbox.ledger.settings import DEFAULT_CAPACITY, Settings

DEFAULT_INTERVAL_S: Final = 3.0
"""About what the main network takes to close a ledger."""


def make_node(settings: Settings, state_file: Path | None) -> Node:
    """A node, from its state file if that exists. Raises `ConfigError` for a file that can not be used."""
    node = Node(settings)
    if state_file is not None and state_file.exists():
        persist.load(node, state_file)
    else:
        node.bootstrap()
    return node


class SandboxLedger:
    """An XRP Ledger on a port of this machine, for use inside a process.

    `async with SandboxLedger() as ledger:` listens at `ledger.url`. With `manual` (the default) or without an interval
    no timer closes ledgers: `close_ledger` or a client's `ledger_accept` does. `also_ports` are further ports, each
    like a node of its own on the same state, with faults of its own.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        close_interval_s: float | None = None,
        state_file: Path | None = None,
        network_id: int = 0,
        amendments: Mapping[str, bool] | None = None,
        capacity: int = DEFAULT_CAPACITY,
        also_ports: Sequence[int] = (),
    ) -> None:
        settings = Settings(amendments or {}, network_id, capacity)
        self.node = make_node(settings, state_file)
        self.server = LedgerServer(self.node, host, port, close_interval_s, state_file)
        for other in also_ports:
            LedgerServer(self.node, host, other, None, None, beside=self.server)

    @property
    def url(self) -> str:
        """The WebSocket URL; valid once started."""
        return self.server.url

    @property
    def urls(self) -> list[str]:
        """The URLs of all its ports, the first one first; valid once started."""
        return [door.url for door in self.server.doors]

    @property
    def port(self) -> int:
        """The port it listens on; valid once started."""
        return self.server.port

    async def start(self) -> None:
        """Listen."""
        for door in self.server.doors:
            await door.start()

    async def stop(self) -> None:
        """Close connections, stop, and save the state if there is a file for it."""
        for door in reversed(self.server.doors):
            await door.stop()

    def close_ledger(self) -> Header:
        """Close the open ledger now, and tell subscribers. Returns the closed ledger's header."""
        self.server.close_ledger()
        return self.node.validated

    async def __aenter__(self) -> SandboxLedger:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(
    host: str,
    port: int,
    *,
    close_interval_s: float | None,
    state_file: Path | None,
    network_id: int,
    amendments: Mapping[str, bool],
    capacity: int,
    manual: bool,
    also_ports: Sequence[int] = (),
    ready: asyncio.Event | None = None,
) -> None:
    """Run a ledger until cancelled. Without `manual` and interval, ledgers close every `DEFAULT_INTERVAL_S` seconds."""
    interval = None if manual else (close_interval_s or DEFAULT_INTERVAL_S)
    ledger = SandboxLedger(
        host=host,
        port=port,
        close_interval_s=interval,
        state_file=state_file,
        network_id=network_id,
        amendments=amendments,
        capacity=capacity,
        also_ports=also_ports,
    )
    await ledger.start()
    try:
        if ready is not None:
            ready.set()
        await asyncio.Event().wait()
    finally:
        await ledger.stop()
