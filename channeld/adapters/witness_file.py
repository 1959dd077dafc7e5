"""The file beside the store that bears witness to its data version: small, replaced whole, on disk when written.

It survives what a restored copy of the store alone brings back. It does not survive a snapshot of the whole machine:
for that there is the broker.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import structlog

from channeld.core.errors import Unreachable
from channeld.core.witness import Witness
from channeld.durable import to_disk

log = structlog.get_logger()


def path_beside(store: Path) -> Path:
    """Where the witness of a store is."""
    return store.with_name(store.name + ".witness")


class WitnessFile:
    """At `path`, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Witness | None:
        """What it says; None if there is none, or it is damaged, which is logged: the broker's witness remains."""
        try:
            said = json.loads(self.path.read_text())
            return Witness(str(said["store_id"]), int(said["data_version"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("witness_file_unreadable", path=str(self.path), reason=str(error)[:200])  # noqa: TRY400
            return None

    def write(self, witness: Witness) -> None:
        """Replace it, so that a crash leaves the old or the new one. Raises `Unreachable` where the disk refuses."""
        draft = self.path.with_name(self.path.name + ".new")
        text = json.dumps({"store_id": witness.store_id, "data_version": witness.data_version})
        try:
            with open(draft, "w", opener=_private) as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            to_disk(self.path.parent)
        except OSError as error:
            raise Unreachable(f"cannot write {self.path}: {error.strerror or error}") from error

    def remove(self) -> None:
        """A new store begins without a past."""
        self.path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
