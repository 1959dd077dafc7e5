"""What must hold of both brokers is tested with both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from servers import Mosquitto

from channeld.sandbox.broker import SandboxBroker


@pytest.fixture(params=["sandbox", pytest.param("mosquitto", marks=pytest.mark.slow)])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    """The port of a broker that lets everybody in."""
    if request.param == "sandbox":
        async with SandboxBroker() as server:
            yield server.port
    else:
        async with Mosquitto(tmp_path) as real:
            yield real.port
