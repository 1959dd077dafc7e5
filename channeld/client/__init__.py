"""For content servers in Python: ask, verify, keep the best claim.

`Client` for asyncio, `SyncClient` for everything else; `python -m channeld.client redeem` collects without the daemon.
Everything that is raised on purpose is in `errors`. Install with `channeld[client]`; nothing of the daemon is needed.
"""

from channeld.client import errors
from channeld.client.arguments import Ask
from channeld.client.booking import Held
from channeld.client.client import Client
from channeld.client.errors import ClientError
from channeld.client.sync import SyncClient
from channeld.wire.answers import Accepted, Claim

__all__ = ["Accepted", "Ask", "Claim", "Client", "ClientError", "Held", "SyncClient", "errors"]
