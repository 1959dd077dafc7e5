"""Claims of a group are signed eight at a time as each would be signed alone, or as without the library."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import nacl.bindings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import Ed25519Signer, KeyType, MultiBufferSigning, Unusable, derive, multi_buffer
from channeld.adapters.signer.multi_buffer import LANES
from channeld.adapters.signer.paired import ToSign

KINDS: tuple[KeyType, ...] = ("ed25519", "ed25519", "ed25519", "secp256k1")
KEYS = [derive(new_seed(kind).reveal(), kind).signer() for kind in KINDS]
ED25519 = KEYS[0]
SignEight = Callable[..., int]


def stand_in(*lanes: Any) -> int:
    """What the library's function does, made of libsodium: reads and writes where it is told to."""
    for r, s, message, length, secret, public in zip(*lanes, strict=True):
        key = ctypes.string_at(secret, 32) + ctypes.string_at(public, 32)
        signature = nacl.bindings.crypto_sign(ctypes.string_at(message, length), key)
        ctypes.memmove(r, signature[:32], 32)
        ctypes.memmove(s, signature[32:64], 32)
    return 0


CPUINFO = Path("/proc/cpuinfo")
CAN = CPUINFO.exists() and "avx512ifma" in CPUINFO.read_text()
"""Where the processor can, the library is there, for the tests install it, and must do what it is for."""
LIBRARY = pytest.param(
    multi_buffer.load,
    marks=pytest.mark.skipif(not CAN, reason="the library needs a processor with avx512ifma"),
    id="library",
)


@pytest.fixture(name="sign", params=[pytest.param(lambda: stand_in, id="stand-in"), LIBRARY], scope="module")
def _sign(request: pytest.FixtureRequest) -> SignEight:
    found: SignEight = request.param()
    return found


def messages(count: int) -> list[bytes]:
    return [hashlib.sha512(at.to_bytes(4, "big")).digest()[:44] for at in range(count)]


def alone(claims: Sequence[ToSign]) -> list[bytes]:
    return [sign(message) for sign, message in claims]


def nobody(claims: Sequence[ToSign]) -> list[bytes]:
    raise AssertionError("all of these are signed eight at a time")


@given(st.lists(st.lists(st.sampled_from(range(len(KEYS))), max_size=4 * LANES), max_size=3))
def test_groups_are_signed_as_each_claim_alone_in_their_order(sign: SignEight, groups: list[list[int]]) -> None:
    signing = MultiBufferSigning(sign, alone)
    said = iter(messages(sum(map(len, groups))))
    for group in groups:
        claims = [(KEYS[key], next(said)) for key in group]
        assert signing(claims) == alone(claims)


def test_every_rest_of_eight_is_signed(sign: SignEight) -> None:
    """The lanes of a rest hold what was signed before, or nothing yet."""
    signing = MultiBufferSigning(sign, nobody)
    for count in (2, 3, 7, 8, 9, 15, 16, 17, 2):
        claims = [(ED25519, message) for message in messages(count)]
        assert signing(claims) == alone(claims)
        assert MultiBufferSigning(sign, nobody)(claims) == alone(claims)


def test_what_has_another_key_or_is_alone_is_signed_by_the_other() -> None:
    seen: list[Sequence[ToSign]] = []

    def other(claims: Sequence[ToSign]) -> list[bytes]:
        seen.append(claims)
        return alone(claims)

    signing = MultiBufferSigning(stand_in, other)
    one, two, three = messages(3)
    assert signing([]) == []
    assert signing([(ED25519, one)]) == [ED25519(one)]
    assert signing([(ED25519, one), (KEYS[3], two), (ED25519, three)]) == [ED25519(one), KEYS[3](two), ED25519(three)]
    assert seen == [[], [(ED25519, one)], [(KEYS[3], two)]]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_group_with_which_the_library_reports_an_error_is_signed_by_the_other(failing: int) -> None:
    calls = 0

    def sign(*lanes: Any) -> int:
        nonlocal calls
        calls += 1
        return 1 << 8 if calls == failing + 1 else stand_in(*lanes)

    claims = [(ED25519, message) for message in messages(3 * LANES)]
    signing = MultiBufferSigning(sign, alone)
    assert signing(claims) == alone(claims)
    assert calls == failing + 1
    assert signing(claims) == alone(claims), "the next group is tried again"
    assert calls == failing + 4


def test_what_is_no_claim_never_leaves_its_lane() -> None:
    signing = MultiBufferSigning(stand_in, nobody)
    with pytest.raises(ValueError, match="assignment"):
        signing([(ED25519, bytes(45)), (ED25519, bytes(44))])
    claims = [(ED25519, message) for message in messages(2)]
    assert signing(claims) == alone(claims)


@pytest.mark.parametrize("lane", range(LANES))
@pytest.mark.parametrize("half", [0, 1])
def test_a_library_that_signs_otherwise_is_not_used(lane: int, half: int) -> None:
    def sign(*lanes: Any) -> int:
        stand_in(*lanes)
        byte = ctypes.c_ubyte.from_address(lanes[half][lane] + 31)
        byte.value ^= 1
        return 0

    with pytest.raises(Unusable, match="not libsodium's"):
        multi_buffer.try_out(sign)
    multi_buffer.try_out(stand_in)


def test_a_library_that_takes_one_key_for_all_is_not_used() -> None:
    def sign(*lanes: Any) -> int:
        r, s, said, lengths, secrets, publics = lanes
        return stand_in(r, s, said, lengths, [secrets[0]] * LANES, [publics[0]] * LANES)

    with pytest.raises(Unusable, match="not libsodium's"):
        multi_buffer.try_out(sign)


def test_a_library_that_reports_errors_is_not_used() -> None:
    with pytest.raises(Unusable, match="reports an error"):
        multi_buffer.try_out(lambda *_: 1)


def test_without_its_package_it_is_said_which_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(multi_buffer, "distribution", missing)
    with pytest.raises(Unusable, match="intel-cmplr-lib-rt is not installed"):
        multi_buffer.load()


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_package_without_what_we_need_is_said(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "libintlc.so.5"
    path = tmp_path / name
    path.write_bytes(content or b"")
    file = SimpleNamespace(name=name if content else "something.so", locate=lambda: PurePosixPath(path))
    monkeypatch.setattr(multi_buffer, "distribution", lambda _: SimpleNamespace(files=[file]))
    with pytest.raises(Unusable, match="cannot be loaded" if content else f"brings no {name}"):
        multi_buffer.load()


@pytest.mark.parametrize("missing", ["mbx_is_crypto_mb_applicable", "mbx_ed25519_sign_mb8"])
def test_a_library_of_another_version_is_not_used(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has not both functions. Claims are signed without it; it must not end the start."""
    has = {"mbx_is_crypto_mb_applicable": lambda _: 1, "mbx_ed25519_sign_mb8": stand_in}
    monkeypatch.setattr(multi_buffer, "_path", lambda _package, name: name)
    monkeypatch.setattr(ctypes, "PyDLL", lambda _: SimpleNamespace(**has))
    assert multi_buffer.load() is stand_in
    del has[missing]
    with pytest.raises(Unusable, match=rf"ipp-crypto is another version .*{missing}"):
        multi_buffer.load()


def test_no_repr_shows_a_key() -> None:
    assert isinstance(ED25519, Ed25519Signer)
    signing = MultiBufferSigning(stand_in, alone)
    signing([(ED25519, message) for message in messages(2)])
    shown = f"{ED25519!r} {signing!r} {vars(signing)!r}"
    assert repr(ED25519.secret)[2:20] not in shown
    assert ED25519.secret.hex()[:16] not in shown.lower()
