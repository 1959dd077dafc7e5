"""What is counted as it happens, as Prometheus reads it."""

from __future__ import annotations

import inspect

from labels import LABELS

from channeld.adapters.telemetry import _COUNTERS, _HISTOGRAMS, Telemetry
from channeld.service import ports


def page(telemetry: Telemetry) -> str:
    return telemetry.scrape("")[0].decode()


def test_rules_are_counted_by_what_was_done_by_them() -> None:
    """What is done by its kind, what is left alone as `hold`; where no rule had a part, there is no series."""
    telemetry = Telemetry(version="1", policy_hash="abc")
    telemetry.planned("open")
    assert "channeld_rule_decisions_total{" not in page(telemetry)
    telemetry.planned("fund", ("fund/gold", "fund/spike"))
    telemetry.held("rule", ("fund/gold",))
    text = page(telemetry)
    assert 'channeld_rule_decisions_total{action="fund",concern="fund",rule="gold"} 1.0' in text
    assert 'channeld_rule_decisions_total{action="fund",concern="fund",rule="spike"} 1.0' in text
    assert 'channeld_rule_decisions_total{action="hold",concern="fund",rule="gold"} 1.0' in text
    assert 'channeld_decisions_held_total{code="rule"} 1.0' in text


def test_fees_and_validation_times_are_counted() -> None:
    """Every kind is there from the start."""
    telemetry = Telemetry(version="1", policy_hash="abc")
    assert 'channeld_ledger_fees_drops_total{kind="tickets"} 0.0' in page(telemetry)
    telemetry.validated("settle", 12, 2)
    telemetry.late(0.02)
    text = page(telemetry)
    assert 'channeld_ledger_fees_drops_total{kind="settle"} 12.0' in text
    assert 'channeld_validation_ledgers_bucket{le="1.0"} 0.0' in text
    assert 'channeld_validation_ledgers_bucket{le="2.0"} 1.0' in text
    assert 'channeld_loop_lag_seconds_bucket{le="0.025"} 1.0' in text


def test_whatever_is_told_is_counted_somewhere() -> None:
    """Every method of the port changes the page, whatever it is told."""
    told = {"str": "other", "int": 3, "float": 0.5, "Sequence[str]": ("fund/gold",)}
    methods = [name for name in vars(ports.Telemetry) if not name.startswith("_")]
    assert methods
    for name in methods:
        telemetry = Telemetry(version="1", policy_hash="abc")
        before, tell = page(telemetry), getattr(telemetry, name)
        tell(*(told[parameter.annotation] for parameter in inspect.signature(tell).parameters.values()))
        assert page(telemetry) != before, name


def test_labels_are_of_the_small_closed_set() -> None:
    for name, (_, labels) in _COUNTERS.items():
        assert set(labels) <= LABELS, name
    for name, (_, of_histogram, _) in _HISTOGRAMS.items():
        assert set(of_histogram) <= LABELS, name


def test_the_largest_groups_are_told_apart_from_large_ones() -> None:
    """A group that is decided in 12 ms may have some 1 500 requests."""
    telemetry = Telemetry(version="1", policy_hash="abc")
    telemetry.group(300, 0.004)
    telemetry.group(1500, 0.012)
    text = page(telemetry)
    counts = {size: f'channeld_claim_group_requests_bucket{{le="{size}.0"}}' for size in (256, 512, 1024, 2048)}
    assert [f"{name} {n}.0" in text for name, n in zip(counts.values(), (0, 1, 1, 2), strict=True)] == [True] * 4
