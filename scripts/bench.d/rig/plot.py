"""A plot of latency against offered load, as SVG text: open-loop results, a line for each contender and quantile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 380, 60, 50, 30, 150
_COLOURS: Final = {"ceiling": "#888888", "channeld": "#0b62a4", "straightforward": "#c0392b"}
_DASHES: Final = {"p50": "", "p99": "6 3", "p99.9": "2 3"}
Point = tuple[float, float]


def latency_against_load(figures: Mapping[str, Any]) -> str:
    """Milliseconds on a logarithmic axis above requests offered a second; needs two rates or more to show lines."""
    lines = _lines(figures["results"])
    points = [point for line in lines.values() for point in line]
    most = max((x for x, _ in points), default=1.0)
    low = math.floor(math.log10(min((y for _, y in points), default=0.1)))
    high = max(low + 1, math.ceil(math.log10(max((y for _, y in points), default=100.0))))
    body = [*_grid(most, low, high)]
    for n, ((contender, quantile), line) in enumerate(lines.items()):
        body += _line(contender, quantile, [_place(p, most, low, high) for p in sorted(line)], n)
    look = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {look}>'
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>', *body, "</svg>\n"])


def _lines(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Point]]:
    lines: dict[tuple[str, str], list[Point]] = {}
    for entry in results:
        if entry["offered_per_s"] and entry["batch"] == 1:
            for quantile in _DASHES:
                ms = max(entry["latency_ms"][quantile], 0.01)
                lines.setdefault((entry["contender"], quantile), []).append((entry["offered_per_s"], ms))
    return lines


def _place(point: Point, most: float, low: int, high: int) -> Point:
    x = _LEFT + point[0] / most * (_WIDTH - _LEFT - _RIGHT)
    y = _HEIGHT - _BOTTOM - (math.log10(point[1]) - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)
    return round(x, 1), round(y, 1)


def _grid(most: float, low: int, high: int) -> list[str]:
    marks = []
    for exponent in range(low, high + 1):
        _, y = _place((0, 10.0**exponent), most, low, high)
        marks.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        marks.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{10.0**exponent:g}</text>')
    for part in range(5):
        x, y = _place((most * part / 4, 10.0**low), most, low, high)
        marks.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{most * part / 4:,.0f}</text>')
    middle = (_WIDTH - _RIGHT + _LEFT) / 2
    marks.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">requests offered a second</text>')
    marks.append(f'<text x="{_LEFT}" y="{_TOP - 12}" text-anchor="middle">ms</text>')
    return marks


def _line(contender: str, quantile: str, points: Sequence[Point], n: int) -> list[str]:
    colour, dash = _COLOURS.get(contender, "black"), _DASHES[quantile]
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    path = " ".join(f"{x},{y}" for x, y in points)
    x, y = _WIDTH - _RIGHT + 14, _TOP + 18 * n
    return [
        f'<polyline points="{path}" {style}/>',
        f'<line x1="{x}" x2="{x + 24}" y1="{y}" y2="{y}" {style}/>',
        f'<text x="{x + 30}" y="{y + 4}">{contender} {quantile}</text>',
    ]
