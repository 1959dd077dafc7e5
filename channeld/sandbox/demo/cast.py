"""Who plays in the demo: content servers, whom they charge for, and a policy under which a channel's life is short.

Everything follows from how many requests a second are asked for, so that a channel lasts seconds whatever the rate:
opened with the first request, funded some seconds later, paid out every few seconds, closed once nobody asks.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Final

from channeld.core.units import DROPS_PER_XRP, Address, Payee
from channeld.sandbox.stage import Server
from channeld.xrpl_core import addresscodec

SMALLEST_DROPS: Final = 1
LARGEST_DROPS: Final = 10_000
MEAN_DROPS: Final = (SMALLEST_DROPS + LARGEST_DROPS) // 2
PAYEE_START_DROPS: Final = 20 * DROPS_PER_XRP
"""What an account of a payee holds before anybody pays it."""
_MOST_ACCOUNTS: Final = 16
_IDLE_S: Final = 3
_SETTLE_DELAY_S: Final = 2
_CAPS: Final = 'max_drops_per_day = "10000000000 XRP"\nmax_locked = "10000000000 XRP"\nmax_open_channels = 1000'

_POLICY: Final = """\
[policy]
schema = 1
[guards]
treasury_floor       = "10 XRP"
max_opens_per_ledger = 200
ledger_lag           = "20s"
fee_cap              = "0.005 XRP"
demand_half_life     = "3s"
[pools.standard]
wallet       = "hot"
settle_delay = "{settle_delay}s"
life_margin  = "1s"
channel = {{ min = "{opened}", max = "{most}", max_per_payee = 2 }}
runway  = {{ low = "4s", target = "10s" }}
fund    = {{ low = "{low}", target = "{target}" }}
settle  = {{ worth = "{worth}", max_age = "3s" }}
close   = {{ idle = "{idle}s", min_age = "6s" }}
"""


@dataclass(frozen=True, slots=True)
class Role:
    """A content server: its name, whom it charges for, and for whom of them it stops asking early."""

    name: str
    payees: tuple[Payee, ...]
    leaves: frozenset[Payee]

    def on_stage(self) -> Server:
        """As the daemon's config has it: unbounded for what a demo can spend."""
        return Server(self.name, [str(payee) for payee in self.payees], caps=_CAPS)


def cast(servers: int) -> list[Role]:
    """`servers` (1 or more) content servers, every second one with one payee, the others with two.

    The last one stops asking early; where there is only one, it does so for its second payee.
    """
    sizes = [2 - number % 2 for number in range(servers)]
    payees = _payees(sum(sizes))
    roles = []
    for number, size in enumerate(sizes):
        own, payees = tuple(payees[:size]), payees[size:]
        leaves = own if servers > 1 else own[1:]
        roles.append(Role(f"server-{number + 1}", own, frozenset(leaves if number == servers - 1 else ())))
    return roles


def _payees(count: int) -> list[Payee]:
    """Payees nobody has the keys of, for they only receive. Beyond 16 they share accounts and differ in their tags."""
    accounts = [Address(addresscodec.encode_classic_address(os.urandom(20))) for _ in range(min(count, _MOST_ACCOUNTS))]
    plain = set(range(0, _MOST_ACCOUNTS, 2))
    return [Payee(accounts[n % _MOST_ACCOUNTS], None if n in plain else n) for n in range(count)]


def spellings(payee: Payee) -> tuple[str, ...]:
    """The ways of writing a payee; each means the same. For the main network's id, which the demo uses."""
    return (str(payee), addresscodec.classic_address_to_xaddress(payee.account, payee.tag, False))


def policy(rate: float, payees: int) -> str:
    """The policy file's text for `rate` requests a second spread over so many payees."""
    second = max(1, math.ceil(rate * MEAN_DROPS / payees))
    opened = max(5 * second, 2 * LARGEST_DROPS)
    return _POLICY.format(
        settle_delay=_SETTLE_DELAY_S,
        idle=min(3600, max(_IDLE_S, math.ceil(4 * payees / rate))),
        opened=opened,
        most=1000 * opened,
        low=max(3 * second, LARGEST_DROPS),
        target=max(6 * second, 2 * LARGEST_DROPS),
        worth=4 * second,
    )


def treasury(seconds: float, rate: float, payees: int) -> int:
    """Drops that the paying wallet starts with: far more than can be asked for and locked, at most a tenth of all."""
    spent = int((seconds + 60) * rate * MEAN_DROPS)
    return min(10**16, 10 * spent + payees * 10 * DROPS_PER_XRP + 100_000 * DROPS_PER_XRP)
