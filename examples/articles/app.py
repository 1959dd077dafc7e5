"""Articles that cost: an ASGI app that is paid for every page it serves, before it serves it.

    channeld sandbox stage --out stage.json &
    STAGE=stage.json uvicorn app:app            # in this folder; pip install 'channeld[client]' starlette uvicorn
    curl -i -H 'X-Reader: u-17' http://127.0.0.1:8000/articles/9

`Charge` is the part to copy. It wraps any ASGI app, and lets a request through once it is paid for.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from channeld.client import Client, errors

PRICE_DROPS = 1500
PATIENCE_S = 10.0  # what a reader waits for at most; the first page for a payee waits for its channel
STAGE = json.loads(Path(os.environ["STAGE"]).read_text())
CLAIMS = os.environ.get("CLAIMS", "claims.db")


class Charge:
    """Asks for the price of each page, names reader and page for the accounts, and serves only what is paid.

    A page that was paid for is served again to the same reader on the same day, UTC, whatever crashed in between: day,
    reader and page make the request's id, and what an id was accepted as is in the claims file.
    """

    def __init__(self, app: ASGIApp, *, payee: str, drops: int, prefix: str) -> None:
        self.app, self.payee, self.drops, self.prefix = app, payee, drops, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self.prefix):
            refusal = await self.charge(Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def charge(self, request: Request) -> Response | None:
        """None once it is paid, else what to tell the reader."""
        reader, page = request.headers.get("x-reader", ""), request.url.path
        if not reader:
            return PlainTextResponse("who reads? (X-Reader)\n", 401)
        try:
            await self.pay(request.app.state.client, reader, page)
        except errors.IdReused:
            return PlainTextResponse("it is being paid for right now\n", 503, {"Retry-After": "1"})
        except errors.Rejection as no:
            later = {} if no.retry_after_ms is None else {"Retry-After": str(math.ceil(no.retry_after_ms / 1000))}
            return PlainTextResponse(f"not paid: {no}\n", 503 if later else 402, later)
        except (errors.NotAnswered, errors.FileError) as unknown:
            return PlainTextResponse(f"cannot be paid now: {unknown}\n", 503, {"Retry-After": "5"})
        except errors.Lie as lie:
            return PlainTextResponse(f"the payment is not what it should be: {type(lie).__name__}\n", 502)
        return None

    async def pay(self, client: Client, reader: str, page: str) -> None:
        """Buy it, once; if it was bought before, the claims file says so and nothing is asked."""
        today = time.strftime("%Y-%m-%d", time.gmtime())
        for number in itertools.count():
            text = json.dumps([today, reader, page, self.drops, number])
            try:
                await client.claim(
                    id=hashlib.sha256(text.encode()).hexdigest(),
                    payee=self.payee,
                    drops=self.drops,
                    user=reader[:128],
                    content=page[:256],
                    timeout_s=PATIENCE_S,
                )
            except errors.TooLate:
                continue  # this id was never accepted, and no longer can be: the next one
            return


async def article(request: Request) -> Response:
    return PlainTextResponse(f"Article {request.path_params['number']}, paid for.\n")


async def income(request: Request) -> Response:
    """What can be collected: the best claim of each channel."""
    held = await request.app.state.client.best()
    return PlainTextResponse("".join(f"{one.claim.channel_id} {one.claim.amount}\n" for one in held))


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for the whole process; first of all it finds out what a crash left open."""
    terms: dict[str, Any] = {key: STAGE[key] for key in ("server", "public_key", "payer", "ledger")}
    async with Client(STAGE["mqtt"], path=CLAIMS, **terms) as client:
        await client.finish(timeout_s=PATIENCE_S)
        app.state.client = client
        yield


app = Starlette(
    routes=[Route("/articles/{number:int}", article), Route("/income", income)],
    middleware=[Middleware(Charge, payee=STAGE["payee"], drops=PRICE_DROPS, prefix="/articles/")],
    lifespan=lifespan,
)
