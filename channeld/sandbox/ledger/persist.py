"""The node's state in a file: one JSON document, written beside and moved into place, so that it is always whole.

Saved are the newest ledger's objects, all headers and all transactions with their metadata, and what is under way (open
ledger, queue, kept). Not saved are the objects of earlier ledgers: after loading, queries about objects reach back to
the saved ledger only, while account_tx and tx know everything. Several nodes may be started from one file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from channeld.core.errors import ConfigError
from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.genesis import singletons
from channeld.sandbox.ledger.headers import Header
from channeld.sandbox.ledger.history import Record
from channeld.sandbox.ledger.node import Node
from channeld.sandbox.ledger.queue import Candidate, fee_level

FORMAT: Final = "channeld sandbox ledger"
VERSION: Final = 1
_CHUNK: Final = 200
"""Items encoded between two chances for other tasks to run: a few milliseconds."""


def _tx(tx: Transaction) -> dict[str, Any]:
    return {"blob": tx.blob.hex().upper(), "hash": tx.hash, "json": tx.json}


def _read_tx(saved: dict[str, Any]) -> Transaction:
    return Transaction(bytes.fromhex(saved["blob"]), saved["hash"], saved["json"])


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """References to everything worth saving; the objects themselves never change, so taking one is cheap."""

    head: dict[str, Any]
    headers: list[Header]
    objects: list[tuple[str, dict[str, Any]]]
    records: list[Record]

    def pieces(self) -> Iterator[str]:
        """The document in pieces, each quick to make."""
        yield json.dumps(self.head)[:-1]
        yield from self._list("headers", [dataclasses.astuple(header) for header in self.headers])
        yield from self._list("objects", self.objects)
        yield from self._list("transactions", [(record.result, record) for record in self.records])
        yield "}\n"

    def _list(self, name: str, items: list[Any]) -> Iterator[str]:
        yield f', "{name}": ['
        for start in range(0, len(items), _CHUNK):
            part = [_plain(item) for item in items[start : start + _CHUNK]]
            yield ("," if start else "") + json.dumps(part)[1:-1]
        yield "]"


def _plain(item: Any) -> Any:
    if isinstance(item[-1], Record):
        record = item[-1]
        place = [record.ledger_index, record.place, record.close_time]
        return {**_tx(record.tx), "result": record.result, "meta": record.meta, "at": place}
    return item


def snapshot(node: Node) -> Snapshot:
    """What there is to save now."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "network_id": node.settings.network_id,
        "open": [_tx(tx) for tx in node.open.transactions.values()],
        "kept": [_tx(tx) for tx in node.kept.all()],
        "queue": [[_tx(candidate.tx), candidate.not_before] for candidate in node.queue.candidates()],
    }
    return Snapshot(head, list(node.headers.values()), list(node.state.objects()), list(node.history.all()))


def _draft(path: Path, node: Node) -> Path:
    """Where the new file grows: no two nodes share it, in this process or another."""
    return path.with_name(f".{path.name}.{os.getpid()}-{id(node):x}.new")


def _finish(handle: TextIO, draft: Path, path: Path) -> None:
    handle.flush()
    os.fsync(handle.fileno())
    handle.close()
    draft.replace(path)


def save(node: Node, path: Path) -> None:
    """Write the state at once."""
    draft = _draft(path, node)
    handle = draft.open("w", encoding="utf-8")
    for piece in snapshot(node).pieces():
        handle.write(piece)
    _finish(handle, draft, path)


async def save_gently(node: Node, path: Path) -> None:
    """Write the state as of now, letting other tasks run between pieces."""
    draft, pieces = _draft(path, node), snapshot(node).pieces()
    handle = _open(draft)
    try:
        for piece in pieces:
            handle.write(piece)
            await asyncio.sleep(0)
        await asyncio.to_thread(_finish, handle, draft, path)
    except asyncio.CancelledError:
        handle.close()
        draft.unlink(missing_ok=True)
        raise


def _open(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8")


def load(node: Node, path: Path) -> None:
    """Fill a fresh node from a file. Raises `ConfigError` that says what is wrong with it; nothing is half-loaded then,
    as the node is to be thrown away.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: can not be read as a saved ledger: {error}"]) from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ConfigError([f"{path}: no saved ledger (its format is not {FORMAT!r})"])
    if saved.get("version") != VERSION:
        raise ConfigError([f"{path}: saved by another version ({saved.get('version')!r}, wanted {VERSION})"])
    if saved.get("network_id") != node.settings.network_id:
        raise ConfigError([f"{path}: of network {saved.get('network_id')}, not {node.settings.network_id}"])
    try:
        _fill(node, saved)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError([f"{path}: damaged: {type(error).__name__}: {error}"]) from error
    if problem := _inconsistency(node):
        raise ConfigError([f"{path}: damaged: {problem}"])
    _resume(node, saved)


def _fill(node: Node, saved: dict[str, Any]) -> None:
    for values in saved["headers"]:
        header = Header(*values)
        node.headers[header.index] = header
        node.by_hash[header.hash] = header.index
    newest = max(node.headers)
    objects = {str(key): dict(fields) for key, fields in saved["objects"]}
    node.state.commit(newest, {**objects, **singletons(node.rules, node.settings.fees)})
    records = []
    for entry in saved["transactions"]:
        index, place, close_time = entry["at"]
        records.append(Record(_read_tx(entry), entry["result"], entry["meta"], index, place, close_time))
    node.history.add(records)


def _inconsistency(node: Node) -> str | None:
    """What in the loaded state contradicts itself: the chain of headers, or the sum of all drops."""
    headers = list(node.headers.values())
    for parent, child in itertools.pairwise(headers):
        if child.parent_hash != parent.hash or child.index != parent.index + 1:
            return f"ledger {child.index} does not follow {parent.index}"
    total = sum(_drops(fields) for _, fields in node.state.objects())
    if total != headers[-1].total_coins:
        return f"{total} drops in objects, {headers[-1].total_coins} in the header"
    if node.state.read(keylets.FEE_SETTINGS) is None:
        return "no FeeSettings object"
    return None


def _drops(fields: dict[str, Any]) -> int:
    if fields["LedgerEntryType"] == "PayChannel":
        return int(fields["Amount"]) - int(fields["Balance"])
    return int(fields["Balance"]) if fields["LedgerEntryType"] == "AccountRoot" else 0


def _resume(node: Node, saved: dict[str, Any]) -> None:
    """Take up what was under way."""
    for entry, not_before in saved.get("queue", []):
        tx = _read_tx(entry)
        node.queue.add(Candidate(tx, fee_level(tx.fee, node.settings.fees.base), not_before))
    node.open_next([_read_tx(entry) for entry in saved.get("open", [])])
    for entry in saved.get("kept", []):
        node.history.note(tx := _read_tx(entry))
        node.kept.add(tx, node.open.index)
