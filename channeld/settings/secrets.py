"""Read the secrets that the configuration names: passwords, tokens, passphrases and seeds.

Seeds and passphrases may be readable by their owner only. A password or token may be readable by a group or more, as
container platforms mount them. A file below `$CREDENTIALS_DIRECTORY` is guarded by systemd, so its mode is not looked
at.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretBytes, ValidationError

from channeld.adapters.keystore import Seed, read_secret_text, read_seed, require_key_type
from channeld.core.errors import BadValue
from channeld.settings.fields import Context, find_secret
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems
from channeld.settings.sections import WalletTable


class SecretReader:
    """Reads secret files and notes what is wrong with them; with `enabled` False it opens none and gives None."""

    def __init__(self, problems: Problems, context: Context, *, enabled: bool) -> None:
        self._problems, self._context, self._enabled = problems, context, enabled

    def password(self, key: Key, path: Path | None, from_environment: bytes | None) -> SecretBytes | None:
        """A password or token: one from the environment wins over a file. Its last line end is not part of it."""
        if not self._enabled:
            return None
        if from_environment is not None:
            return self._bounded(key, from_environment)
        if path is None:
            return None
        text = self._text(key, path, private=False)
        return None if text is None else self._bounded(key, text.encode())

    def seeds(self, key: Key, table: WalletTable) -> tuple[Seed | None, Seed | None, tuple[Seed, ...]]:
        """A wallet's seed, claim seed and retired claim seeds."""
        if not self._enabled:
            return None, None, ()
        passphrase = self._passphrase((*key, "passphrase_file"), table.passphrase_file)
        claim_passphrase = self._passphrase((*key, "claim_passphrase_file"), table.claim_passphrase_file)
        seed = self._seed((*key, "seed_file"), table.seed_file, passphrase, table.key_type)
        claim_seed = None
        if table.claim_seed_file and table.claim_key_type:
            place = (*key, "claim_seed_file")
            claim_seed = self._seed(place, table.claim_seed_file, claim_passphrase, table.claim_key_type)
        retired = [
            self._seed((*key, "retired_claim_seed_files", n), file, claim_passphrase, None)
            for n, file in enumerate(table.retired_claim_seed_files)
        ]
        return seed, claim_seed, tuple(s for s in retired if s is not None)

    def look_at_seeds(self, key: Key, data: object, error: ValidationError) -> None:
        """Say what is wrong with the seed files of a wallet whose table has other faults."""
        bad = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
        if not self._enabled or not isinstance(data, dict):
            return
        for name in ("seed_file", "claim_seed_file"):
            if name in data and name not in bad:
                path = find_secret(data[name], self._context)
                try:
                    read_secret_text(path, name, private=not self._guarded(path))
                except BadValue as problem:
                    self._problems.add_bad_value((*key, name), problem)

    def _seed(self, key: Key, path: Path, passphrase: bytes | None, key_type: str | None) -> Seed | None:
        """One seed; a retired one (`key_type` None) may be from a time before seeds were encrypted."""
        field, guarded = str(key[-1]), self._guarded(path)
        try:
            seed = read_seed(path, passphrase, field, guarded=guarded, plain_too=key_type is None)
            if key_type is not None:
                require_key_type(seed, key_type, field)
        except BadValue as error:
            self._problems.add_bad_value(key, error)
            return None
        return seed

    def _passphrase(self, key: Key, path: Path | None) -> bytes | None:
        text = self._text(key, path, private=True) if path is not None else None
        return None if text is None else text.encode()

    def _text(self, key: Key, path: Path, *, private: bool) -> str | None:
        try:
            return _strip_line_end(read_secret_text(path, str(key[-1]), private=private and not self._guarded(path)))
        except BadValue as error:
            self._problems.add_bad_value(key, error)
            return None

    def _bounded(self, key: Key, secret: bytes) -> SecretBytes | None:
        if not 1 <= len(secret) <= 1024 or b"\0" in secret:
            self._problems.add(key, "not a usable secret", "1 to 1024 bytes, no NUL")
            return None
        return SecretBytes(secret)

    def _guarded(self, path: Path) -> bool:
        folder = self._context.credentials
        return folder is not None and path.parent == folder


def _strip_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
