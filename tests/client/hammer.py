"""A content server that asks as fast as it can until it is killed: `hammer.py TERMS`, TERMS as JSON.

Each answer that `claim` returned is written to stdout at once, for then the application would serve.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from channeld.client import Ask, Client, ClientError

AT_ONCE = 24


async def main() -> None:
    terms = json.loads(sys.argv[1])
    payees = terms.pop("payees")
    rng = random.Random(os.getpid())
    async with Client(**terms) as client:
        finishing = asyncio.create_task(client.finish())

        async def buy() -> None:
            while True:
                asks = [Ask(rng.choice(payees), rng.randint(1, 50)) for _ in range(rng.choice([1, 1, 1, 5]))]
                for said in await client.claims(asks):
                    if not isinstance(said, ClientError):
                        told = [said.id, said.drops, said.claim.channel_id, said.covers_to, said.claim.amount]
                        os.write(1, (json.dumps(told) + "\n").encode())

        await asyncio.gather(finishing, *(buy() for _ in range(AT_ONCE)))


asyncio.run(main())
