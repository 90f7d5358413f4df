"""What README.md says is true: its commands run, its output is real, its files exist.

The ``sh`` and ``console`` blocks of a section run in order, in one shell, in a fresh copy of the
checkout. A console block shows commands after ``$ `` and their output; a line ``...`` in it
stands for any lines.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from tests.conftest import ROOT, run
from wsseg.errors import ExitStatus

NOT_RUN = {
    "make demo": "sets up a virtual environment, from the network",
    "make test": "would run this test again",
    "pip install .": "changes the environment, from the network",
    "pip install '.[fast,plot]'": "changes the environment, from the network",
}
MAY_BE_MISSING = ("man",)
SLACK = 0.2  # points of a score: processors round differently, and GrabCut follows
COPIED = ("wsseg", "bin", "man", "docs", "examples", "README.md", "Makefile", "setup.cfg")
MARK = "== the command above is number"


class Command(NamedTuple):
    """A command, and its output where README shows it."""

    line: str
    shown: list[str] | None


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def parse(block: str, language: str) -> list[Command]:
    """The commands of one fenced block, one a line."""
    if language == "sh":
        return [Command(line, None) for line in block.splitlines() if line.strip()]
    commands: list[Command] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], []))
        else:
            commands[-1].shown.append(line.rstrip())
    return commands


def without_comment(line: str) -> str:
    return re.sub(r"\s+# .*", "", line)


def sections() -> dict[str, list[Command]]:
    """The commands of each section that has some."""
    found: dict[str, list[Command]] = {}
    for section in re.split(r"^## ", TEXT, flags=re.M):
        title = section.splitlines()[0].lstrip("# ")
        for language, block in re.findall(r"^```(sh|console)\n(.*?)^```$", section, re.M | re.S):
            found.setdefault(title, []).extend(parse(block, language))
    return found


def table(heading: str) -> list[list[str]]:
    """The cells of the first table after a line, without its head."""
    rows = re.split(r"^\|[-|]+\|$", TEXT.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.M)[1]
    rows = re.match(r"\n((?:\|.*\n)*)", rows)[1].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def alike(shown: str, real: str, slack: float) -> bool:
    """Whether two lines are the same, but for decimal numbers that differ by at most slack."""
    number = re.compile(r"\s*(\d+\.\d+)")
    if number.sub("#", shown) != number.sub("#", real):
        return False
    pairs = zip(number.findall(shown), number.findall(real))
    return shown == real or all(a == b or abs(float(a) - float(b)) <= slack for a, b in pairs)


def matches(shown: list[str], real: list[str], slack: float = 0) -> bool:
    """Whether real lines are those shown, where a line ``...`` stands for any lines."""
    if not shown:
        return not real
    if shown[0] == "...":
        return any(matches(shown[1:], real[i:], slack) for i in range(len(real) + 1))
    return bool(real) and alike(shown[0], real[0], slack) and matches(shown[1:], real[1:], slack)


TEXT = (ROOT / "README.md").read_text("utf-8")
SECTIONS = sections()
TOOLS = {line.split("=")[0].strip() for line in
         setup_cfg()["options.entry_points"]["console_scripts"].split("\n") if line}
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh copy of what a user has, without anything that was built."""
    unwanted = shutil.ignore_patterns("build", "__pycache__")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def in_shell(script: str, folder: Path) -> subprocess.CompletedProcess:
    """Run bash in a copy of the checkout: the tools are that copy's."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, text=True,
                          env={**os.environ, "PATH": path, "PYTHONPATH": str(folder)},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120)


@pytest.mark.parametrize("title", SECTIONS)
def test_commands_run_and_show_what_readme_shows(title: str, checkout: Path) -> None:
    commands = [c for c in SECTIONS[title] if without_comment(c.line) not in NOT_RUN
                and (c.line.split()[0] not in MAY_BE_MISSING or shutil.which(c.line.split()[0]))]
    assert not [c.line for c in commands if c.line.startswith(("pip ", "make "))], "see NOT_RUN"
    script = "\n".join(f"{c.line}\necho '{MARK}' {i}" for i, c in enumerate(commands))

    done = in_shell(script, checkout)

    outputs = re.split(rf"^{MARK} \d+\n", done.stdout, flags=re.M)
    assert done.returncode == 0, f"{commands[len(outputs) - 1].line}\n{outputs[-1]}"
    for command, output in zip(commands, outputs):
        if command.shown is not None:
            real = [line.rstrip() for line in output.splitlines()]
            slack = SLACK if "ws-eval" in command.line else 0
            assert matches(command.shown, real, slack), \
                f"README shows another output of: {command.line}\n{output}"


def test_lines_are_compared_as_they_should_be() -> None:
    assert matches(["a", "...", "d"], ["a", "b", "c", "d"])
    assert matches(["a", "...", "b"], ["a", "b"])
    assert not matches(["a", "...", "d"], ["a", "b"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "b"], ["a"])
    assert matches(["mean  80.07 of 7"], ["mean  80.17 of 7"], slack=.2)
    assert not matches(["mean  80.07 of 7"], ["mean  80.17 of 7"])
    assert not matches(["mean  80.07 of 7"], ["mean  80.47 of 7"], slack=.2)
    assert not matches(["mean  80.07 of 7"], ["mean  80.07 of 8"], slack=.2)


def test_commands_that_are_not_run_are_there_and_exist() -> None:
    written = {without_comment(c.line) for commands in SECTIONS.values() for c in commands}
    assert set(NOT_RUN) <= written
    extras = set(setup_cfg()["options.extras_require"])
    for line in NOT_RUN:
        program, *words = shlex.split(line)
        if program == "make":
            done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True,
                                  text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip()
        else:
            named = re.fullmatch(r"pip install \.(?:\[(.+)\])?", " ".join([program, *words]))
            assert set((named[1] or "fast").split(",")) <= extras


def test_every_fenced_block_is_run_or_plain_text() -> None:
    assert set(re.findall(r"^```(\w*)$", TEXT, re.M)) == {"", "sh", "console", "text"}


def test_every_tool_has_a_row() -> None:
    assert {row[0].strip("`") for row in table("## The tools")} == TOOLS


def test_every_extra_has_a_row() -> None:
    rows = [row[0].strip("`") for row in table("## Install")]
    assert [*rows, "demo", "test"] == list(setup_cfg()["options.extras_require"])


def test_exit_statuses_are_those_of_the_tools() -> None:
    head = re.search(r"^\| exit status (.*)\|$", TEXT, re.M)[1]
    numbers = [int(number) for number in re.findall(r"\d+", head)]
    assert sorted(numbers) == sorted(ExitStatus)


def test_every_file_named_exists() -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", TEXT)
    files = {link for link in links if "://" not in link}
    files |= {code for code in CODE if re.match(r"(bin|docs|examples|man|tests|wsseg)/\S*$", code)}
    assert "docs/quickstart.jpg" in files
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []


def test_tools_and_options_named_in_the_text_exist() -> None:
    for tool, rest in (re.match(r"(\S+)(.*)", code).groups() for code in CODE):
        if re.fullmatch("ws-[a-z]+", tool):
            assert tool in TOOLS
            options = re.findall(r"--[a-z-]+", rest)
            subcommand = re.findall(r"^ ([a-z]\S*)", rest)
            usage = run([tool, *subcommand, "--help"]).stdout.decode() if rest else ""
            for option in options:
                assert option in usage, f"{tool} has no {option}"


def test_the_picture_is_small() -> None:
    with Image.open(ROOT / "docs/quickstart.jpg") as picture:
        assert picture.width <= 1000
    assert (ROOT / "docs/quickstart.jpg").stat().st_size < 200_000


def test_readme_stays_short() -> None:
    assert len(TEXT.splitlines()) <= 230
