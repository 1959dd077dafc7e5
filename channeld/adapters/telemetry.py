"""Metrics for Prometheus. Every label comes from a small closed set; no channel, user, server or hash is ever one.

What is counted as it happens is a counter or a histogram; what is read off the daemon's state is a gauge, computed when
somebody asks. So the number of series does not depend on how large the pool is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from channeld.core.conservation import LossKind
from channeld.core.intents import Kind
from channeld.core.requests import Code
from channeld.core.world import Reason

_CODES: Final = (*(code.value for code in Code), "accepted", "replayed")
_REASONS: Final = tuple(reason.value for reason in Reason)
_KINDS: Final = (*(kind.value for kind in Kind), "filler", "tickets")
_REFUSABLE: Final = (Kind.OPEN.value, Kind.SETTLE.value, Kind.REQUEST_CLOSE.value)
_CLASSES: Final = ("tes", "tec", "ter", "tef", "tel", "tem", "other")
_RESULTS: Final = ("tesSUCCESS", "tec", "dead", "unknown", "displaced")
_LOSSES: Final = tuple(loss.value for loss in LossKind)
_DROPPED: Final = (
    "expired",
    "oversized",
    "topic",
    "reply_too_large",
)
_RELOADS: Final = ("taken", "unchanged", "refused")
_AS_IT_COMES: Final = ()

_COUNTERS: Final[Mapping[str, tuple[str, Mapping[str, Sequence[str]]]]] = {
    "claim_requests": ("Claim requests answered, by what they were told.", {"code": _CODES}),
    "issued_drops": ("Drops of accepted requests.", {}),
    "claim_signatures": ("Claims signed for groups of accepted requests.", {}),
    "admit_acts": (
        "Requests on which a rule for admit acted (type `apply`), or would have.",
        {"rule": _AS_IT_COMES, "action": _AS_IT_COMES, "type": _AS_IT_COMES},
    ),
    "intents_planned": ("Intents journaled.", {"kind": _KINDS}),
    "decisions_held": ("Channels and payees left alone, by reason.", {"code": _REASONS}),
    "rule_decisions": (
        "Decisions that a rule of the policy had a part in: what was done, or `hold`.",
        {"concern": _AS_IT_COMES, "rule": _AS_IT_COMES, "action": _AS_IT_COMES},
    ),
    "ledger_transactions": ("Transactions of ours that ended.", {"kind": _KINDS, "result": _RESULTS}),
    "ledger_fees_drops": ("Fees of validated transactions of ours.", {"kind": _KINDS}),
    "submit_answers": ("Provisional answers to submissions, each node's and each time's.", {"code": _CLASSES}),
    "paid_drops": ("Drops that reached payees, from validated metadata.", {}),
    "forgone_drops": ("Drops signed and not paid when their channel closed.", {}),
    "lost_drops": ("Drops signed and never to be paid, by whose doing that is.", {"kind": _LOSSES}),
    "payee_refusals": ("Channels and payouts that a payee's account did not take.", {"kind": _REFUSABLE}),
    "foreign_transactions": ("Transactions of our wallets that are not in our journal.", {}),
    "altered_transactions": ("Transactions of ours in which somebody else changed the signature of a claim.", {}),
    "received_claims": ("Claims handed in that payers signed for us, by answer.", {"code": _CODES}),
    "received_drops": ("Drops that claims taken in added to what is held.", {}),
    "redeemed_drops": ("Drops that channels paid us, from validated metadata.", {}),
    "ledgers_processed": ("Validated ledgers processed.", {}),
    "ledger_failovers": ("Times that another node is followed than before.", {}),
    "ledger_disagreements": ("Times that nodes contradicted each other.", {}),
    "config_reloads": ("Readings of the operator's files, by what became of them.", {"result": _RELOADS}),
    "mqtt_unserved": ("Messages that got no answer.", {"kind": _DROPPED}),
}
"""What each counter means, and all values that each of its labels can have. Those that are known now are there from the
start: a rate over a series that appears late would miss its first. Where the policy's own names are labels they are as
they come.
"""
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_HISTOGRAMS: Final[Mapping[str, tuple[str, Sequence[str], Sequence[float]]]] = {
    "ledger_processing_seconds": ("Applying a span of ledgers.", (), _SECONDS),
    "claim_group_seconds": ("Deciding, storing and signing a group.", (), _SECONDS),
    "claim_group_requests": ("Requests decided together.", (), (1, 4, 16, 64, 256, 512, 1024, 2048)),
    "validation_ledgers": (
        "Ledgers until a signed transaction was validated: 1 is the first that could take it.",
        (),
        (1, 2, 3, 4, 6, 8, 12),
    ),
    "loop_lag_seconds": ("By how much later the event loop came back than it should have.", (), _SECONDS),
    "forecast_error_ratio": (
        "Forecasts for a payee over six hours: how far off, against the larger of forecast and what came.",
        ("pool",),
        (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0),
    ),
}
"""What each histogram means, its labels, and the upper ends of its buckets."""


@dataclass(frozen=True, slots=True)
class Gauged:
    """A gauge read when somebody asks: its name without the prefix, what it means, and values by label values."""

    name: str
    help: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]


class _State(Collector):
    """Asks the daemon for its gauges."""

    def __init__(self, read: Callable[[], Iterable[Gauged]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for gauged in self._read():
            family = GaugeMetricFamily(f"channeld_{gauged.name}", gauged.help, labels=gauged.labels)
            for labels, value in gauged.values.items():
                family.add_metric(labels, value)
            yield family


class Page:
    """The text Prometheus reads: what is running, and gauges."""

    def __init__(self, *, version: str, policy_hash: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self._build = Info("channeld_build", "What is running.", registry=self.registry)
        self.runs(version, policy_hash)

    def runs(self, version: str, policy_hash: str) -> None:
        """What is running: the program, and the policy in force."""
        self._build.info({"version": version, "policy_hash": policy_hash[:12]})

    def gauges(self, read: Callable[[], Iterable[Gauged]]) -> None:
        """Where gauges come from; `read` is called for every scrape and must be cheap."""
        self.registry.register(_State(read))

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the format a scraper accepts, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class Telemetry(Page):
    """The daemon's counters on top of it."""

    def __init__(self, *, version: str, policy_hash: str) -> None:
        super().__init__(version=version, policy_hash=policy_hash)
        registry = self.registry
        self._started = Gauge("channeld_start_time_seconds", "Unix time of this start.", registry=registry)
        self._counters = {
            name: Counter(f"channeld_{name}", text, labels, registry=registry)
            for name, (text, labels) in _COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(f"channeld_{name}", text, labels, buckets=buckets, registry=registry)
            for name, (text, labels, buckets) in _HISTOGRAMS.items()
        }
        for name, (_, labels) in _COUNTERS.items():
            for values in product(*labels.values()) if labels else ():
                self._counters[name].labels(*values)

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def _observe(self, name: str, value: float, *labels: str) -> None:
        histogram = self._histograms[name]
        (histogram.labels(*labels) if labels else histogram).observe(value)

    def started(self, unix_s: float) -> None:
        """This start."""
        self._started.set(unix_s)

    def pools(self, names: Iterable[str]) -> None:
        """These are in the policy: their series are there from now on."""
        for name in names:
            self._histograms["forecast_error_ratio"].labels(name)

    def reloaded(self, result: str) -> None:
        """The operator's files were read again: `taken`, `unchanged` or `refused`."""
        self._count("config_reloads", result)

    # --- what happens ------------------------------------------------------------------------------------------------

    def planned(self, kind: str, path: Sequence[str] = ()) -> None:
        self._count("intents_planned", kind)
        self._ruled_by(path, kind)

    def held(self, reason: str, path: Sequence[str] = ()) -> None:
        self._count("decisions_held", reason)
        self._ruled_by(path, "hold")

    def _ruled_by(self, path: Sequence[str], action: str) -> None:
        for name in path:
            concern, _, rule = name.partition("/")
            self._count("rule_decisions", concern, rule, action)

    def transaction(self, kind: str, result: str) -> None:
        self._count("ledger_transactions", kind, result if result in _RESULTS else result[:3])

    def validated(self, kind: str, fee: int, ledgers: int) -> None:
        self._count("ledger_fees_drops", kind, by=fee)
        self._observe("validation_ledgers", ledgers)

    def submitted(self, code: str) -> None:
        self._count("submit_answers", code[:3] if code[:3] in _CLASSES else "other")

    def paid(self, drops: int) -> None:
        self._count("paid_drops", by=drops)

    def forgone(self, drops: int) -> None:
        self._count("forgone_drops", by=drops)

    def lost(self, kind: str, drops: int) -> None:
        self._count("lost_drops", kind, by=drops)

    def refused(self, kind: str) -> None:
        self._count("payee_refusals", kind)

    def foreign(self) -> None:
        self._count("foreign_transactions")

    def altered(self) -> None:
        self._count("altered_transactions")

    def admitted(self, rule: str, action: str, mode: str) -> None:
        self._count("admit_acts", rule, action, mode)

    def answered(self, code: str, count: int) -> None:
        self._count("claim_requests", code, by=count)

    def forecast(self, pool: str, off: float) -> None:
        self._observe("forecast_error_ratio", off, pool)

    def issued(self, drops: int, signatures: int) -> None:
        self._count("issued_drops", by=drops)
        self._count("claim_signatures", by=signatures)

    def group(self, size: int, seconds: float) -> None:
        """A group of requests was answered."""
        self._observe("claim_group_requests", size)
        self._observe("claim_group_seconds", seconds)

    def received(self, code: str) -> None:
        self._count("received_claims", code)

    def took_in(self, drops: int) -> None:
        self._count("received_drops", by=drops)

    def redeemed(self, drops: int) -> None:
        self._count("redeemed_drops", by=drops)

    def processed(self, ledgers: int, seconds: float) -> None:
        self._count("ledgers_processed", by=ledgers)
        self._observe("ledger_processing_seconds", seconds)

    def failover(self) -> None:
        self._count("ledger_failovers")

    def disagreed(self) -> None:
        self._count("ledger_disagreements")

    def late(self, seconds: float) -> None:
        """The event loop came back so much later than it should have."""
        self._observe("loop_lag_seconds", seconds)

    def dropped(self, kind: str) -> None:
        """A message got no answer."""
        self._count("mqtt_unserved", kind)
