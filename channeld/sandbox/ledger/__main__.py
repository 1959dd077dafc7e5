"""`python -m channeld.sandbox.ledger --port P [--manual] ...`: the ledger alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from channeld.core.errors import ChanneldError
from channeld.sandbox.ledger import DEFAULT_CAPACITY, serve


def _switch(text: str) -> tuple[str, bool]:
    name, _, value = text.partition("=")
    if value not in ("on", "off"):
        raise argparse.ArgumentTypeError("NAME=on or NAME=off")
    return name, value == "on"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m channeld.sandbox.ledger")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--close-interval", type=float, metavar="S")
    parser.add_argument("--manual", action="store_true")
    parser.add_argument("--state", type=Path, metavar="FILE")
    parser.add_argument("--network-id", type=int, default=0)
    parser.add_argument("--amendment", type=_switch, action="append", default=[], metavar="NAME=on|off")
    parser.add_argument("--also-port", type=int, action="append", default=[])
    parser.add_argument("--ledger-capacity", type=int, default=DEFAULT_CAPACITY, metavar="N")
    return parser


async def _run(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serve(
            options.host,
            options.port,
            close_interval_s=options.close_interval,
            state_file=options.state,
            network_id=options.network_id,
            amendments=dict(options.amendment),
            capacity=options.ledger_capacity,
            manual=options.manual,
            also_ports=options.also_port,
        )


def main() -> int:
    """Run until SIGINT or SIGTERM."""
    try:
        asyncio.run(_run(_parser().parse_args()))
    except ChanneldError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"can not listen: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
