"""Where a request belongs: what the operator wrote counts, and what a request says only where that is trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine import policy
from hypothesis import event, given
from hypothesis import strategies as st

from channeld.core.policy import Policy, Tier
from channeld.core.standing import Labels, Standing, Standings

TIERS = {
    "gold": Tier("gold", ("u-17", "vip-*"), dedicated=True),
    "named": Tier("named", trust_request=True, dedicated=True),
    "press": Tier("press", ("vip-press", "p?"), trust_request=True),
    "casual": Tier("casual", default=True),
}


def regional() -> Policy:
    base = policy().pools["p"]
    pools = {
        "p": base,
        "eu": replace(base, name="eu", regions=("eu", "uk"), trust_request=True),
        "us": replace(base, name="us", regions=("us",)),
    }
    return replace(policy(), pools=pools, tiers=TIERS)


STANDINGS = Standings(regional())


@pytest.mark.parametrize(
    ("user", "tier", "given", "expected"),
    [
        ("u-17", None, None, ("gold", "u-17")),
        ("vip-3", None, None, ("gold", "vip-3")),
        ("vip-press", None, None, ("press", "")),
        ("u-18", None, None, ("casual", "")),
        ("u-18", "gold", None, ("casual", "")),
        ("u-18", "named", None, ("named", "u-18")),
        ("u-17", "press", None, ("gold", "u-17")),
        ("u-18", "nowhere", None, ("casual", "")),
        ("u-18", None, "press", ("press", "")),
        ("u-18", None, "named", ("named", "u-18")),
        ("u-18", "press", "named", ("press", "")),
        ("", "named", None, ("named", "")),
        ("", None, "gold", ("gold", "")),
    ],
)
def test_a_tier_is_the_operators_and_the_requests_where_trusted(
    user: str, tier: str | None, given: str | None, expected: tuple[str, str]
) -> None:
    got = STANDINGS.of("p", Labels(given), user, tier, None)
    assert (got.tier, got.user) == expected


@pytest.mark.parametrize(
    ("pool", "asked", "given", "expected"),
    [
        ("p", None, None, "p"),
        ("p", None, "us", "us"),
        ("p", "eu", None, "eu"),
        ("p", "us", None, "p"),
        ("p", "us", "eu", "eu"),
        ("p", "uk", "us", "eu"),
        ("us", "us", None, "us"),
        ("us", "mars", "mars", "us"),
    ],
)
def test_a_region_leads_to_the_pool_that_lists_it(
    pool: str, asked: str | None, given: str | None, expected: str
) -> None:
    assert STANDINGS.of(pool, Labels(None, given), "", None, asked).pool == expected


names = st.sampled_from(
    ["", "u-17", "vip-1", "vip-press", "p1", "x", "gold", "named", "nowhere", "eu", "us", "\n", "*"]
)


@given(names, names, names, names, names)
def test_what_a_request_says_never_gives_what_nobody_trusted(
    user: str, tier: str, region: str, label: str, place: str
) -> None:
    labels = Labels(label or None, place or None)
    plain = STANDINGS.of("p", labels, user, None, None)
    got = STANDINGS.of("p", labels, user, tier or None, region or None)
    event(str(got.tier))
    if got.tier != plain.tier:
        assert got.tier == tier
        assert TIERS[tier].trust_request
    if got.pool != plain.pool:
        assert got.pool == "eu"
    assert got.user in ("", user)
    assert got.shared_tier == plain.shared_tier
    assert bool(got.user) == bool(user and got.tier and TIERS[got.tier].dedicated)


def test_a_policy_without_tiers_and_regions_is_plain() -> None:
    standings = Standings(policy())
    assert standings.plain
    assert standings.of("p", Labels(), "u", "gold", "eu") == Standing("p", None, "", None)
    assert not STANDINGS.plain
