"""Folders in which nothing may change that a hostile input does not own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def canary(tmp_path) -> Path:
    """Everything in this folder must be as it was when the test ends."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "precious").write_bytes(b"precious")
    (folder / "img000.png").write_bytes(b"precious")
    yield folder
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        "precious": b"precious", "img000.png": b"precious"}


@pytest.fixture
def box(tmp_path) -> Path:
    """A folder in which a tool writes; nothing but ``out*`` may appear in it."""
    folder = tmp_path / "a" / "b" / "box"
    folder.mkdir(parents=True)
    yield folder
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["box"]
    assert [p.name for p in folder.iterdir() if not p.name.startswith("out")] == []
