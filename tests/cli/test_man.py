"""Manual pages and launchers say what the tools are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from wsseg import __version__
from wsseg.cli import _man
from wsseg.errors import ExitStatus, WssegError

READY = ("ws-budget", "ws-cat", "ws-info")


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    return _man.files(READY)


def test_pages_and_launchers_in_the_repository_are_those_that_are_generated():
    if not list(ROOT.glob("man/ws-*.1")):
        pytest.skip("not generated yet: python -m wsseg.cli._man")

    assert _man.stale(_man.files()) == []


def test_every_exit_status_is_described():
    assert set(_man.STATUS) == set(ExitStatus)


def test_tools_are_the_console_scripts():
    assert _man.scripts()["ws-info"] == ("wsseg.cli.info", "main")
    assert list(_man.scripts()) == sorted(_man.scripts())


@pytest.mark.parametrize("name", READY)
def test_a_page_has_all_its_sections(name, made):
    page = made[ROOT / "man" / f"{name}.1"]

    heads = [line[4:] for line in page.splitlines() if line.startswith(".SH ")]
    assert [h for h in heads if not h.startswith("COMMAND ")] == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT",
        "SEE ALSO"]
    assert f"\n{name}".replace("-", "\\-") in page.split(".SH EXAMPLES")[1]


def test_subcommands_have_a_section_each(made):
    assert ".SH COMMAND COST" in made[ROOT / "man" / "ws-budget.1"]


def test_a_page_is_the_same_on_every_machine(monkeypatch, made):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("WSSEG_JOBS", "3")

    assert _man.files(READY) == made


def test_groff_has_no_complaint(made):
    if not shutil.which("groff"):
        pytest.skip("no groff")
    for path, text in made.items():
        if path.suffix == ".1":
            done = subprocess.run(["groff", "-man", "-ww", "-Tascii"], input=text.encode(),
                                  capture_output=True)
            assert (done.returncode, done.stderr) == (0, b""), path


def test_what_roff_would_obey_is_escaped():
    assert _man.roff(".so x\n'a\\b-c") == "\\&.so x\n\\(aqa\\eb\\-c"


@pytest.fixture
def checkout(tmp_path: Path, made) -> Path:
    """A checkout that is not installed, at a path with a space."""
    root = tmp_path / "a checkout"
    (root / "bin").mkdir(parents=True)
    (root / "wsseg").symlink_to(ROOT / "wsseg")
    for path, text in made.items():
        if path.parent.name == "bin":
            (root / "bin" / path.name).write_text(text)
            (root / "bin" / path.name).chmod(0o755)
    return root


def start(path: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    return subprocess.run([path, *words], cwd=cwd, env=env, capture_output=True, text=True,
                          timeout=60)


@pytest.mark.parametrize("name", READY)
def test_a_launcher_runs_from_anywhere(name, checkout, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('imported from where the user stands')")
    (tmp_path / "link").symlink_to(checkout / "bin" / name)

    for path in (checkout / "bin" / name, tmp_path / "link"):
        done = start(path, tmp_path, "--version")
        assert (done.stdout, done.stderr) == (f"{name}, version {__version__}\n", "")


def test_a_launcher_hands_on_arguments_and_exit_status(checkout, tmp_path):
    done = start(checkout / "bin" / "ws-info", tmp_path, "no such place")

    assert done.returncode == ExitStatus.USAGE
    assert done.stderr == "ws-info: no such place: no such file or directory\n"


def test_a_launcher_prefers_the_environment_of_the_checkout(checkout, tmp_path):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho ours\n")
    python.chmod(0o755)

    assert start(checkout / "bin" / "ws-info", tmp_path).stdout == "ours\n"


def test_check_names_files_that_are_out_of_date(tmp_path, made):
    here = {tmp_path / path.relative_to(ROOT): text for path, text in made.items()}
    for path, text in here.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    assert _man.stale(here, tmp_path) == []

    (tmp_path / "man" / "ws-cat.1").write_text("old")
    (tmp_path / "bin" / "ws-info").chmod(0o644)
    (tmp_path / "bin" / "ws-gone").touch()

    assert _man.stale(here, tmp_path) == [
        "man/ws-cat.1 is out of date", "bin/ws-info is out of date",
        "bin/ws-gone belongs to no tool: remove it"]


def test_a_tool_that_cannot_be_imported_is_an_error(tmp_path):
    (tmp_path / "setup.cfg").write_text("[options.entry_points]\nconsole_scripts =\n"
                                        "    ws-none = wsseg.cli.none:main\n")

    with pytest.raises(WssegError, match="ws-none cannot be imported: No module named"):
        _man.files(root=tmp_path)
    with pytest.raises(WssegError, match="ws-x is not in setup.cfg, which has ws-none"):
        _man.files(["ws-x"], tmp_path)
