"""Seeds on disk: read strictly, written once, sealed under a passphrase, and never shown."""

from __future__ import annotations

import contextlib
import json
import pickle
import stat
from pathlib import Path

import pytest
from configs import ED_SEED, SECP_SEED
from hypothesis import given
from hypothesis import strategies as st
from xrpl.constants import CryptoAlgorithm
from xrpl.core.addresscodec import decode_seed, encode_seed

from channeld.adapters import keystore
from channeld.adapters.keystore import PublicHalf, Seed, parse_seed, sealed
from channeld.core.errors import BadValue

PUBLIC = PublicHalf("ed25519", "ED" + "0" * 64, "rExample")
PASSPHRASE = b"correct horse"


def seal(seed: str = ED_SEED) -> str:
    """A key file that is cheap to open."""
    return sealed.seal(seed, PASSPHRASE, PUBLIC, cost_log2=4)


@given(st.binary(min_size=16, max_size=16), st.sampled_from(list(CryptoAlgorithm)))
def test_seeds_of_the_ledgers_own_codec_are_read(entropy: bytes, algorithm: CryptoAlgorithm) -> None:
    """Whatever it writes, this reads."""
    text = encode_seed(entropy, algorithm)
    assert parse_seed(text, "f").reveal() == text


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
def test_new_seeds_are_read_by_the_ledgers_own_codec(key_type: str) -> None:
    """Two are never the same, and each says what it is."""
    one, two = keystore.new_seed(key_type), keystore.new_seed(key_type)
    assert one.reveal() != two.reveal()
    assert decode_seed(one.reveal())[1] == key_type
    assert one.ed25519_only == (key_type == "ed25519")


@given(st.integers(0, len(ED_SEED) - 1), st.sampled_from("rpshnaf39wBUDNEGHJK0OIl \n"))
def test_a_changed_seed_is_refused_and_not_quoted(position: int, character: str) -> None:
    """One wrong character is noticed."""
    text = ED_SEED[:position] + character + ED_SEED[position + 1 :]
    if text != ED_SEED:
        with pytest.raises(BadValue) as caught:
            parse_seed(text, "f")
        assert text not in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_crashes_the_parser(text: str) -> None:
    """It is a seed, or it is a `BadValue`."""
    with contextlib.suppress(BadValue):
        parse_seed(text, "f")


def test_a_seed_does_not_show_itself() -> None:
    """Not in its repr, not in a pickle."""
    seed = Seed(ED_SEED)
    assert ED_SEED not in f"{seed!r}{seed}"
    with pytest.raises(TypeError):
        pickle.dumps(seed)


def test_sed_seeds_are_for_ed25519() -> None:
    """Other libraries would derive another account from them; an `s...` seed goes with both."""
    with pytest.raises(BadValue, match="ed25519 only"):
        keystore.require_key_type(Seed(ED_SEED), "secp256k1", "f")
    keystore.require_key_type(Seed(SECP_SEED), "secp256k1", "f")
    keystore.require_key_type(Seed(SECP_SEED), "ed25519", "f")


def test_plain_files_go_round(tmp_path: Path) -> None:
    """Written for its owner's eyes only, read back, never overwritten."""
    path = tmp_path / "seed"
    keystore.write_seed(path, Seed(ED_SEED), None, PUBLIC, "f")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == ED_SEED + "\n"
    assert keystore.read_seed(path, None, "f").reveal() == ED_SEED
    assert keystore.read_head(path, "f") is None
    with pytest.raises(BadValue, match="exists"):
        keystore.write_seed(path, Seed(SECP_SEED), None, PUBLIC, "f")
    with pytest.raises(BadValue, match="not encrypted"):
        keystore.read_seed(path, PASSPHRASE, "f")
    assert keystore.read_seed(path, PASSPHRASE, "f", plain_too=True).reveal() == ED_SEED


def test_encrypted_files_go_round(tmp_path: Path) -> None:
    """At the cost that is really used; the seed is nowhere in the file, its address is."""
    path = tmp_path / "key"
    keystore.write_seed(path, Seed(ED_SEED), PASSPHRASE, PUBLIC, "f")
    assert ED_SEED not in path.read_text()
    head = keystore.read_head(path, "f")
    assert head is not None
    assert (head.address, head.cost_log2) == ("rExample", 16)
    assert keystore.read_seed(path, PASSPHRASE, "f").reveal() == ED_SEED
    with pytest.raises(BadValue, match="is encrypted"):
        keystore.read_seed(path, None, "f")


def test_a_wrong_passphrase_or_a_changed_head_does_not_open() -> None:
    """The head is sealed with the seed: an address cannot be swapped unnoticed."""
    with pytest.raises(BadValue, match="wrong passphrase"):
        sealed.unseal(seal(), b"incorrect horse", "f")
    with pytest.raises(BadValue, match="wrong passphrase"):
        sealed.unseal(seal().replace("rExample", "rAnother"), PASSPHRASE, "f")
    with pytest.raises(BadValue, match="too short"):
        sealed.seal(ED_SEED, b"short", PUBLIC)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cost_log2", 40),
        ("cost_log2", 0),
        ("block_size", 1000),
        ("parallelism", 0),
        ("version", 2),
        ("format", "other"),
        ("kdf", "none"),
        ("salt", "zz"),
        ("nonce", ""),
        ("extra", 1),
    ],
)
def test_a_strange_head_is_refused(key: str, value: object) -> None:
    """Unknown versions, unbounded work, broken hex."""
    file = json.loads(seal())
    file["head"][key] = value
    with pytest.raises(BadValue):
        sealed.unseal(json.dumps(file), PASSPHRASE, "f")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"head": {}}', "{" * 100_000, '{"a":' * 10_000])
def test_what_is_no_key_file_is_refused(text: str) -> None:
    """However it is broken."""
    with pytest.raises(BadValue, match="not a channeld key file"):
        sealed.unseal(text, PASSPHRASE, "f")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe", b"s" * 70_000, b"two\nlines\n", b"\0"])
def test_bad_contents_are_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, binary, too large, not one seed."""
    path = tmp_path / "seed"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadValue):
        keystore.read_seed(path, None, "f")


def test_files_must_be_there_and_private(tmp_path: Path) -> None:
    """The remedy says what to do."""
    path = tmp_path / "seed"
    with pytest.raises(BadValue, match="no such file"):
        keystore.read_seed(path, None, "f")
    path.write_text(ED_SEED)
    path.chmod(0o644)
    with pytest.raises(BadValue, match=f"chmod 600 {path}"):
        keystore.read_seed(path, None, "f")
    assert keystore.read_seed(path, None, "f", guarded=True).reveal() == ED_SEED
    with pytest.raises(BadValue, match="not a plain file"):
        keystore.read_seed(tmp_path, None, "f")
    with pytest.raises(BadValue, match="no such file"):
        keystore.write_seed(tmp_path / "no" / "folder", Seed(ED_SEED), None, PUBLIC, "f")
