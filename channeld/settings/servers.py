"""Content servers and their payees: from `[servers.*]` tables, and from CSV files where they are many.

`payees_file` has the columns `payee,pool,tier,region` (the last three may be empty or left out: then
the server's count). `servers_file` has `server` and any keys of a `[servers.ID]` table as columns; a cell with several
payees or accounts separates them by spaces, an empty cell means the default.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from channeld.core.errors import BadValue, system_reason
from channeld.core.limits import Limit
from channeld.settings.fields import Context, name, resolve
from channeld.settings.lines import Path as Key
from channeld.settings.lines import line_of
from channeld.settings.problems import Problems, did_you_mean
from channeld.settings.sections import ServerTable
from channeld.settings.stamps import Stamp, stamp
from channeld.settings.values import PayeeEntry, Place, ServerSettings
from channeld.wire.payee import parse_payee

MAX_CSV_BYTES: Final = 256 * 2**20
_PAYEE_COLUMNS: Final = ("payee", "pool", "tier", "region")
_LIST_COLUMNS: Final = frozenset({"payees", "receive_accounts"})
_COUNT_COLUMNS: Final = frozenset({"max_open_channels", "max_requests_per_s", "max_in_flight"})


class ServerReader:
    """Reads servers one by one and notes what is wrong. Without a `network_id`, X-addresses cannot be judged.

    The CSV files that it looks at are put into `files` before that; `named` is as in `Settings`.
    """

    def __init__(
        self, problems: Problems, context: Context, network_id: int | None, files: MutableMapping[Path, Stamp]
    ) -> None:
        self._problems, self._context, self._network_id, self._files = problems, context, network_id, files
        self.servers: dict[str, ServerSettings] = {}
        self.named: dict[tuple[str, str, str], Place] = {}

    def table(
        self, server: str, data: object, *, context: Context | None = None, row: tuple[Path, int] | None = None
    ) -> None:
        """Read one server's table; `row` is its place where it came from a CSV file."""
        key: Key = ("servers", server)
        try:
            name(server)
            if server in self.servers:
                raise BadValue("server", "listed twice", "one table or one row a server")
        except BadValue as error:
            self._add(key, error, row)
            return
        if isinstance(data, dict) and not {"payees", "payees_file"} & data.keys():
            self._add((*key, "payees"), BadValue("payees", "is missing", "list payees, or name a payees_file"), row)
        table = self._validated(key, data, context or self._context, row)
        if table is not None:
            self.servers[server] = self._server(key, server, table, row)

    def _validated(self, key: Key, data: object, context: Context, row: tuple[Path, int] | None) -> ServerTable | None:
        """The table; of one with bad keys what the others say, so that their payees are looked at, too."""
        try:
            return ServerTable.model_validate(data, context=context)
        except ValidationError as error:
            self._invalid(key, error, row)
            bad = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
        if not bad or not isinstance(data, dict):
            return None
        return ServerTable.model_validate({k: v for k, v in data.items() if k not in bad}, context=context)

    def file(self, path: Path, at: Key) -> None:
        """Read a CSV file of servers, which the key `at` names. Paths in it are relative to it."""
        known = ("server", *ServerTable.model_fields)
        context = Context(path.parent, self._context.credentials)
        for line, cells in self._rows(at, path, "server", known):
            server = cells.pop("server")
            data: dict[str, Any] = {k: v.split() if k in _LIST_COLUMNS else v for k, v in cells.items() if v}
            for key in _COUNT_COLUMNS & data.keys():
                if data[key].isascii() and data[key].isdigit() and len(data[key]) < 10:
                    data[key] = int(data[key])
            self.table(server, data, context=context, row=(path, line))

    def _server(self, key: Key, server: str, table: ServerTable, row: tuple[Path, int] | None) -> ServerSettings:
        payees: dict[str, PayeeEntry] = {}
        self._note(server, key, (table.pool, table.tier), row)
        for n, text in enumerate(table.payees or []):
            self._payee(payees, (*key, "payees", n), PayeeCells(text, table.pool, table.tier, table.region), row)
        if table.payees_file is not None:
            for line, cells in self._rows((*key, "payees_file"), table.payees_file, "payee", _PAYEE_COLUMNS):
                pool, tier = cells.get("pool") or table.pool, cells.get("tier") or table.tier
                entry = PayeeCells(cells["payee"], pool, tier, cells.get("region") or table.region)
                self._note(server, (*key, "payees_file"), (pool, tier), (table.payees_file, line))
                self._payee(payees, (*key, "payees_file"), entry, (table.payees_file, line))
        return ServerSettings(
            id=server,
            pool=table.pool,
            payees=tuple(payees.values()),
            receive_accounts=tuple(dict.fromkeys(table.receive_accounts)),
            max_drops_per_day=table.max_drops_per_day,
            max_locked_drops=table.max_locked,
            max_open_channels=table.max_open_channels,
            limit=Limit(table.max_requests_per_s, table.max_in_flight),
        )

    def _note(self, server: str, key: Key, names: tuple[str | None, str | None], row: tuple[Path, int] | None) -> None:
        """Where a server first names this pool and this tier."""
        for kind, text in zip(("pool", "tier"), names, strict=True):
            if text and (server, kind, text) not in self.named:
                at = (*key, kind)
                place = row or (self._problems.file, line_of(self._problems.lines, at))
                self.named[server, kind, text] = Place(at, *place)

    def _payee(self, payees: dict[str, PayeeEntry], key: Key, cells: PayeeCells, row: tuple[Path, int] | None) -> None:
        """Add one payee, unless it is unreadable or already there."""
        if self._network_id is None and cells.text[:1] in {"X", "T"}:
            return
        try:
            payee = parse_payee(cells.text, "payee", self._network_id or 0)
            entry = PayeeEntry(payee, name(cells.pool), _label(cells.tier), _label(cells.region))
            if str(payee) in payees:
                raise BadValue("payee", "listed twice", "one entry a payee")
        except BadValue as error:
            self._add(key, error, row)
        else:
            payees[str(payee)] = entry

    def _rows(self, key: Key, path: Path, first: str, known: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
        """The rows of a CSV file with a header, each with its line; what is wrong with it becomes a problem."""
        self._files[path] = stamp(path)
        try:
            text = _read_csv(path)
            reader = csv.reader(text.splitlines(), strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if first not in header or len(set(header)) != len(header):
                self._problems.add(
                    key, f"the header needs a column {first}, and no column twice", ",".join(known), file=path
                )
                return
            if unknown := [cell for cell in header if cell not in known]:
                self._problems.add(
                    key, "unknown column in the header", did_you_mean(unknown[0], known), file=path, line=1
                )
                return
            for row in reader:
                if row and len(row) <= len(header):
                    yield reader.line_num, dict(zip(header, [cell.strip() for cell in row], strict=False))
                elif row:
                    self._problems.add(key, "more cells than columns", file=path, line=reader.line_num)
        except BadValue as error:
            self._problems.add_bad_value(key, error)
        except csv.Error:
            self._problems.add(key, "not CSV", "cells separated by commas", file=path)

    def _add(self, key: Key, error: BadValue, row: tuple[Path, int] | None) -> None:
        file, line = row or (None, None)
        self._problems.add_bad_value(key, error, file=file, line=line)

    def _invalid(self, key: Key, error: ValidationError, row: tuple[Path, int] | None) -> None:
        place = Problems(self._problems.file, self._problems.lines) if row is None else Problems(row[0], {key: row[1]})
        place.add_validation(key, error, ServerTable)
        self._problems.found.extend(place.found)


class PayeeCells:
    """A payee as written, before it is parsed; empty labels are None."""

    __slots__ = ("pool", "region", "text", "tier")

    def __init__(self, text: str, pool: str, tier: str | None = None, region: str | None = None) -> None:
        self.text, self.pool, self.tier, self.region = text, pool, tier or None, region or None


def read_servers(
    tables: Mapping[str, object], servers_file: str | None, reader: ServerReader, problems: Problems
) -> Mapping[str, ServerSettings]:
    """All servers. `servers_file` may stand at the top level or, as it reads most naturally, inside `[servers]`."""
    at: Key = ("servers_file",)
    for server, data in tables.items():
        if server == "servers_file" and isinstance(data, str):
            if servers_file is not None:
                problems.add(("servers", server), "named twice", "at the top level or in [servers]")
            servers_file, at = data, ("servers", server)
        else:
            reader.table(server, data)
    if servers_file is not None:
        try:
            reader.file(resolve(servers_file, problems.file.parent), at)
        except BadValue as error:
            problems.add_bad_value(at, error)
    return reader.servers


def _label(text: str | None) -> str | None:
    return None if text is None else name(text)


def _read_csv(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CSV_BYTES + 1)
        if len(raw) > MAX_CSV_BYTES:
            raise BadValue("file", f"{path} is larger than {MAX_CSV_BYTES >> 20} MiB", "split it")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadValue("file", f"{path} is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise BadValue("file", f"{path}: {system_reason(error)}", "name a CSV file") from None
