"""`python -m channeld.client claims|redeem`: what is held, and how to be paid without channeld."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from channeld.client.booking import Held, read_best
from channeld.client.claims_file import open_file
from channeld.client.errors import BadArgument, ClientError, FileError, LedgerUnreachable

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 something is left, 2 bad usage or a bad file, 3 the node does not answer."""
    asked = _parser().parse_args(arguments)
    try:
        held = _held(asked.claims)
        status: int = asked.do(asked, held)
    except (BadArgument, FileError) as error:
        return _fail(error, USAGE)
    except LedgerUnreachable as error:
        return _fail(error, UNREACHABLE)
    except ClientError as error:
        return _fail(error, NO)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m channeld.client", description="What a claims file holds.")
    commands = parser.add_subparsers(required=True)
    show = commands.add_parser("claims", help="print the best claim of every channel, one JSON object a line")
    show.set_defaults(do=_claims)
    redeem = commands.add_parser("redeem", help="collect them on the ledger with the payee's wallet, without channeld")
    redeem.add_argument("--node", required=True, metavar="URL", help="any ledger node: wss://... or ws://...")
    redeem.add_argument("--seed-file", required=True, type=Path, help="the payee's seed: one line, s... or sEd...")
    redeem.add_argument("--network-id", type=int, default=0, help="the network the node must be on; 0 is the main one")
    redeem.add_argument("--max-fee", type=int, default=10_000, metavar="DROPS", help="for each transaction; 10000")
    redeem.set_defaults(do=_redeem)
    for command in (show, redeem):
        command.add_argument("--claims", required=True, type=Path, metavar="FILE", help="the client's claims file")
    return parser


def _held(path: Path) -> list[Held]:
    try:
        with contextlib.closing(open_file(path, None)) as db:
            return read_best(db)
    except sqlite3.Error as error:
        raise FileError(f"{path}: {error}") from None


def _claims(_: Any, held: list[Held]) -> int:
    for one in held:
        _print({"payee": str(one.payee), "source_account": one.source_account, "claim": one.claim.as_json()})
    return DONE


def _redeem(asked: Any, held: list[Held]) -> int:
    from channeld.client.redeem import Outcome, read_wallet, redeem_all

    def tell(outcome: Outcome) -> None:
        _print({"channel_id": outcome.channel_id, "paid": str(outcome.paid), "said": outcome.text})

    if not held:
        print("the file holds no claim", file=sys.stderr)
        return DONE
    wallet = read_wallet(asked.seed_file, {one.payee.account for one in held})
    terms = {"url": asked.node, "network_id": asked.network_id, "most_fee": asked.max_fee}
    return DONE if asyncio.run(redeem_all(held, wallet, tell=tell, **terms)) else NO


def _print(said: Any) -> None:
    print(json.dumps(said), flush=True)


def _fail(error: ClientError, status: int) -> int:
    print(error, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
