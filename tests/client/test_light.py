"""The client is small: quick to import, and without anything of the daemon's."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from channeld.sandbox.stage import PATIENCE_S

DAEMONS = {
    "aiohttp", "aiosqlite", "cryptography", "mqtt5", "msgspec", "numpy", "prometheus_client", "pydantic",
    "pydantic_settings", "rich", "structlog", "typer", "uvloop", "xrpl",
}  # fmt: skip
ROOMS = {
    "channeld.adapters",
    "channeld.app",
    "channeld.cli",
    "channeld.sandbox",
    "channeld.service",
    "channeld.settings",
}
IMPORTS_WITHIN_S = 0.150


def fresh(script: str) -> Any:
    """What a script prints as JSON in an interpreter of its own, that has loaded nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return json.loads(done.stdout)


LOADED = "import sys, json; {}; print(json.dumps(sorted(sys.modules)))"


def foreign(modules: list[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in modules} & DAEMONS
    return tops | {name for name in modules if any(name == room or name.startswith(room + ".") for room in ROOMS)}


def test_importing_the_client_pulls_in_nothing_of_the_daemon() -> None:
    assert foreign(fresh(LOADED.format("import channeld.client"))) == set()


def test_using_it_pulls_in_nothing_of_the_daemon_either() -> None:
    """Broker, signatures of both kinds and a ledger node: all that is imported late."""
    use = (
        "import channeld.client, asyncio, aiomqtt, websockets.asyncio.client, channeld.wire.ledger;"
        "from channeld.signatures import verify; verify(b'\\xed' + bytes(32), b'', bytes(64));"
        "verify(b'\\x02' + bytes(32), b'', bytes(64))"
    )
    assert foreign(fresh(LOADED.format(use))) == set()


def test_it_is_imported_in_150_ms() -> None:
    """Of processor time, for others use this machine, too: the best of five, without an empty interpreter's own."""
    script = (
        "import time, json; start = time.process_time(); import channeld.client;"
        "print(json.dumps(time.process_time() - start))"
    )
    assert min(fresh(script) for _ in range(5)) < IMPORTS_WITHIN_S
