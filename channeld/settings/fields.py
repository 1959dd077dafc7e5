"""The types of single fields of `channeld.toml`: each parses and bounds one kind of value.

Relative paths and secret files need to know where the file stands, and the ledger's network decides which X-addresses
fit: that comes in pydantic's validation context, a `Context`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo

from channeld.adapters.keystore import without_seeds
from channeld.core.errors import BadValue
from channeld.core.units import DAY_S, HOUR_S, MAX_UINT32, Address, Drops, Seconds, parse_duration, parse_money
from channeld.core.vocabulary import TEN_YEARS_S, YEAR_S
from channeld.wire.payee import parse_address

MAX_PATH: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Context:
    """Where a file's relative paths start, and systemd's folder of credentials if there is one."""

    base: Path
    credentials: Path | None


def _context(info: ValidationInfo) -> Context:
    return cast(Context, info.context)


def name(text: str) -> str:
    """A name that may stand in a topic, a metric label and a file name."""
    if not _NAME.fullmatch(text):
        raise BadValue("name", "not a name", "1 to 64 of A-Z a-z 0-9 _ -")
    if without_seeds(text) != text:
        raise BadValue("name", "holds a family seed", "a secret never stands here: it is in a file of its own")
    return text


def _path(text: object, info: ValidationInfo) -> Path:
    return resolve(text, _context(info).base)


def resolve(text: object, base: Path) -> Path:
    """An absolute path; a relative one is relative to `base`, the folder of the file that names it."""
    if not isinstance(text, str) or not text or len(text) > MAX_PATH or "\0" in text:
        raise BadValue("path", "not a path", "a file's path, relative to this file or absolute")
    return Path(os.path.normpath(base / text))


def _secret_path(text: object, info: ValidationInfo) -> Path:
    return find_secret(text, _context(info))


def find_secret(text: object, context: Context) -> Path:
    """A secret's file: as named, or, where a relative one is not there, the systemd credential of its last name."""
    path = resolve(text, context.base)
    if context.credentials is None or Path(str(text)).is_absolute() or os.path.isfile(path):  # noqa: PTH113 (must not raise)
        return path
    credential = context.credentials / path.name
    return credential if os.path.isfile(credential) else path  # noqa: PTH113


def _duration(least: int, most: int, remedy: str) -> BeforeValidator:
    """Reads a length of time of `least` to `most` seconds."""

    def read(text: object) -> Seconds:
        seconds = parse_duration(text, "duration")
        if not least <= seconds <= most:
            raise BadValue("duration", "out of bounds", remedy)
        return seconds

    return BeforeValidator(read)


def _count(least: int, most: int, remedy: str = "") -> AfterValidator:
    """Bounds a number: `least` to `most`, and `remedy` behind them."""

    def check(number: int) -> int:
        if not least <= number <= most:
            raise BadValue("number", "out of bounds", f"{least} to {most}{remedy}")
        return number

    return AfterValidator(check)


def _session(text: object) -> Seconds:
    seconds = parse_duration(text, "duration")
    if seconds < 1:
        raise BadValue("duration", "no time at all", "1s or more")
    return seconds


def _positive_money(text: object) -> Drops:
    drops = parse_money(text, "money")
    if drops == 0:
        raise BadValue(
            "money", "a cap of nothing", "more than 0; a cap cannot be switched off, a server can be left out"
        )
    return drops


def split_url(text: str, schemes: frozenset[str], remedy: str) -> SplitResult:
    """Take a URL apart. Raises `BadValue` for a strange scheme, a bad port, and anything that could be a password."""
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise BadValue("url", "not a URL", remedy) from None
    if port == 0:
        raise BadValue("url", "port 0, on which nobody can be reached", "a port of 1 to 65535, or none for the usual")
    if "@" in url.netloc:
        raise BadValue("url", "a login in a URL", "secrets come from files: take it out")
    if not text.isascii() or not text.isprintable() or " " in text or url.scheme not in schemes or not host:
        raise BadValue("url", "not a URL of a kind known here", remedy)
    return url


def _endpoint(text: str) -> str:
    url = split_url(text, frozenset({"ws", "wss"}), "ws://host:port or wss://host")
    if url.fragment:
        raise BadValue("url", "a URL with a fragment", "take out the part after #")
    return text


def _listen(text: object) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65_535:
        raise BadValue("listen", "not host:port", 'such as "127.0.0.1:9464" or "[::1]:9464"')
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", bare, re.ASCII) or (":" in bare and bare == host):
        raise BadValue("listen", "not a host to listen on", 'such as "127.0.0.1:9464" or "[::1]:9464"')
    return bare, int(port)


def _topic_prefix(text: str) -> str:
    levels = text.split("/")
    bad = "" in levels or any(c in text for c in "+#\0") or text.startswith("$") or len(text.encode()) > 256
    if bad or not text.isprintable():
        raise BadValue(
            "topic", "not a topic prefix", "levels without wildcards, none empty, no leading $, at most 256 bytes"
        )
    return text


def _username(text: str) -> str:
    if not text or len(text.encode()) > 256 or not text.isprintable():
        raise BadValue("username", "not a user name", "1 to 256 printable characters")
    return text


def _address(text: object) -> Address:
    return parse_address(text, "address")


_Text = Annotated[str, StringConstraints(max_length=MAX_PATH)]

Name = Annotated[str, AfterValidator(name)]
FilePath = Annotated[Path, BeforeValidator(_path)]
SecretPath = Annotated[Path, BeforeValidator(_secret_path)]
RememberFor = Annotated[
    Seconds, _duration(DAY_S, YEAR_S, "at least 24h, which servers are promised, and at most a year")
]
HistoryAge = Annotated[Seconds, _duration(HOUR_S, TEN_YEARS_S, "1h to ten years")]
KeepClosed = Annotated[Seconds, _duration(DAY_S + 1, TEN_YEARS_S, "more than 24h, and at most ten years")]
HistoryEntries = Annotated[int, _count(1000, 1_000_000_000, " answers, each of about 1 KB on disk")]
SessionTime = Annotated[Seconds, BeforeValidator(_session)]
Money = Annotated[Drops, BeforeValidator(_positive_money)]
Count = Annotated[int, _count(1, 1_000_000, "; a cap cannot be switched off")]
Ids = Annotated[int, _count(1000, 1_000_000_000, " ids, each of which takes some 90 bytes of disk")]
Waiting = Annotated[int, _count(1, 30_000, " requests, each of which may hold a KiB of memory")]
Uint32 = Annotated[int, _count(0, MAX_UINT32)]
Endpoint = Annotated[_Text, AfterValidator(_endpoint)]
Listen = Annotated[tuple[str, int], BeforeValidator(_listen)]
TopicPrefix = Annotated[_Text, AfterValidator(_topic_prefix)]
UserName = Annotated[_Text, AfterValidator(_username)]
AccountAddress = Annotated[Address, BeforeValidator(_address)]
