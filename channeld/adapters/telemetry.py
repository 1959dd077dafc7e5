"""Metrics for Prometheus. Every label comes from a small closed set; no channel, user, server or hash is ever one.

What is counted as it happens is a counter or a histogram; what is read off the daemon's state is a gauge, computed when
somebody asks. So the number of series does not depend on how large the pool is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from channeld.core.conservation import LossKind
from channeld.core.intents import Kind
from channeld.core.requests import Code
from channeld.core.world import Reason

FILLER = "filler"
TICKETS = "tickets"
_REFUSABLE = (Kind.OPEN.value, Kind.SETTLE.value, Kind.REQUEST_CLOSE.value)
_CLASSES = ("tes", "tec", "ter", "tef", "tel", "tem", "other")
_RESULTS = ("tesSUCCESS", "tec", "dead", "unknown", "displaced")
_DROPPED = (
    "expired",
    "oversized",
    "topic",
    "reply_queue_full",
    "reply_too_large",
)
_RELOADS = ("taken", "unchanged", "refused")
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_LEDGERS = (1, 2, 3, 4, 6, 8, 12)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


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


class Telemetry:
    """The daemon's counters, and the text Prometheus reads."""

    def __init__(self, *, version: str, policy_hash: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"channeld_{name}", text, labels, registry=registry)

        self._build = Info("channeld_build", "What is running.", registry=registry)
        self.runs(version, policy_hash)
        self._answered = counter("claim_requests", "Claim requests answered, by what they were told.", "code")
        self._issued = counter("issued_drops", "Drops of accepted requests.")
        self._signatures = counter("claim_signatures", "Claims signed for groups of accepted requests.")
        text = "Requests on which a rule for admit acted, or in this mode would have."
        self._admitted = counter("admit_acts", text, "rule", "action", "mode")
        self._planned = counter("intents_planned", "Intents journaled.", "kind")
        self._held = counter("decisions_held", "Channels and payees left alone, by reason.", "reason")
        text = "Decisions that a rule of the policy had a part in: what was done, or `hold`."
        self._ruled = counter("rule_decisions", text, "concern", "rule", "action")
        self._transactions = counter("ledger_transactions", "Transactions of ours that ended.", "kind", "result")
        self._fees = counter("ledger_fees_drops", "Fees of validated transactions of ours.", "kind")
        self._submitted = counter("submit_answers", "Provisional answers of nodes to submissions.", "code")
        self._paid = counter("paid_drops", "Drops that reached payees, from validated metadata.")
        self._forgone = counter("forgone_drops", "Drops signed and not paid when their channel closed.")
        self._lost = counter("lost_drops", "Drops signed and never to be paid, by whose doing that is.", "kind")
        self._refused = counter("payee_refusals", "Channels and payouts that a payee's account did not take.", "kind")
        self._foreign = counter("foreign_transactions", "Transactions of our wallets that are not in our journal.")
        self._received = counter("received_claims", "Claims handed in that payers signed for us, by answer.", "code")
        self._took_in = counter("received_drops", "Drops that claims taken in added to what is held.")
        self._redeemed = counter("redeemed_drops", "Drops that channels paid us, from validated metadata.")
        self._ledgers = counter("ledgers_processed", "Validated ledgers processed.")
        self._failovers = counter("ledger_failovers", "Times that another node is followed than before.")
        self._disagreements = counter("ledger_disagreements", "Times that nodes contradicted each other.")
        self._reloads = counter("config_reloads", "Readings of the operator's files, by what became of them.", "result")
        self._dropped = counter("mqtt_unserved", "Messages that got no answer.", "kind")
        self._ledger_seconds = Histogram(
            "channeld_ledger_processing_seconds", "Applying a span of ledgers.", buckets=_SECONDS, registry=registry
        )
        self._group_seconds = Histogram(
            "channeld_claim_group_seconds",
            "Deciding, storing and signing a group.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._group_size = Histogram(
            "channeld_claim_group_requests",
            "Requests decided together.",
            buckets=(1, 4, 16, 64, 256),
            registry=registry,
        )
        text = "Ledgers until a signed transaction was validated: 1 is the first that could take it."
        self._validation = Histogram("channeld_validation_ledgers", text, buckets=_LEDGERS, registry=registry)
        text = "By how much later the event loop came back than it should have."
        self._loop_lag = Histogram("channeld_loop_lag_seconds", text, buckets=_SECONDS, registry=registry)
        text = "Forecasts for a payee over six hours: how far off, against the larger of forecast and what came."
        self._forecast = Histogram("channeld_forecast_error_ratio", text, ["pool"], buckets=_SHARES, registry=registry)
        self._started = Gauge("channeld_start_time_seconds", "Unix time of this start.", registry=registry)
        self._name_all_series()

    def _name_all_series(self) -> None:
        """Every series there can be is there from the start: a rate over one that appears late would miss its first."""
        for code in (*(c.value for c in Code), "accepted", "replayed"):
            self._answered.labels(code)
            self._received.labels(code)
        for reason in Reason:
            self._held.labels(reason.value)
        for kind in (*(k.value for k in Kind), FILLER, TICKETS):
            self._planned.labels(kind)
            self._fees.labels(kind)
            for result in _RESULTS:
                self._transactions.labels(kind, result)
        for kind in _REFUSABLE:
            self._refused.labels(kind)
        for group in _CLASSES:
            self._submitted.labels(group)
        for lost in LossKind:
            self._lost.labels(lost.value)
        for dropped in _DROPPED:
            self._dropped.labels(dropped)
        for reload in _RELOADS:
            self._reloads.labels(reload)

    def started(self, unix_s: float) -> None:
        """This start."""
        self._started.set(unix_s)

    def runs(self, version: str, policy_hash: str) -> None:
        """What is running: the program, and the policy in force."""
        self._build.info({"version": version, "policy_hash": policy_hash[:12]})

    def pools(self, names: Iterable[str]) -> None:
        """These are in the policy: their series are there from now on."""
        for name in names:
            self._forecast.labels(name)

    def reloaded(self, result: str) -> None:
        """The operator's files were read again: `taken`, `unchanged` or `refused`."""
        self._reloads.labels(result).inc()

    def gauges(self, read: Callable[[], Iterable[Gauged]]) -> None:
        """Where gauges come from; `read` is called for every scrape and must be cheap."""
        self.registry.register(_State(read))

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the format a scraper accepts, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    # --- what happens ------------------------------------------------------------------------------------------------

    def planned(self, kind: str, path: Sequence[str] = ()) -> None:
        self._planned.labels(kind).inc()
        self._ruled_by(path, kind)

    def held(self, reason: str, path: Sequence[str] = ()) -> None:
        self._held.labels(reason).inc()
        self._ruled_by(path, "hold")

    def _ruled_by(self, path: Sequence[str], action: str) -> None:
        for name in path:
            concern, _, rule = name.partition("/")
            self._ruled.labels(concern, rule, action).inc()

    def transaction(self, kind: str, result: str) -> None:
        self._transactions.labels(kind, result if result in _RESULTS else result[:3]).inc()

    def validated(self, kind: str, fee: int, ledgers: int) -> None:
        self._fees.labels(kind).inc(fee)
        self._validation.observe(ledgers)

    def submitted(self, code: str) -> None:
        self._submitted.labels(code[:3] if code[:3] in _CLASSES else "other").inc()

    def paid(self, drops: int) -> None:
        self._paid.inc(drops)

    def forgone(self, drops: int) -> None:
        self._forgone.inc(drops)

    def lost(self, kind: str, drops: int) -> None:
        self._lost.labels(kind).inc(drops)

    def refused(self, kind: str) -> None:
        self._refused.labels(kind).inc()

    def foreign(self) -> None:
        self._foreign.inc()

    def admitted(self, rule: str, action: str, mode: str) -> None:
        self._admitted.labels(rule, action, mode).inc()

    def answered(self, code: str, count: int) -> None:
        self._answered.labels(code).inc(count)

    def forecast(self, pool: str, off: float) -> None:
        self._forecast.labels(pool).observe(off)

    def issued(self, drops: int, signatures: int) -> None:
        self._issued.inc(drops)
        self._signatures.inc(signatures)

    def group(self, size: int, seconds: float) -> None:
        """A group of requests was answered."""
        self._group_size.observe(size)
        self._group_seconds.observe(seconds)

    def received(self, code: str) -> None:
        self._received.labels(code).inc()

    def took_in(self, drops: int) -> None:
        self._took_in.inc(drops)

    def redeemed(self, drops: int) -> None:
        self._redeemed.inc(drops)

    def processed(self, ledgers: int, seconds: float) -> None:
        self._ledgers.inc(ledgers)
        self._ledger_seconds.observe(seconds)

    def failover(self) -> None:
        self._failovers.inc()

    def disagreed(self) -> None:
        self._disagreements.inc()

    def late(self, seconds: float) -> None:
        """The event loop came back so much later than it should have."""
        self._loop_lag.observe(seconds)

    def dropped(self, kind: str) -> None:
        """A message got no answer."""
        self._dropped.labels(kind).inc()
