"""What the daemon's HTTP listener shows and takes: every page, and who answers it."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from channeld.adapters.http import Pages
from channeld.app import health, reports
from channeld.app.operations import Operations

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon


def pages(of: Daemon) -> Pages:
    """Those of a daemon."""
    operations, inquiry, token = Operations(of), of.inquiry, of.settings.http.admin_token
    return Pages(
        scrape=of.telemetry.scrape,
        problems=lambda: health.problems(of),
        warnings=lambda: health.warnings(of),
        reads={
            "status": lambda: reports.status(of),
            "channels": lambda: reports.channels(of),
            "audit": lambda: reports.audit(of),
        },
        actions=operations.actions,
        looks={"reconcile": operations.reconcile, "explain": inquiry.explain, "plan": inquiry.plan},
        trials={"plan": inquiry.plan},
        token=token.get_secret_value() if token else None,
        documents={"asyncapi.yaml": (resources.files("channeld.wire") / "asyncapi.yaml").read_bytes()},
    )
