"""Hypothesis, set up so that it leaves nothing in the checkout."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import configuration, settings

configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "wsseg-hypothesis")
settings.register_profile("wsseg", deadline=None, database=None)
settings.load_profile("wsseg")
