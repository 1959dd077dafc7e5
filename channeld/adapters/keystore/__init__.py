"""Seeds on disk: read them, write them, keep them out of sight.

A seed file holds one line, a family seed (`s...` or `sEd...`), or is an encrypted key file of our own (see `sealed`).
Either may be readable by its owner only. What is read becomes a `Seed`, which shows itself only to `reveal()`.

Sources: XRPL addresscodec (base58 with the ledger's alphabet and 4 checksum bytes; prefixes 0x21 and 0x01E14B).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final, NoReturn

from channeld.adapters.keystore import sealed
from channeld.adapters.keystore.sealed import PublicHalf
from channeld.core import base58
from channeld.core.errors import BadValue, system_reason
from channeld.durable import to_disk

__all__ = [
    "PublicHalf",
    "Seed",
    "missing",
    "new_seed",
    "parse_seed",
    "read_head",
    "read_passphrase",
    "read_secret_text",
    "read_seed",
    "require_key_type",
    "without_seeds",
    "write_private",
    "write_seed",
]

MAX_FILE_BYTES: Final = 65_536
_SEED: Final = re.compile(f"s[{base58.ALPHABET}]{{24,32}}", re.ASCII)
_FAMILY_PREFIX: Final = b"\x21"
_ED25519_PREFIX: Final = b"\x01\xe1\x4b"
_ENTROPY_BYTES: Final = 16
_SEEDS_WITHIN: Final = [re.compile(f"(?=(s[{base58.ALPHABET}]{{{more}}}))") for more in (30, 28)]
NO_FILE: Final = "a path to a file that can be read; a secret itself never stands here"
"""The remedy where no file of a secret is."""


class Seed:
    """A family seed whose checksum was verified. It never shows in a `repr`, a log, an error or a pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The seed itself. Hand it to the signer and to nothing else."""
        return self._text

    @property
    def ed25519_only(self) -> bool:
        """Whether the seed says itself that it is for ed25519 (`sEd...`)."""
        return self._text.startswith("sEd")

    def __repr__(self) -> str:
        return "Seed(redacted)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a seed is not to be copied or pickled")


def parse_seed(text: str, field: str) -> Seed:
    """Read a family seed and verify its checksum; raises `BadValue`, whose text never holds the seed."""
    if not _SEED.fullmatch(text):
        raise BadValue(field, "does not hold a family seed", "one line, s... or sEd...")
    body = base58.decode_checked(text)
    if body is None:
        raise BadValue(field, "the seed has a wrong checksum", "copy it again")
    if body[:-_ENTROPY_BYTES] not in (_FAMILY_PREFIX, _ED25519_PREFIX):
        raise BadValue(field, "does not hold a family seed", "one line, s... or sEd...")
    return Seed(text)


def without_seeds(text: str) -> str:
    """The text with `(a secret?)` in place of every family seed in it, for it was put there by mistake."""
    for pattern in _SEEDS_WITHIN:
        for found in pattern.findall(text):
            with contextlib.suppress(BadValue):
                text = text.replace(parse_seed(found, "text").reveal(), "(a secret?)")
    return text


def new_seed(key_type: str) -> Seed:
    """Make a seed from the system's randomness: `sEd...` for ed25519, `s...` for secp256k1."""
    prefix = _ED25519_PREFIX if key_type == "ed25519" else _FAMILY_PREFIX
    return Seed(base58.encode_checked(prefix + secrets.token_bytes(_ENTROPY_BYTES)))


def read_seed(
    path: Path, passphrase: bytes | None, field: str, *, guarded: bool = False, plain_too: bool = False
) -> Seed:
    """Read a seed file of either kind.

    `passphrase` opens an encrypted one and must be None for a plain one, so that a forgotten encryption shows, except
    with `plain_too`.
    `guarded` says that the folder itself is guarded (systemd credentials), so the file's mode is not looked at.
    Raises `BadValue` naming `field` for everything that is wrong with the file; nothing of its contents is quoted.
    """
    text = read_secret_text(path, field, private=not guarded)
    if sealed.is_sealed(text):
        if passphrase is None:
            raise BadValue(field, f"{path} is encrypted", "name its passphrase file")
        return parse_seed(sealed.unseal(text, passphrase, field), field)
    if passphrase is not None and not plain_too:
        raise BadValue(
            field, f"{path} is not encrypted, but a passphrase file is named", "encrypt it with `keys import`"
        )
    return parse_seed(text.strip(" \t\r\n"), field)


def read_head(path: Path, field: str) -> sealed.Head | None:
    """The clear part of an encrypted key file, None for a plain seed file. Raises `BadValue` as `read_seed` does."""
    text = read_secret_text(path, field, private=True)
    return sealed.read_head(text, field) if sealed.is_sealed(text) else None


def read_passphrase(path: Path, field: str) -> bytes:
    """Read a passphrase file: its text without the last line end. Its owner only may be able to read it."""
    return read_secret_text(path, field, private=True).removesuffix("\n").removesuffix("\r").encode()


def write_seed(path: Path, seed: Seed, passphrase: bytes | None, public: PublicHalf, field: str) -> None:
    """Write a new seed file: encrypted under `passphrase`, or plain where it is None. `public` must be this seed's."""
    text = seed.reveal() + "\n" if passphrase is None else sealed.seal(seed.reveal(), passphrase, public)
    write_private(path, text, field)


def require_key_type(seed: Seed, key_type: str, field: str) -> None:
    """Refuse an `sEd...` seed for secp256k1: other libraries would make another account of it."""
    if seed.ed25519_only and key_type != "ed25519":
        raise BadValue(field, "an sEd... seed is for ed25519 only", 'set the key type to "ed25519"')


def read_secret_text(path: Path, field: str, *, private: bool) -> str:
    """Read a small text file that holds a secret: at most 64 KiB of UTF-8, not empty.

    With `private` a file that its group or others can reach is refused, with the command that puts it right.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise BadValue(field, _unread(path, error), NO_FILE) from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise BadValue(field, f"{path} is not a plain file", "name a file")
        if private and mode & 0o077:
            raise BadValue(field, f"{path} is open to others than its owner", f"chmod 600 {path}")
        return _as_text(_read_bounded(fd), path, field)
    except OSError as error:
        raise BadValue(field, _unread(path, error), NO_FILE) from None
    finally:
        os.close(fd)


def _read_bounded(fd: int) -> bytes:
    """A file's bytes, at most one more than it may have."""
    data = b""
    while len(data) <= MAX_FILE_BYTES and (chunk := os.read(fd, MAX_FILE_BYTES + 1 - len(data))):
        data += chunk
    return data


def write_private(path: Path, text: str, field: str) -> None:
    """Write a new file that only its owner can read (0600) and make it durable. An existing file is never touched."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:
        raise BadValue(field, f"{path} exists", "a key file is never overwritten: name another") from None
    except (OSError, ValueError) as error:
        raise BadValue(field, _why(path, error), "name a place that can be written to") from None
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, 0o600)
        file.write(text)
        file.flush()
        os.fsync(fd)
    to_disk(path.parent)


def _as_text(data: bytes, path: Path, field: str) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise BadValue(field, f"{path} is larger than 64 KiB", "name the right file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadValue(field, f"{path} is not UTF-8 text", "name the right file") from None
    if not text.strip():
        raise BadValue(field, f"{path} is empty", "put the secret into it")
    return text


def _why(path: Path, error: Exception) -> str:
    """Say why a file cannot be used, without Python's own wording of the error."""
    return f"{path}: {system_reason(error)}"


def _unread(path: Path, error: Exception) -> str:
    """The same of a file with a secret: by its path only where there is one."""
    return _why(path, error) if os.path.lexists(path) else missing(path, system_reason(error))


def missing(path: Path, reason: str = "no such file or directory") -> str:
    """Say that a secret's file is not there, by the folders that are: the rest of the path may be the secret itself."""
    folder = next((folder for folder in path.parents if os.path.isdir(folder)), Path("/"))  # noqa: PTH112 (must not raise)
    return f"names no file below {folder}: {reason}"
