"""The sandbox ledger: an XRP Ledger for payment channels that answers as rippled 2.3.0 does in standalone mode.

`serve` runs it as a service, `SandboxLedger` inside a test. From the wire inwards: `server` and `api` speak JSON,
`streams` tells subscribers, `node` holds the ledgers, `pipeline` judges transactions, `channels` and `accounts` know
the types, `directory`, `meta`, `view` and `state` are what they stand on. `faults` lists the faults tests can order.
`queue`, `locals` and `closing` decide what gets into which ledger.

What differs from rippled: ledger, state and transaction hashes are digests of the same content, but of no SHAMap; of
the transaction types only those around payment channels exist, all others answer temDISABLED; the queue is simplified
(see `queue`); objects of ledgers older than 256 are gone (lgrNotFound), while transactions are kept for good.
"""

from __future__ import annotations

from channeld.sandbox.ledger.genesis import GENESIS_ACCOUNT
from channeld.sandbox.ledger.run import DEFAULT_INTERVAL_S, SandboxLedger, serve
from channeld.sandbox.ledger.settings import DEFAULT_CAPACITY

__all__ = ["DEFAULT_CAPACITY", "DEFAULT_INTERVAL_S", "GENESIS_ACCOUNT", "SandboxLedger", "serve"]
