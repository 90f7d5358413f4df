"""Every tool keeps the contract of all tools."""

from __future__ import annotations

import configparser
import importlib
import shutil
from pathlib import Path

import pytest

from tests.cli_contract import RecordContract, TextContract, ToolContract
from tests.conftest import ROOT, complaint, make_record, run, write_place
from wsseg.errors import ExitStatus


class TestCat(RecordContract):
    tool = "ws-cat"


class TestWeaken(RecordContract):
    tool = "ws-weaken"
    arguments = ("--tags", "--counts", "--boxes", "--points", "--scribbles")


class TestBoxfillRect(RecordContract):
    tool = "ws-boxfill"
    arguments = ("--method", "rect")
    kinds = ("boxes",)


class TestBoxfillGrabcut(RecordContract):
    tool = "ws-boxfill"
    arguments = ("--method", "grabcut", "--instances")
    kinds = ("boxes", "image")


class TestEval(TextContract):
    tool = "ws-eval"

    @pytest.fixture(autouse=True)
    def truth(self, tmp_path: Path) -> None:
        self.arguments = (write_place(tmp_path / "truth",
                                      [make_record(i, "label") for i in range(6)],
                                      kinds=["label"]),)


class TestInfo(TextContract):
    tool = "ws-info"
    arguments = ("--check",)


class TestBudget(TextContract):
    tool = "ws-budget cost"
    kinds = ("boxes",)

    def broken(self, folder: Path) -> str:
        """Only where no supervision is recorded are the labels themselves read."""
        place = super().broken(folder)
        shutil.rmtree(Path(place) / "__wsseg__")
        self.arguments = ("--n-classes", "2")
        return place


class TestView(ToolContract):
    tool = "ws-view"

    def output(self, folder: Path, name: str = "out") -> list[str]:
        return ["-o", str(folder / f"{name}.html")]


def test_every_tool_of_setup_cfg_keeps_the_contract():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    tools = {line.split("=")[0].strip() for line in lines}
    modules = [importlib.import_module(f"tests.cli.{path.stem}")
               for path in Path(__file__).parent.glob("test_*.py")]
    tested = {cls.tool.split()[0] for module in modules for cls in vars(module).values()
              if isinstance(cls, type) and issubclass(cls, ToolContract) and hasattr(cls, "tool")}
    assert tools == tested


@pytest.mark.parametrize("quiet", ["-q", "-qq", "-qqq"])
def test_however_quiet_an_error_is_said(quiet):
    done = run(["ws-cat", quiet, "/nowhere", "-o", "/nowhere2"], code=ExitStatus.USAGE)
    assert "/nowhere" in complaint(done)
