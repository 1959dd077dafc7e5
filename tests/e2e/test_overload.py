"""The short form of `scripts/soak overload`: twice what the desk accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.overload import overload

pytestmark = pytest.mark.slow

MOST_MIB = 350
"""What a daemon starts with, SQLite's cache, what waits, and as much again."""


async def test_in_an_overload_everything_that_could_grow_is_bounded_and_then_a_claim_is_had_at_once(
    tmp_path: Path,
) -> None:
    counted = await overload(tmp_path, 0.5, measured_s=0.2, batch=10, room=100)
    assert counted["accepted"] > 0
    assert counted["rejected"] > 0, "no overload"
    assert counted["bounded"], counted["most"]
    assert counted["rss_most_mib"] < MOST_MIB
    assert counted["first_after_s"] < 30
