"""`channeld keys ...`: make and hold keys.

A seed is never printed unless asked for by name, and never read from the arguments, which others can see.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from channeld.cli.common import JsonOption, print_answer
from channeld.core.errors import BadValue

if TYPE_CHECKING:
    from channeld.adapters.keystore import Seed
    from channeld.adapters.signer import KeyPair


class KeyType(StrEnum):
    """The two kinds of keys that the ledger knows."""

    ED25519 = "ed25519"
    SECP256K1 = "secp256k1"


OutOption = Annotated[Path, typer.Option("--out", help="The file to make; an existing one is never touched.")]
TypeOption = Annotated[KeyType, typer.Option("--key-type", help="The same seed gives another account with the other.")]
EncryptOption = Annotated[
    bool, typer.Option("--encrypt/--plain", help="An encrypted key file, or one line for its owner's eyes only.")
]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="Where the passphrase stands; else it is asked for.")
]
_MAX_SEED_TEXT: Final = 1024


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(help="Make and hold keys.", no_args_is_help=True, rich_markup_mode=None)
    family.command("new")(new)
    family.command("show")(show)
    family.command("import")(import_)
    app.add_typer(family, name="keys")


def new(
    out: OutOption,
    key_type: TypeOption = KeyType.ED25519,
    encrypt: EncryptOption = True,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print its address and public key."""
    from channeld.adapters.keystore import new_seed

    _store(new_seed(key_type.value), key_type, out, encrypt=encrypt, passphrase_file=passphrase_file, json=json)


def import_(
    out: OutOption,
    key_type: TypeOption = KeyType.ED25519,
    encrypt: EncryptOption = True,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Read a family seed from stdin, or ask for it, and keep it in a new file."""
    from channeld.adapters.keystore import parse_seed

    asked = sys.stdin.isatty()
    text = typer.prompt("Family seed", hide_input=True, err=True) if asked else sys.stdin.read(_MAX_SEED_TEXT)
    seed = parse_seed(text.strip(), "seed")
    _store(seed, key_type, out, encrypt=encrypt, passphrase_file=passphrase_file, json=json)


def show(
    file: Annotated[Path, typer.Argument(help="A seed file or encrypted key file.")],
    key_type: Annotated[
        KeyType | None, typer.Option("--key-type", help="For a plain seed file, which does not say it (s...).")
    ] = None,
    reveal_seed: Annotated[bool, typer.Option("--reveal-seed", help="Print the seed, too.")] = False,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Print a key's address and public key; of an encrypted file the passphrase is needed for --reveal-seed only."""
    from channeld.adapters import keystore

    head = keystore.read_head(file, "file")
    if head is not None and not reveal_seed:
        facts = {"address": head.address, "public_key": head.public_key, "key_type": head.key_type, "encrypted": True}
        print_answer("key", facts, json=json)
        return
    passphrase = _passphrase(passphrase_file, confirm=False) if head is not None else None
    seed = keystore.read_seed(file, passphrase, "file")
    pair = _derive(seed, KeyType(head.key_type) if head is not None else _plain_type(seed, key_type))
    revealed = {"seed": seed.reveal()} if reveal_seed else {}
    print_answer("key", _facts(pair, encrypted=head is not None) | revealed, json=json)


def _plain_type(seed: Seed, asked: KeyType | None) -> KeyType:
    """The key type of a plain seed: what was asked for, else what the seed says itself."""
    if asked is None and not seed.ed25519_only:
        raise BadValue("--key-type", "is needed: an s... seed gives another account with each", "ed25519 or secp256k1")
    return asked or KeyType.ED25519


def _store(
    seed: Seed, key_type: KeyType, out: Path, *, encrypt: bool, passphrase_file: Path | None, json: bool
) -> None:
    """Derive, write, print. Nothing is written for a seed that does not go with the key type."""
    from channeld.adapters import keystore

    if passphrase_file is not None and not encrypt:
        raise BadValue("--passphrase-file", "a plain file has no passphrase", "leave out one of the two")
    pair = _derive(seed, key_type)
    passphrase = _passphrase(passphrase_file, confirm=True) if encrypt else None
    public = keystore.PublicHalf(pair.key_type, pair.public_key, pair.address)
    keystore.write_seed(out, seed, passphrase, public, "--out")
    print_answer("key", _facts(pair, encrypted=encrypt) | {"file": str(out)}, json=json)


def _derive(seed: Seed, key_type: KeyType) -> KeyPair:
    from channeld.adapters.keystore import require_key_type
    from channeld.adapters.signer import derive

    require_key_type(seed, key_type.value, "--key-type")
    return derive(seed.reveal(), key_type.value)


def _passphrase(file: Path | None, *, confirm: bool) -> bytes:
    """A passphrase from its file, else asked for where there is somebody to ask."""
    from channeld.adapters.keystore import read_passphrase

    if file is not None:
        return read_passphrase(file, "--passphrase-file")
    if not sys.stdin.isatty():
        raise BadValue(
            "--passphrase-file", "is needed: nobody can be asked here", "or --plain for a file that is not encrypted"
        )
    text: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return text.encode()


def _facts(pair: KeyPair, *, encrypted: bool) -> dict[str, object]:
    return {"address": pair.address, "public_key": pair.public_key, "key_type": pair.key_type, "encrypted": encrypted}
