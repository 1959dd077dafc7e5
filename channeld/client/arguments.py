"""What a caller gives, checked before anything is written down or sent. Each check raises `BadArgument`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from channeld.client.checks import Asked, Terms
from channeld.client.errors import BadArgument
from channeld.core.errors import BadValue
from channeld.core.units import MAX_DROPS
from channeld.wire.answers import contents_of
from channeld.wire.payee import parse_address, parse_payee

_LENGTHS: Final = {"user": 128, "content": 256, "tier": 64, "region": 64}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a batch; the fields are those of `Client.claim`."""

    payee: str
    drops: int
    user: str | None = None
    content: str | None = None
    tier: str | None = None
    region: str | None = None
    id: str | None = None

    def asked(self, request_id: str, not_after: int, network_id: int) -> Asked:
        """The request that it becomes."""
        if not 1 <= len(request_id) <= 128 or not request_id.isascii() or not request_id.isprintable():
            raise BadArgument("id: 1 to 128 printable ASCII characters")
        if isinstance(self.drops, bool) or not isinstance(self.drops, int) or not 1 <= self.drops <= MAX_DROPS:
            raise BadArgument("drops: a whole number from 1 to 10^17")
        more = {name: getattr(self, name) for name in _LENGTHS}
        for name, text in more.items():
            if text is not None and (not isinstance(text, str) or len(text) > _LENGTHS[name] or not _is_text(text)):
                raise BadArgument(f"{name}: a string of up to {_LENGTHS[name]} characters")
        try:
            payee = parse_payee(self.payee, "payee", network_id)
        except BadValue as error:
            raise BadArgument(str(error)) from None
        return Asked(request_id, payee, self.drops, not_after, contents_of(payee, self.drops, not_after, **more))


def pinned(public_key: str | Iterable[str], payer: str | None, min_settle_delay_s: int, min_life_s: int) -> Terms:
    """What every answer must fulfil: signed by one of these keys, paid by this account, on a channel that lasts."""
    keys = [public_key] if isinstance(public_key, str) else list(public_key)
    if not keys or not all(len(key) == 66 and _is_hex(key) for key in keys):
        raise BadArgument("public_key: 66 hex digits, as `channeld keys show` prints them")
    try:
        account = None if payer is None else parse_address(payer, "payer")
    except BadValue as error:
        raise BadArgument(str(error)) from None
    return Terms(frozenset(key.upper() for key in keys), account, min_settle_delay_s, min_life_s)


def server_id(server: str) -> str:
    """The id of a content server, as it stands in topics."""
    if not server.replace("-", "").replace("_", "").isalnum() or not server.isascii() or len(server) > 64:
        raise BadArgument("server: 1 to 64 letters, digits, - or _")
    return server


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8 (a lone surrogate cannot)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
