"""Waiting for a condition: the only way in which tests wait, so that one that is never met fails by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from channeld.sandbox.stage import PATIENCE_S


async def until(condition: Callable[[], Any], what: str = "the condition", *, every_s: float = 0.05) -> Any:
    """Poll until a condition (or coroutine function) is true; fails by name when it never is."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                result = condition()
                if asyncio.iscoroutine(result):
                    result = await result
                if result:
                    return result
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_S:.0f} s for this: {what}") from None


async def soon(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """The same for what happens in this process, within moments: looked for more often."""
    return await until(condition, what, every_s=0.005)
