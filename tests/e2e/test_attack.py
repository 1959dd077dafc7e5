"""The short form of `scripts/soak payloads`: hostile payloads with valid requests between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.attack import GROWN_MIB, VALID_SHARE, attack

pytestmark = pytest.mark.slow

MESSAGES = 30_000


async def test_hostile_payloads_are_answered_and_valid_requests_accepted_all_the_while(tmp_path: Path) -> None:
    counted = await attack(tmp_path, MESSAGES, seed=4)
    assert counted["answers"] > MESSAGES * 0.8
    assert counted["valid"] > MESSAGES / VALID_SHARE * 0.9
    assert counted["hung_up"] > 0, "the wild ones were not wild"
    assert counted["rss_last_mib"] <= counted["rss_first_mib"] + GROWN_MIB
