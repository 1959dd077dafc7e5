"""`channeld` as it is called from a shell, but in this process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from channeld.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `channeld` with arguments in an empty folder; its exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("CHANNELD_")]:
        monkeypatch.delenv(variable)

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["channeld", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            main()
            status: int | str | None = 0
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return int(status or 0), out, err

    return call
