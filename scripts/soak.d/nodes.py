"""Two nodes on one ledger, killed and frozen in turn for five minutes under load; then three of which one lies."""

from __future__ import annotations

import os
import sys

import pytest
from options import numbers

if __name__ == "__main__":
    numbers(__doc__)
    os.environ["CHANNELD_SOAK"] = "1"
    sys.exit(pytest.main(["-q", "-s", "tests/e2e/test_nodes.py"]))
