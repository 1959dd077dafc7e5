"""Whether a file is still as it was when it was read: by its place, size and times, never by its contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

Stamp = tuple[int, ...] | None
"""What tells one state of a file from another, None where no file is. By itself it means nothing."""


def stamp(path: Path) -> Stamp:
    """The stamp of a file as it is now.

    It changes when the file is written, replaced, moved away or there again, and when who may read it changes. Two
    writes of equal length within the resolution of the file system's clock (some 10 ms at worst) may look like one.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def stamps(paths: Iterable[Path]) -> Mapping[Path, Stamp]:
    """The stamps of these files as they are now."""
    return {path: stamp(path) for path in paths}
