"""Two nodes on one ledger, killed and frozen in turn for five minutes under load; then three of which one lies."""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    os.environ["CHANNELD_SOAK"] = "1"
    sys.exit(pytest.main(["-q", "-s", "tests/e2e/test_nodes.py", *sys.argv[1:]]))
