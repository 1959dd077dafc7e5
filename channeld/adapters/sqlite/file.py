"""The file of a store: one connection that writes, its schema, its transactions, and its write-ahead log.

Any failure of SQLite becomes a `StoreError`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from channeld.core.errors import ConfigError, StoreError

SCHEMA_VERSION: Final = 3
_FEW_PAGES: Final = 1000
"""Pages that may be folded by the connection that commits: what a thread leaves while the desk accepts all it can."""


Begin = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""A transaction that is on disk when it ends, and raises `StoreError` where that fails; see `StoreFile.transaction`."""


@contextmanager
def failing() -> Iterator[None]:
    """Whatever SQLite says in here is a `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the store failed: {error}") from error


class StoreFile:
    """Opens (or creates) the file at `path`. `db` is the one connection that writes to it.

    `in_doubt`: a transaction failed, perhaps after it had reached the disk, and nothing was read `anew` since: until it
    is, there is no other.

    Raises `ConfigError` for a store of another network or schema, `StoreError` for what is none.
    """

    def __init__(self, path: Path, network_id: int) -> None:
        self.path = path
        self._left, self.in_doubt = 0, False
        try:
            with ExitStack() as unfit:
                self.db = sqlite3.connect(path, isolation_level=None, cached_statements=256)
                unfit.callback(self.db.close)
                path.chmod(0o600)
                self._configure()
                self._version = self._data_version()
                self._create_or_check(network_id)
                unfit.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot open the store {path}: {error}") from error

    def _configure(self) -> None:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",  # no commit folds the log: it may be long when somebody has read for long
            "foreign_keys = ON",
            "cache_size = -65536",
            "busy_timeout = 5000",
        ):
            self.db.execute(f"PRAGMA {pragma}")

    def _create_or_check(self, network_id: int) -> None:
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            problem = f"the store {self.path} has schema {version}, this channeld reads {SCHEMA_VERSION}"
            raise ConfigError([f"store.url: {problem} (take the channeld that wrote it, or another store)"])
        if version == 0:
            script = (resources.files(__package__) / "schema.sql").read_text()
            index_secret = secrets.randbits(64) | 1
            facts = f"('store_id', '{secrets.token_hex(16)}'), ('network_id', '{network_id:d}')"
            facts += f", ('index_secret', '{index_secret}')"
            end = f"INSERT INTO meta VALUES {facts}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            self.db.executescript(f"BEGIN IMMEDIATE; {script} {end}")
        if (kept := self.meta("network_id")) != str(network_id):
            self._change_network(kept, network_id)

    def _change_network(self, kept: str | None, network_id: int) -> None:
        """A store that holds nothing yet may follow a corrected network_id; any other belongs to its own for ever."""
        tables = " OR ".join(f"EXISTS (SELECT 1 FROM {t})" for t in ("channel", "intent", "incoming", "archive"))
        (used,) = self.db.execute(f"SELECT {tables}").fetchone()
        if used:
            problem = f"the store {self.path} belongs to network {kept}, not {network_id}"
            raise ConfigError([f"store.url: {problem} (take another store, or the network_id it was made for)"])
        with self.transaction() as db:
            db.execute("UPDATE meta SET value = ? WHERE key = 'network_id'", (str(network_id),))
            db.execute("DELETE FROM meta WHERE key = 'processed'")

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file, from a connection of its own. Call it in a thread, one at a time.

        It waits for nobody and blocks nobody: what a commit appends meanwhile is left, the second time little of it.
        `restart_log` does the rest.
        """
        with failing(), closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            for _ in range(2):
                _, self._left, folded = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._left -= folded

    def restart_log(self) -> bool:
        """Fold what `checkpoint` has left, if that is little, so that the log starts again from its beginning.

        Under load it would grow for ever otherwise, and a commit that makes a file longer is slow: the file system has
        that to write down as well. Holds the loop for some milliseconds. True if all of it was folded.
        """
        if self._left > _FEW_PAGES:
            return False
        with failing():
            busy, pages, folded = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return not busy and pages == folded

    @contextmanager
    def transaction(self, *, anew: bool = False) -> Iterator[sqlite3.Connection]:
        """On disk when it ends, or nothing of it where it raises.

        Raises `StoreError`, also where another process has written to the file or a transaction before this one failed,
        unless all of it is read `anew`.
        """
        if self.in_doubt and not anew:
            raise StoreError("a transaction of the store failed, and may be on disk: it must be read again")
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                if anew:
                    self._version = self._data_version()
                if self._data_version() != self._version:
                    raise StoreError("another process has written to the store: it must be read again")
                yield self.db
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
            self.in_doubt &= not anew
        except sqlite3.Error as error:
            self.in_doubt = True
            if self.db.in_transaction:
                self.db.rollback()
            raise StoreError(f"the store failed: {error}") from error

    def _data_version(self) -> int:
        """Changes when another connection writes to the file."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Transactions in here may be lost in a crash, whole, and only together with all that follow.

        Raises `StoreError`.
        """
        self._synchronous("NORMAL")
        try:
            yield
        finally:
            self._synchronous("FULL")

    def _synchronous(self, level: str) -> None:
        with failing():
            self.db.execute(f"PRAGMA synchronous = {level}")

    def meta(self, key: str) -> str | None:
        """A fact about the store, None if it is not there."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])
