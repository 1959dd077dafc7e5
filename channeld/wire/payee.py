"""Read accounts and payees from text: `rAddress`, `rAddress:tag`, or an X-address of the right network.

Strict, because a payee that is read wrongly is money sent to a stranger: checksums are verified, only the one canonical
spelling of each form is taken, and an X-address must belong to the network the daemon works on.

Sources: XRPL addresscodec (base58 with the ledger's alphabet, 4 checksum bytes); XLS-5 (X-addresses).
"""

from __future__ import annotations

import re
from typing import Final

from channeld.core import base58
from channeld.core.errors import BadValue
from channeld.core.units import MAX_UINT32, Address, Payee

MAINNET_ID: Final = 0
"""The network id whose X-addresses begin with `X`; those of every other network begin with `T`."""

_CLASSIC: Final = re.compile(f"r[{base58.ALPHABET}]{{24,34}}", re.ASCII)
_X_ADDRESS: Final = re.compile(f"[XT][{base58.ALPHABET}]{{46}}", re.ASCII)
_ACCOUNT_PREFIX: Final = b"\0"
_X_MAIN, _X_TEST = b"\x05\x44", b"\x04\x93"
_TAG: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_FORMS: Final = "rAddress, rAddress:tag or an X-address"


def parse_address(text: object, field: str) -> Address:
    """Read a classic address and verify its checksum; raises `BadValue` naming `field` for anything else."""
    if not isinstance(text, str) or not _CLASSIC.fullmatch(text):
        raise BadValue(field, "not a classic address", "an account's address, r...")
    body = base58.decode_checked(text)
    if body is None:
        raise BadValue(field, "the address has a wrong checksum", "copy it again")
    if len(body) != 21 or body[:1] != _ACCOUNT_PREFIX:
        raise BadValue(field, "not a classic address", "an account's address, r...")
    return Address(text)


def parse_payee(text: object, field: str, network_id: int) -> Payee:
    """Read a payee in any of its three spellings.

    `network_id` is the network the daemon works on. Raises `BadValue` naming `field`: a wrong checksum, a tag outside
    0..2^32-1 or not in plain digits, an X-address of another network. Nothing is guessed or corrected.
    """
    if not isinstance(text, str) or not text.isascii():
        raise BadValue(field, "not a payee", _FORMS)
    if text[:1] in {"X", "T"}:
        return _from_x_address(text, field, network_id)
    account, colon, tag = text.partition(":")
    return Payee(parse_address(account, field), _parse_tag(tag, field) if colon else None)


def _parse_tag(text: str, field: str) -> int:
    """Read a destination tag: plain digits, 0..2^32-1, no leading zero."""
    if not _TAG.fullmatch(text) or int(text) > MAX_UINT32:
        raise BadValue(field, "not a destination tag", "digits after the colon, 0 to 4294967295")
    return int(text)


def _from_x_address(text: str, field: str, network_id: int) -> Payee:
    """Read an X-address: account, tag or none, and the kind of network in one checksummed word."""
    if not _X_ADDRESS.fullmatch(text):
        raise BadValue(field, "not a payee", _FORMS)
    body = base58.decode_checked(text)
    if body is None or len(body) != 31 or body[:2] not in (_X_MAIN, _X_TEST):
        raise BadValue(field, "the X-address has a wrong checksum or form", "copy it again")
    account, flag, tag = body[2:22], body[22], int.from_bytes(body[23:], "little")
    if flag > 1 or tag > (MAX_UINT32 if flag else 0):
        raise BadValue(field, "not the canonical spelling of an X-address", "copy it again")
    if (is_test := body[:2] == _X_TEST) != (network_id != MAINNET_ID):
        kind = "a test network" if is_test else "the main network"
        raise BadValue(field, f"an X-address of {kind}, but ledger.network_id is {network_id}", "use the one that fits")
    return Payee(Address(base58.encode_checked(_ACCOUNT_PREFIX + account)), tag if flag else None)
