"""Copies of a store: made while it is written, and looked at before one is put back."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from channeld.adapters.sqlite.books import read_identity
from channeld.adapters.sqlite.file import SCHEMA_VERSION
from channeld.core.errors import Refused, StoreError
from channeld.core.witness import Identity
from channeld.durable import to_disk

_ENDS: Final = ("-wal", "-shm", "")
"""The log first: without it what is left of a store is old, with it alone nothing."""


def copy_store(source: Path, target: Path) -> None:
    """A consistent copy, on disk when this returns. Call it in a thread: it waits for the disk, not for the writer.

    Raises `Refused` where `target` exists, `StoreError` where the copy cannot be made; then nothing is left of it.
    """
    draft = target.with_name(target.name + ".part")
    try:
        if target.exists():
            raise Refused(f"{target} exists: a backup never overwrites anything")
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as db,
            closing(sqlite3.connect(draft)) as copy,
        ):
            db.backup(copy)  # all pages in one read transaction, whatever is committed meanwhile
            copy.execute("PRAGMA journal_mode = DELETE")
        to_disk(draft)
        draft.rename(target)
        to_disk(target.parent)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StoreError(f"cannot copy {source} to {target}: {error}") from error


def check_copy(path: Path, network_id: int) -> Identity:
    """Whether a file is a whole store of this network; which one. Raises `Refused` where it is not."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise Refused(f"{path}: not a store of this channeld (schema {version}, not {SCHEMA_VERSION})")
            (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise Refused(f"{path}: damaged: {verdict}")
            network = db.execute("SELECT value FROM meta WHERE key = 'network_id'").fetchone()
            if network is None or network[0] != str(network_id):
                raise Refused(f"{path}: belongs to network {network and network[0]}, not {network_id}")
            return read_identity(db)
    except sqlite3.Error as error:
        raise Refused(f"{path}: not a store: {error}") from error


def draft_beside(copy: Path, store: Path) -> Path:
    """A copy of a copy beside the store, all of its log in it, for `put_back`. Raises `StoreError`."""
    draft = store.with_name(store.name + ".restoring")
    try:
        for end in _ENDS:
            draft.with_name(draft.name + end).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot take away what an earlier restore left: {error}") from error
    copy_store(copy, draft)
    return draft


def put_back(draft: Path, store: Path, suffix: str) -> Path | None:
    """Put a file of the same folder in the store's place; the one that was there is set aside, and where is returned.

    Nobody may have either open. Raises `StoreError`.
    """
    aside = None
    try:
        if draft.with_name(draft.name + "-wal").exists():
            raise StoreError(f"{draft} is not whole without its log")
        to_disk(draft)
        for end in _ENDS:
            present = store.with_name(store.name + end)
            if present.exists():
                aside = store.with_name(f"{store.name}.{suffix}{end}")
                present.rename(aside)
        draft.rename(store)
        to_disk(store.parent)
    except OSError as error:
        raise StoreError(f"cannot put {draft} in the place of {store}: {error}") from error
    return aside
