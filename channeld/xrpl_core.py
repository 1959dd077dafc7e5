"""What is used of xrpl-py: its codecs and its derivation of keys, without the rest of it.

`import xrpl` brings its models of every transaction and its HTTP clients along. That is a third of what a start of the
daemon takes, and none of it is used here. So these packages are entered without running their `__init__`; whoever asks
one of them for something that no import has put there yet gets all of it, as ever.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class _Unopened(ModuleType):
    """A package whose `__init__` runs when something is looked for that no import of a submodule has put there."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def _enter(package: str) -> None:
    """Let its submodules be imported without it; nothing happens where it was imported before."""
    spec = importlib.util.find_spec(package)
    if package not in sys.modules and spec is not None:
        module = sys.modules[package] = importlib.util.module_from_spec(spec)
        module.__class__ = _Unopened


_enter("xrpl")
_enter("xrpl.models")

from xrpl.constants import CryptoAlgorithm  # noqa: E402 (after the packages were entered)
from xrpl.core import addresscodec, binarycodec, keypairs  # noqa: E402
from xrpl.core.binarycodec.definitions import get_field_instance  # noqa: E402

__all__ = ["CryptoAlgorithm", "addresscodec", "binarycodec", "get_field_instance", "keypairs"]
