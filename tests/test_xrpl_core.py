"""A start does not pay for what nothing uses of xrpl-py, and who uses it finds all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = "import sys, channeld.app; sys.exit(bool({'httpx', 'xrpl.models.transactions'} & set(sys.modules)))"
WHOLE = "import channeld.xrpl_core, xrpl; print(xrpl.XRPLException, xrpl.models.Payment, xrpl.core.keypairs.sign)"
NOTHING = "import channeld.xrpl_core, xrpl; print(hasattr(xrpl, 'nothing'), hasattr(xrpl.models, '__nothing__'))"


def python(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_daemon_starts_without_models_and_clients() -> None:
    assert python(LIGHT) == (0, "")


@pytest.mark.parametrize(
    ("code", "said"), [(WHOLE, "xrpl.models.transactions.payment.Payment"), (NOTHING, "False False")]
)
def test_the_package_is_whole_for_whoever_asks_for_more(code: str, said: str) -> None:
    status, out = python(code)
    assert status == 0, out
    assert said in out
