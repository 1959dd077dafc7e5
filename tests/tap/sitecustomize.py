"""Python imports this at every start, where PYTHONPATH leads here."""

from __future__ import annotations

import os
from pathlib import Path

import tap

if directory := os.environ.get(tap.DIRECTORY):
    tap.install(Path(directory), daemon=True)
