"""`python -m channeld.sandbox.broker --port 1883`: the embedded broker alone, until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from channeld.core.errors import ConfigError
from channeld.sandbox.broker.server import serve


def main() -> int:
    """Exit status: 0 stopped, 2 a bad file, 3 the address cannot be had."""
    parser = argparse.ArgumentParser(prog="channeld.sandbox.broker", description="A small MQTT 5 broker for trials.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="0 takes any free one")
    parser.add_argument("--password-file", type=Path, help="lines `user:password`; without it anyone may connect")
    parser.add_argument("--acl-file", type=Path, help="who may use which topics, as Mosquitto writes it")
    given = parser.parse_args()
    room = serve(
        given.host,
        given.port,
        password_file=given.password_file,
        acl_file=given.acl_file,
        ready=lambda host, port: print(f"mqtt://{host}:{port}", flush=True),
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(room)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
