"""How long hypothesis looks: briefly by default, long when CHANNELD_SOAK is set."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "fast", max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=_CALM, print_blob=True
)
settings.register_profile("soak", settings.get_profile("fast"), max_examples=3000, stateful_step_count=80)
settings.load_profile("soak" if os.environ.get("CHANNELD_SOAK") else "fast")
