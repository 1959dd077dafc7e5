"""What most tests of the service start from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from engine import Engine


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The engine's own log lines are not printed here: thousands of ledgers pass."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine that has met its ledger."""
    made = Engine(tmp_path / "store.db")
    made.connect()
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards: hypothesis makes very many."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
