"""A few lives of the ledger machine; `scripts/soak ledger` runs thousands."""

from __future__ import annotations

from hypothesis import settings
from service.machine import LedgerMachine


class TestLedgerMachine(LedgerMachine.TestCase):
    settings = settings(max_examples=max(10, settings().max_examples // 4), stateful_step_count=25, deadline=None)
