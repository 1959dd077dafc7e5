"""`channeld` as it is called from a shell, but in this process."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from configs import changed, write_config
from engine import Engine

from channeld.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `channeld` with arguments in an empty folder; its exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

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


@pytest.fixture
def terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same for a person: stdout is a terminal, 80 columns wide, that knows no colours."""
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        with monkeypatch.context() as person:
            person.setattr(sys.stdout, "isatty", lambda: True)
            return run(*arguments, stdin=stdin)

    return call


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on the store of a config in this folder, with a channel that 5 drops were asked for in vain."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    write_config(tmp_path, changed("127.0.0.1:9464", "127.0.0.1:1"))
    (tmp_path / "data").mkdir()
    engine = Engine(tmp_path / "data" / "channeld.db")
    engine.unix = time.time()
    engine.connect()
    engine.opened()
    yield engine
    engine.kill()
    structlog.reset_defaults()
