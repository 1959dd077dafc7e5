"""The C programs: built at first use, the load generator run for one measurement at a time."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "native"
FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
PROGRAMS: Final = ("load", "echo")
_runs = itertools.count(1)


class NoCompiler(Exception):
    """The C programs cannot be built here; says what to install."""


class LoadFailed(Exception):
    """The load generator gave up; says why. The figures of this run are worth nothing."""


def build() -> Path:
    """The folder with the programs, compiled if their sources changed. Raises `NoCompiler`."""
    files = sorted(SOURCES.iterdir())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    in_venv = sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK)
    home = Path(sys.prefix) if in_venv else Path(tempfile.gettempdir()) / f"channeld-bench-{os.getuid()}"
    folder = home / "bench" / digest
    for program in PROGRAMS:
        if not (folder / program).exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(program, folder)
    return folder


def _compile(program: str, folder: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompiler(
            "the load generator is written in C: install a compiler (on Debian or Ubuntu: apt install gcc)"
        )
    unfinished = folder / f".{program}-{os.getpid()}"
    sources = [str(SOURCES / "mqtt.c"), str(SOURCES / f"{program}.c")]
    command = [compiler, *FLAGS, "-o", str(unfinished), *sources, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoCompiler(f"{compiler} cannot build the load generator (is libc6-dev there?): {done.stderr[:2000]}")
    unfinished.rename(folder / program)


@dataclass(frozen=True, slots=True)
class Shape:
    """Who asks: so many content servers, each with so many payees, one channel a payee."""

    servers: int
    payees: int
    payee: str
    """The payees' one account; they differ in the destination tag, 1 to `servers` * `payees`."""

    @property
    def channels(self) -> int:
        return self.servers * self.payees

    @property
    def template(self) -> str:
        return f'{{"id":"%i","payee":"{self.payee}:%t","drops":"100","user":"u-%u"}}'


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load: `in_flight` requests at any time, or `rate` a second, each a payload of `batch` items."""

    in_flight: int = 0
    rate: float = 0
    batch: int = 1

    @property
    def name(self) -> str:
        load = f"{self.in_flight} in flight" if self.in_flight else f"{self.rate:.0f}/s offered"
        return load if self.batch == 1 else f"{load}, batches of {self.batch}"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one measurement takes, in seconds: what is not measured, what is, the wait for the last replies."""

    warm_up: float
    measured: float
    drain: float = 5.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one measurement gave. `rate` is accepted claims a second; latencies are milliseconds of whole payloads.

    `cpu_us` are microseconds of processor time for each accepted claim: of the contender, the broker, the load
    generator. `sample` is a reply that rejected something, if one came.
    """

    requests: int
    accepted: int
    rejected: int
    unanswered: int
    strays: int
    seconds: float
    rate: float
    p50: float
    p99: float
    p999: float
    max: float
    cpu_us: tuple[float, ...]
    sample: str

    @classmethod
    def read(cls, line: str) -> Result:
        """From the line of JSON that the load generator prints."""
        said = json.loads(line)
        done = said["rate"] * said["seconds"]
        spent = said.pop("cpu_s")
        return cls(**said, cpu_us=tuple(s * 1e6 / done if done else 0.0 for s in spent))


@dataclass(frozen=True, slots=True)
class LoadGenerator:
    """The C program against one broker."""

    folder: Path
    port: int
    shape: Shape
    match: str = "correlation"
    first: int = 0
    servers: int | None = None
    """Which of the shape's servers this one plays: so many from `first` on; None: all."""

    async def run(self, prefix: str, cell: Cell, timing: Timing, watch: tuple[int, ...] = ()) -> Result:
        """Ask below `prefix` and measure; `watch` are processes whose processor time counts. Raises `LoadFailed`."""
        process = await asyncio.create_subprocess_exec(
            *self._command(prefix, cell, timing),
            *(word for pid in watch for word in ("--watch", str(pid))),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise LoadFailed(f"{cell.name} below {prefix}: {err.decode(errors='replace').strip()}")
        return Result.read(out.decode())

    def _command(self, prefix: str, cell: Cell, timing: Timing) -> list[str]:
        load = ("--in-flight", str(cell.in_flight)) if cell.in_flight else ("--rate", str(cell.rate))
        options = {
            "port": self.port,
            "prefix": prefix,
            "tag": f"{os.getpid():x}-{next(_runs)}",
            "payload": self.shape.template,
            "first": self.first,
            "servers": self.shape.servers if self.servers is None else self.servers,
            "payees": self.shape.payees,
            "batch": cell.batch,
            "match": self.match,
            "warm-up": timing.warm_up,
            "seconds": timing.measured,
            "drain": timing.drain,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [str(self.folder / "load"), *load, *words]
