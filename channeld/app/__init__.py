"""Wires the daemon: the only room that knows every adapter."""

from channeld.app.reports import read_store
from channeld.app.run import run

__all__ = ["read_store", "run"]
