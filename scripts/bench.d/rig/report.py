"""The figures for people (a Markdown table) and for programs (one JSON object), with the machine and the versions."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from servers import MOSQUITTO

from rig.runs import Series

_PACKAGES: Final = ("channeld", "mqtt5", "msgspec", "uvloop", "pynacl", "coincurve", "ipp-crypto")
_HEAD: Final = (
    "load",
    "contender",
    "claims/s",
    "of ceiling",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "CPU us per claim: contender / broker / load",
    "claims per group",
    "signatures per claim",
)


def machine() -> dict[str, Any]:
    """Where it ran; the load average tells who else did."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def filesystem(directory: Path) -> str:
    """The kind of file system under a directory: on `tmpfs` nothing is durable and a commit costs nothing."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    under = [(len(point), kind) for point, kind in mounts if directory.resolve().is_relative_to(point)]
    return max(under)[1] if under else "unknown"


def versions() -> dict[str, str]:
    """What ran."""
    said = subprocess.run([MOSQUITTO, "-h"], capture_output=True, text=True, check=False).stdout
    broker = re.search(r"mosquitto version (\S+)", said)
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    found["mosquitto"] = broker[1] if broker else "unknown"
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def as_json(series: Sequence[Series], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, medians over the repetitions and the rate of each."""
    return {**about, "machine": machine(), "versions": versions(), "results": [_entry(s, series) for s in series]}


def _entry(series: Series, all_series: Sequence[Series]) -> dict[str, Any]:
    cell = series.cell
    return {
        "contender": series.contender,
        "in_flight": cell.in_flight or None,
        "offered_per_s": round(cell.rate, 1) or None,
        "batch": cell.batch,
        "claims_per_s": round(series.rate, 1),
        "rates": [round(r.rate, 1) for r in series.results],
        "of_ceiling": _of_ceiling(series, all_series, lambda s: s.rate),
        "latency_of_ceiling": {
            "p50": _of_ceiling(series, all_series, lambda s: s.median(lambda r: r.p50)),
            "p99": _of_ceiling(series, all_series, lambda s: s.median(lambda r: r.p99)),
            "p99.9": _of_ceiling(series, all_series, lambda s: s.median(lambda r: r.p999)),
        },
        "latency_ms": {
            "p50": round(series.median(lambda r: r.p50), 3),
            "p99": round(series.median(lambda r: r.p99), 3),
            "p99.9": round(series.median(lambda r: r.p999), 3),
            "max": round(max(r.max for r in series.results), 3),
        },
        "cpu_us_per_claim": dict(zip(("contender", "broker", "load"), _cpu(series), strict=True)),
        **_grown(series),
        "requests": series.total(lambda r: r.requests),
        "accepted": series.total(lambda r: r.accepted),
        "rejected": series.total(lambda r: r.rejected),
        "unanswered": series.total(lambda r: r.unanswered),
        "flaws": series.flaws or None,
    }


def _cpu(series: Series) -> list[float]:
    count = len(series.results[0].cpu_us)
    return [round(series.median(lambda r, n=n: r.cpu_us[n]), 1) for n in range(count)]  # type: ignore[misc]


def _grown(series: Series) -> dict[str, float]:
    """How large the contender's groups were, and how often it signed, where it tells."""
    claims, groups = series.grown.get("claims", 0), series.grown.get("groups", 0)
    if not claims or not groups:
        return {}
    per_claim = series.grown.get("signatures", 0) / claims
    return {"claims_per_group": round(claims / groups, 1), "signatures_per_claim": round(per_claim, 3)}


def _of_ceiling(series: Series, all_series: Sequence[Series], read: Callable[[Series], float]) -> float | None:
    """A figure as a multiple of the ceiling's under the same load."""
    for other in all_series:
        if other.contender == "ceiling" and other.cell == series.cell and read(other):
            return round(read(series) / read(other), 3)
    return None


def table(series: Sequence[Series]) -> str:
    """A Markdown table, and below it what casts doubt on any of it."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *(_row(_entry(s, series), s) for s in series)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *_doubts(series)])


def _row(entry: dict[str, Any], series: Series) -> tuple[str, ...]:
    latency, cpu, ratio = entry["latency_ms"], entry["cpu_us_per_claim"], entry["of_ceiling"]
    return (
        series.cell.name,
        series.contender,
        f"{entry['claims_per_s']:,.0f}".replace(",", " "),
        "" if ratio is None or series.contender == "ceiling" else f"{ratio:.2f}",
        *(f"{latency[p]:.2f}" for p in ("p50", "p99", "p99.9")),
        " / ".join(f"{us:.0f}" for us in cpu.values()),
        f"{entry['claims_per_group']:.1f}" if "claims_per_group" in entry else "",
        f"{entry['signatures_per_claim']:.2f}" if "signatures_per_claim" in entry else "",
    )


def _doubts(series: Sequence[Series]) -> Iterator[str]:
    for s in series:
        if s.flaws:
            yield f"! {s.cell.name}, {s.contender}: {s.flaws}"


def footnote(figures: dict[str, Any]) -> str:
    """Where and with what the table came about, in two lines."""
    where = figures["machine"]
    loads = f"{figures['load_average_before'][0]} before, {where['load_average'][0]} after"
    with_ = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    return (
        f"\n{where['cpu']}, {where['cores']} cores for everything, Linux {where['kernel']}, store on "
        f"{figures['store_on']}, load average {loads};\n"
        f"{figures['servers']} servers, {figures['channels']} channels, medians of {figures['repetitions']} "
        f"times {figures['seconds']:g} s; {with_}."
    )
