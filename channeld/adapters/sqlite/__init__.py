"""The store in a SQLite file: one writer in this process, any number of readers in others.

The writer is plain `sqlite3`, synchronous, in the event loop: between reading, deciding and writing nothing else can
happen, and a group of requests costs one fsync. Readers (the command line, and what the daemon answers operators and
queries) have connections of their own and never wait for it.
"""

from channeld.adapters.sqlite.request_log import BATCH
from channeld.adapters.sqlite.writer import SqliteStore

__all__ = ["BATCH", "SqliteStore"]
