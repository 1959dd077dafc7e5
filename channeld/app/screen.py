"""The one screen a person sees at start: who we are and what we are connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channeld.app.health import problems
from channeld.core.text import shown
from channeld.core.units import format_xrp

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon


def start_screen(daemon: Daemon, port: int) -> str:
    """Plain text, some twelve lines, no secret. `port` is the one that HTTP listens on."""
    settings, mirror = daemon.settings, daemon.mirror
    header = mirror.header
    ledger = f"{daemon.follower.endpoint or 'NOT CONNECTED'}, network {settings.ledger.network_id}"
    if header is not None:
        ledger += f", ledger {header.index}, reserve {format_xrp(header.fees.reserve_base)}"
    broker = f"{settings.mqtt.host}:{settings.mqtt.port} " + (
        "connected" if daemon.broker.connected else "NOT CONNECTED"
    )
    lines = [
        ("daemon", f"{settings.daemon.name} {daemon.version}, instance {daemon.instance}"),
        ("ledger", ledger),
        ("broker", f"{broker}, topics {settings.mqtt.topic_prefix}/servers/+/claim"),
        ("http", f"http://{settings.http.host}:{port}/ (metrics, healthz, readyz)"),
        ("store", f"{settings.store.path}: {len(mirror.channels)} channels, {len(mirror.journal)} intents open"),
        ("policy", f"{settings.policy_path}, {mirror.policy.hash[:12]}, pools {', '.join(mirror.policy.pools)}"),
        ("servers", f"{len(mirror.grants)} with {sum(len(g.payees) for g in mirror.grants.values())} payees"),
    ]
    for name, wallet in mirror.wallets.items():
        balance = format_xrp(wallet.account.balance) if wallet.account else "not seen in a ledger yet"
        lines.append(("wallet", f"{name} {wallet.address}, {balance}"))
    lines += [("waiting", reason) for reason in problems(daemon)]
    return "\n".join(f"{name:>8}  {shown(text)}" for name, text in lines)
