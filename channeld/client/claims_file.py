"""The claims file as SQLite has it: made, opened, checked, and what its failures are called."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from channeld.client.errors import DiskFull, FileBusy, FileError, NotAClaimsFile

_APPLICATION: Final = 0x63_6C_6D_73  # "clms"
_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE belongs (server TEXT NOT NULL);
CREATE TABLE request (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, tag INTEGER, drops INTEGER NOT NULL, not_after INTEGER NOT NULL,
  contents TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL, answer TEXT
) WITHOUT ROWID;
CREATE INDEX request_unanswered ON request (created) WHERE state = 'sent';
CREATE INDEX request_age ON request (created);
CREATE TABLE slice (
  channel_id TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, PRIMARY KEY (channel_id, start)
) WITHOUT ROWID;
CREATE TABLE best (
  channel_id TEXT PRIMARY KEY, amount INTEGER NOT NULL, signature TEXT NOT NULL, public_key TEXT NOT NULL,
  source_account TEXT NOT NULL, account TEXT NOT NULL, tag INTEGER, kept INTEGER NOT NULL
) WITHOUT ROWID;
"""
_KEPT_S: Final = 8 * 86_400
_BUSY_MS: Final = 10_000


def open_file(path: Path, server: str | None) -> sqlite3.Connection:
    """Open a claims file, made if there is none and `server` says whose it is. Raises sqlite3 and `FileError`s."""
    if server is not None:
        _make(path)
    elif not path.exists():
        raise NotAClaimsFile(f"{path}: there is no such file")
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    try:
        _prepare(db, path, server)
    except BaseException:
        db.close()
        raise
    return db


def _make(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise FileError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None


def _prepare(db: sqlite3.Connection, path: Path, server: str | None) -> None:
    db.execute("PRAGMA synchronous = FULL")
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION and (tables or server is None):
        raise NotAClaimsFile(f"{path} is a database of something else")
    if server is None:
        return
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute("INSERT INTO belongs VALUES (?)", (server,))
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
    (owner,) = db.execute("SELECT server FROM belongs").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    now = int(time.time())
    db.execute("DELETE FROM request WHERE created < ? AND state <> 'sent'", (now - _KEPT_S,))
    db.execute("COMMIT")
    if owner != server:
        raise NotAClaimsFile(f"{path} belongs to {owner}, not to {server}")
    if version != _VERSION:
        raise NotAClaimsFile(f"{path} was written by a newer version of this client ({version})")


def failure(error: sqlite3.Error, path: Path) -> FileError:
    """A `FileError` for what SQLite reports."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kinds = {
        sqlite3.SQLITE_FULL: DiskFull,
        sqlite3.SQLITE_BUSY: FileBusy,
        sqlite3.SQLITE_NOTADB: NotAClaimsFile,
        sqlite3.SQLITE_CORRUPT: NotAClaimsFile,
    }
    return kinds.get(code, FileError)(f"{path}: {error}")
