"""Claims of a group are signed by two threads, as one would sign them, and nobody waits for the other."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import KeyType, derive
from channeld.adapters.signer.paired import FEW, PairedSigning, ToSign

MANY = 4 * FEW
_WAIT_S = 20
KINDS: tuple[KeyType, ...] = ("ed25519", "secp256k1")
KEYS = [derive(new_seed(kind).reveal(), kind).signer() for kind in KINDS]


@pytest.fixture(name="signing")
def _signing() -> Iterator[PairedSigning]:
    signing = PairedSigning()
    yield signing
    signing.close()


def messages(count: int) -> list[bytes]:
    return [
        hashlib.sha512(count.to_bytes(4, "big") + bytes([at % 256, at // 256])).digest()[:44] for at in range(count)
    ]


def seal(message: bytes) -> bytes:
    return hashlib.sha512(message).digest()


@given(st.lists(st.sampled_from(range(len(KEYS))), max_size=5 * FEW))
def test_all_are_signed_in_their_order_as_one_thread_would(keys: list[int]) -> None:
    signing = PairedSigning()
    try:
        claims = [(KEYS[key], message) for key, message in zip(keys, messages(len(keys)), strict=True)]
        assert signing(claims) == [sign(message) for sign, message in claims]
    finally:
        signing.close()


def test_both_threads_sign(signing: PairedSigning) -> None:
    """Each waits at its first until the other has come."""
    both = threading.Barrier(2)
    seen = set[int]()

    def sign(message: bytes) -> bytes:
        if (me := threading.get_ident()) not in seen:
            seen.add(me)
            both.wait(_WAIT_S)
        return seal(message)

    claims = [(sign, message) for message in messages(MANY)]
    assert signing(claims) == [seal(message) for message in messages(MANY)]
    assert len(seen) == 2


def test_who_asks_never_waits_for_the_other(signing: PairedSigning) -> None:
    """The other hangs in the middle of its first, group after group, until everybody has been served."""
    me, served = threading.get_ident(), threading.Event()

    def sign(message: bytes) -> bytes:
        if threading.get_ident() != me:
            assert served.wait(_WAIT_S)
        return seal(message)

    claims = [(sign, message) for message in messages(MANY)]
    try:
        for _ in range(20):
            assert signing(claims) == [seal(message) for message in messages(MANY)]
    finally:
        served.set()
    assert signing(claims) == [seal(message) for message in messages(MANY)]


@pytest.mark.parametrize("error", [RuntimeError, IndexError])
def test_what_only_the_other_cannot_sign_is_signed(signing: PairedSigning, error: type[Exception]) -> None:
    me = threading.get_ident()
    tried = threading.Event()

    def sign(message: bytes) -> bytes:
        if threading.get_ident() != me:
            tried.set()
            raise error
        assert tried.wait(_WAIT_S)
        return seal(message)

    claims = [(sign, message) for message in messages(MANY)]
    for _ in range(3):
        assert signing(claims) == [seal(message) for message in messages(MANY)]
        tried.clear()


@pytest.mark.parametrize("error", [RuntimeError, IndexError])
@pytest.mark.parametrize("bad", [0, MANY // 2, MANY - 1])
def test_what_nobody_can_sign_is_raised(signing: PairedSigning, bad: int, error: type[Exception]) -> None:
    said = messages(MANY)

    def sign(message: bytes) -> bytes:
        if message == said[bad]:
            raise error("no key")
        return seal(message)

    claims: list[ToSign] = [(sign, message) for message in said]
    with pytest.raises(error, match="no key"):
        signing(claims)
    assert signing([(seal, message) for message in said]) == [seal(message) for message in said], "the next group is"


def test_few_are_signed_without_a_thread_and_closing_ends_the_other(signing: PairedSigning) -> None:
    before = set(threading.enumerate())
    assert signing([(seal, message) for message in messages(FEW)]) == [seal(message) for message in messages(FEW)]
    assert set(threading.enumerate()) == before
    signing([(seal, message) for message in messages(FEW + 1)])
    (other,) = set(threading.enumerate()) - before
    signing.close()
    assert not other.is_alive()
    signing.close()


def test_where_there_is_no_thread_to_be_had_all_is_signed_here_and_the_next_group_tries_again(
    signing: PairedSigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    claims: list[ToSign] = [(seal, message) for message in messages(MANY)]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            assert signing(claims) == [seal(message) for message in messages(MANY)]
        signing.close()
    before = threading.active_count()
    assert signing(claims) == [seal(message) for message in messages(MANY)]
    assert threading.active_count() == before + 1
