"""The client killed under load, a hundred times."""

from __future__ import annotations

import os
import sys

import pytest
from options import numbers

if __name__ == "__main__":
    (deaths,) = numbers(__doc__, deaths=100)
    os.environ["CHANNELD_CLIENT_DEATHS"] = str(deaths)
    sys.exit(pytest.main(["-q", "-s", "--timeout", "1800", "tests/e2e/test_client_killed.py"]))
