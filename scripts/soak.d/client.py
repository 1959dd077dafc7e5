"""The client killed under load, a hundred times: `client.py [DEATHS]`."""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    os.environ["CHANNELD_CLIENT_DEATHS"] = sys.argv[1] if len(sys.argv) > 1 else "100"
    sys.exit(pytest.main(["-q", "-s", "--timeout", "1800", "tests/e2e/test_client_killed.py"]))
