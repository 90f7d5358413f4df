"""Fixtures that several test files of one tool share; what they give is in that tool's module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import crf_cases, fits


@pytest.fixture
def refined(tmp_path, capfd):
    return crf_cases.refiner(tmp_path, capfd)


@pytest.fixture
def here(capfd):
    return crf_cases.caller(capfd)


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    return fits.scenes(tmp_path, *range(4))


@pytest.fixture
def fitted(tmp_path, places, capfd):
    return fits.runner(tmp_path, places, capfd)


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    return fits.count_scored(monkeypatch)
