"""Who may connect and who may use which topics: password files and access lists as Mosquitto writes them.

A password file has a line `user:password` each, the password in plain text or as `mosquitto_passwd` hashes it
(`$7$iterations$salt$hash`, PBKDF2 with SHA-512). An access list has lines `user NAME`, `topic KIND FILTER` and
`pattern KIND FILTER`; KIND is read, write, readwrite (when left out) or deny, and `%u` and `%c` in a pattern stand for
user name and client id. `topic` lines before the first `user` are for those who gave no name; patterns are for all.
`deny` beats the rest; what no line allows is forbidden.
As in Mosquitto, anyone may subscribe to anything, and gets what the list lets them read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from channeld.core.errors import BadValue, ConfigError
from channeld.sandbox.broker.topics import matches, valid_filter

_KINDS: Final = frozenset({"read", "write", "readwrite", "deny"})


@dataclass(frozen=True, slots=True)
class Account:
    """A login. `secret` is a password or its `$7$` hash."""

    secret: str = field(repr=False)

    def opens(self, password: bytes) -> bool:
        """Whether this is the password; the time it takes tells nothing."""
        if not self.secret.startswith("$7$"):
            return hmac.compare_digest(self.secret.encode(), password)
        _, _, iterations, salt, digest = self.secret.split("$")
        wanted = base64.b64decode(digest)
        given = hashlib.pbkdf2_hmac("sha512", password, base64.b64decode(salt), int(iterations), len(wanted))
        return hmac.compare_digest(wanted, given)


def read_passwords(path: Path) -> dict[str, Account]:
    """Read a password file. Raises `ConfigError` naming every bad line by its number, never by what it says."""
    accounts: dict[str, Account] = {}
    problems = []
    for number, line in _lines(path):
        user, colon, secret = line.partition(":")
        if not (user and colon and secret and _usable(secret)):
            problems.append(f"{path}:{number}: not `user:password`")
        accounts[user] = Account(secret)
    if problems:
        raise ConfigError(problems)
    return accounts


def _usable(secret: str) -> bool:
    if not secret.startswith("$7$"):
        return True
    parts = secret.split("$")
    try:
        return len(parts) == 5 and int(parts[2]) > 0 and bool(base64.b64decode(parts[3]) and base64.b64decode(parts[4]))
    except (ValueError, binascii.Error):
        return False


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: `kind` is read, write, readwrite or deny."""

    kind: str
    pattern: str


@dataclass(slots=True)
class AccessList:
    """Rules of users by name (None: those without one), and patterns for all."""

    rules: dict[str | None, list[Rule]] = field(default_factory=dict)
    patterns: list[Rule] = field(default_factory=list)

    def allows(self, kind: str, topic: str, user: str | None, client_id: str) -> bool:
        """Whether this client may `read` or `write` this topic."""
        mine = [(rule.kind, rule.pattern) for rule in self.rules.get(user, ())]
        mine += [(rule.kind, filled) for rule in self.patterns if (filled := _fill(rule.pattern, user, client_id))]
        found = {rule_kind for rule_kind, pattern in mine if matches(pattern, topic)}
        return "deny" not in found and ("readwrite" in found or kind in found)


def _fill(pattern: str, user: str | None, client_id: str) -> str | None:
    """The pattern of one client, or None where its name or id would reach beyond a level of the topic."""
    for sign, value in (("%u", user), ("%c", client_id)):
        if sign in pattern:
            if not value or any(mark in value for mark in "+#/"):
                return None
            pattern = pattern.replace(sign, value)
    return pattern


def read_access_list(path: Path) -> AccessList:
    """Read an access list. Raises `ConfigError` naming every bad line."""
    access, user = AccessList(), None
    problems = []
    for number, line in _lines(path):
        word, _, rest = line.partition(" ")
        try:
            if word == "user" and rest.strip():
                user = rest.strip()
            elif word == "topic":
                access.rules.setdefault(user, []).append(_rule(rest))
            elif word == "pattern":
                access.patterns.append(_rule(rest))
            else:
                raise BadValue("line", "neither `user NAME`, `topic ...` nor `pattern ...`")
        except BadValue as error:
            problems.append(f"{path}:{number}: {error.problem}")
    if problems:
        raise ConfigError(problems)
    return access


def _rule(text: str) -> Rule:
    kind, _, pattern = text.strip().partition(" ")
    if kind not in _KINDS:
        kind, pattern = "readwrite", text
    if not valid_filter(pattern.strip()):
        raise BadValue("filter", "not a topic filter")
    return Rule(kind, pattern.strip())


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {type(error).__name__}"]) from None
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class Access:
    """Both together. No accounts: anyone may connect. No access list: all topics are everybody's."""

    accounts: Mapping[str, Account] | None = None
    acl: AccessList | None = None

    def admits(self, user: str | None, password: bytes | None) -> bool:
        """Whether this login may connect."""
        if self.accounts is None:
            return True
        account = self.accounts.get(user or "")
        return account is not None and account.opens(password or b"")

    def allows(self, kind: str, topic: str, user: str | None, client_id: str) -> bool:
        return self.acl is None or self.acl.allows(kind, topic, user, client_id)
