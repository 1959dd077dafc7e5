"""Sign claims eight at a time: ed25519 in the lanes of AVX-512, where Intel's library for that is installed.

`libcrypto_mb` makes eight signatures in little more than the time in which libsodium makes one, the same to the bit:
ed25519 leaves whoever signs no choice. It comes with an extra, `channeld[fast]`, for it is large, and not every
processor can use it. It is tried beside libsodium before it is used; where it is missing, cannot be used or says
something else, claims are signed as without it.

Sources: RFC 8032, 5.1.6; Intel Cryptography Primitives Library, crypto_mb/ed25519.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Final, NoReturn

import nacl.bindings

from channeld.adapters.signer.keys import Ed25519Signer
from channeld.adapters.signer.paired import ToSign

LANES: Final = 8
"""Signatures that one call makes."""

_FEW: Final = 2
"""Claims from which on it pays."""

_CLAIM: Final = 44
"""Bytes of a claim: `CLM` and a zero, the channel, the amount."""

_PACKAGE: Final = "ipp-crypto"
_LIBRARIES: Final = (
    ("intel-cmplr-lib-rt", "libintlc.so.5"),
    ("intel-cmplr-lib-rt", "libimf.so"),
    ("intel-cmplr-lib-rt", "libsvml.so"),
    ("intel-cmplr-lib-rt", "libirng.so"),
    (_PACKAGE, "libcrypto_mb.so"),
)
"""What is loaded, and the package that brings it. Each asks the loader by name for some of those before it."""

_Pointers = ctypes.c_void_p * LANES
_SignEight = Callable[..., int]
"""`mbx_ed25519_sign_mb8`: where to write R and S of each lane, messages and their lengths, secret and public keys."""


class Unusable(Exception):
    """Claims cannot be signed so here; its text says why."""


class MultiBufferSigning:
    """Signs groups of claims, in order, as `PairedSigning` does. Call it from one thread only.

    `other` signs what has another kind of key, what is too little, and a whole group where `sign` reports an error.
    """

    def __init__(self, sign: _SignEight, other: Callable[[Sequence[ToSign]], list[bytes]]) -> None:
        self._sign, self._other = sign, other
        messages, signatures = (ctypes.c_char * (LANES * _CLAIM))(), (ctypes.c_char * (LANES * 64))()
        said, made = ctypes.addressof(messages), ctypes.addressof(signatures)
        self._messages, self._signatures = memoryview(messages).cast("B"), memoryview(signatures).cast("B")
        self._keys: dict[Ed25519Signer, ctypes.Array[ctypes.c_char]] = {}
        self._signers: list[Ed25519Signer] = []
        self._secrets, self._publics = _Pointers(), _Pointers()
        self._arguments = (
            _Pointers(*range(made, made + LANES * 64, 64)),
            _Pointers(*range(made + 32, made + LANES * 64, 64)),
            _Pointers(*range(said, said + LANES * _CLAIM, _CLAIM)),
            (ctypes.c_uint32 * LANES)(*[_CLAIM] * LANES),
            self._secrets,
            self._publics,
        )

    def __call__(self, claims: Sequence[ToSign]) -> list[bytes]:
        """The signature of each."""
        ours = [(signer, message) for signer, message in claims if isinstance(signer, Ed25519Signer)]
        if len(ours) < _FEW:
            return self._other(claims)
        made: list[bytes] = []
        for at in range(0, len(ours), LANES):
            if not self._sign_some(ours[at : at + LANES], made):
                return self._other(claims)
        if len(ours) == len(claims):
            return made
        others = iter(self._other([claim for claim in claims if not isinstance(claim[0], Ed25519Signer)]))
        eights = iter(made)
        return [next(eights if isinstance(signer, Ed25519Signer) else others) for signer, _ in claims]

    def _sign_some(self, claims: Sequence[tuple[Ed25519Signer, bytes]], made: list[bytes]) -> bool:
        """Sign at most eight and add them to `made`, or say that the library would not.

        Lanes that are not needed sign once more what they last signed.
        """
        signers = [signer for signer, _ in claims]
        if signers != self._signers[: len(signers)]:
            self._turn_to(signers)
        self._messages[: len(claims) * _CLAIM] = b"".join([message for _, message in claims])
        if self._sign(*self._arguments) != 0:
            return False
        signatures = bytes(self._signatures)
        made += [signatures[at : at + 64] for at in range(0, len(claims) * 64, 64)]
        return True

    def _turn_to(self, signers: list[Ed25519Signer]) -> None:
        """Give each lane its key; those that are not needed keep theirs, or get the first."""
        self._signers[: len(signers)] = signers
        self._signers += signers[:1] * (LANES - len(self._signers))
        for lane, signer in enumerate(self._signers):
            key = self._keys.get(signer)
            if key is None:
                key = self._keys[signer] = (ctypes.c_char * 64).from_buffer_copy(signer.secret)
            self._secrets[lane] = ctypes.addressof(key)
            self._publics[lane] = ctypes.addressof(key) + 32


def load() -> _SignEight:
    """Load the library and try it; some 20 ms, with the first call. Raises `Unusable`."""
    library = [_loaded(package, name) for package, name in _LIBRARIES][-1]
    try:
        sign: _SignEight = library.mbx_ed25519_sign_mb8
        applicable = library.mbx_is_crypto_mb_applicable
    except AttributeError as error:
        raise Unusable(f"{_PACKAGE} is another version than it must be: {error}") from None
    if not applicable(ctypes.c_uint64(0)):
        raise Unusable("this processor has no AVX-512 with 52 bit integers (avx512ifma)")
    try_out(sign)
    return sign


def version() -> str:
    """Name and version of what `load` loads."""
    return f"{_PACKAGE} {distribution(_PACKAGE).version}"


def try_out(sign: _SignEight) -> None:
    """Sign with two keys in all lanes, and compare with libsodium's. Raises `Unusable` unless all is alike."""

    def refuse(claims: Sequence[ToSign]) -> NoReturn:
        raise Unusable("it reports an error")

    signers = [Ed25519Signer(nacl.bindings.crypto_sign_seed_keypair(bytes([at]) * 32)[1]) for at in range(2)]
    claims: list[ToSign] = [(signers[at % 3 % 2], bytes([at]) * _CLAIM) for at in range(2 * LANES + 3)]
    if MultiBufferSigning(sign, refuse)(claims) != [signer(message) for signer, message in claims]:
        raise Unusable("its signatures are not libsodium's")


def _loaded(package: str, name: str) -> ctypes.PyDLL:
    """It keeps the interpreter while it signs: giving it up 20 us at a time costs more than it could do for others."""
    try:
        return ctypes.PyDLL(_path(package, name))
    except OSError as error:
        raise Unusable(f"{name} of {package} cannot be loaded: {error}") from None


def _path(package: str, name: str) -> str:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise Unusable(f"{package} is not installed") from None
    for file in files:
        if file.name == name:
            return str(file.locate())
    raise Unusable(f"{package} brings no {name}")
