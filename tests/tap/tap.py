"""Writes down what daemons say and take, for a judge: hooks into their code where every message passes.

Nothing has to be called: `sitecustomize` beside this file installs it in every Python that a test starts, however it
starts it, and `conftest` in the tests' own process. In a daemon everything that reaches the broker passes
`Broker.publish` or is its will. In the tests' process, where something else may stand in for the broker, whatever a
function of `channeld.wire` encoded is written down. In both it is what the readers of requests made requests of.

One file a process, each record written at once: a process that is killed leaves all of it.
"""

from __future__ import annotations

import functools
import inspect
import os
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

DIRECTORY = "CONTRACT_TAP"
"""The environment variable that names where the files go."""
HEAD = struct.Struct(">III")
Write = Callable[[str, str, bytes], None]


class Finder:
    """Lets Python find modules as ever, and hooks into those of a package once they are loaded."""

    def __init__(self, package: str, hook: Callable[[ModuleType], None]) -> None:
        self._package, self._hook = package, hook

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if not name.startswith(self._package):
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            self._hook(module)

        loader.exec_module = exec_module
        return spec


def install(directory: Path, *, daemon: bool) -> None:
    """From now on; modules that are loaded already stay as they are."""
    file = os.open(directory / f"{os.getpid()}.tap", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(what: str, where: str, payload: bytes) -> None:
        names = what.encode(), where.encode(errors="surrogatepass")
        os.write(file, b"".join((HEAD.pack(len(names[0]), len(names[1]), len(payload)), *names, payload)))

    def wire(module: ModuleType) -> None:
        _readers(module, write)
        if not daemon:
            _encoders(module, write)

    sys.meta_path.insert(0, Finder("channeld.wire.", wire))
    if daemon:
        sys.meta_path.insert(0, Finder("channeld.adapters.broker.client", functools.partial(_publishing, write=write)))


def _publishing(module: ModuleType, write: Write) -> None:
    broker: Any = module.Broker  # type: ignore[attr-defined]
    publish, init = broker.publish, broker.__init__

    @functools.wraps(publish)
    def overheard(self: Any, topic: str, payload: bytes, **more: Any) -> Any:
        sent = publish(self, topic, payload, **more)
        if sent:
            write("said", topic, payload)
        return sent

    @functools.wraps(init)
    def willing(self: Any, *given: Any, will: Any, **more: Any) -> None:
        if will is not None:
            write("said", will.topic, will.payload)
        init(self, *given, will=will, **more)

    broker.publish, broker.__init__ = overheard, willing


def _encoders(module: ModuleType, write: Write) -> None:
    for name, function in list(vars(module).items()):
        here = inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
        if here and function.__annotations__.get("return") == "bytes":
            setattr(module, name, _encoder(f"{module.__name__}.{name}", function, write))


def _encoder(name: str, function: Callable[..., bytes], write: Write) -> Callable[..., bytes]:
    @functools.wraps(function)
    def overheard(*given: Any, **more: Any) -> bytes:
        payload = function(*given, **more)
        write("encoded", name, payload)
        return payload

    return overheard


def _readers(module: ModuleType, write: Write) -> None:
    if reader := getattr(module, "ClaimReader", None):
        read = reader.read

        @functools.wraps(read)
        def claims(self: Any, server: str, payload: bytes) -> Any:
            parsed, batch = read(self, server, payload)
            taken = "".join("-" if _refused(item.ask) else "+" for item in parsed)
            if "+" in taken:
                write("taken", f"claims {taken}" if batch else "claim", payload)
            return parsed, batch

        reader.read = claims
    for name in ("read_hand_in", "read_query"):
        if function := getattr(module, name, None):
            setattr(module, name, _reader(name, function, write))


def _reader(name: str, function: Callable[..., Any], write: Write) -> Callable[..., Any]:
    @functools.wraps(function)
    def overheard(*given: Any) -> Any:
        found = function(*given)
        if not (isinstance(found, tuple) or _refused(getattr(found, "ask", found))):
            write("taken", name, given[-1])
        return found

    return overheard


def _refused(ask: Any) -> bool:
    return type(ask).__name__ == "Refusal"


def records(data: bytes) -> Iterator[tuple[str, str, bytes, int]]:
    """What, where and payload of every whole record, and where it ends."""
    at = 0
    while at + HEAD.size <= len(data):
        sizes = HEAD.unpack_from(data, at)
        end = at + HEAD.size + sum(sizes)
        if end > len(data):
            return
        first, second = at + HEAD.size + sizes[0], end - sizes[2]
        yield (
            data[at + HEAD.size : first].decode(),
            data[first:second].decode(errors="surrogatepass"),
            data[second:end],
            end,
        )
        at = end
