"""--recipe: a file of options, of which the command line has the last word."""

from __future__ import annotations

import json

import click
import pytest

from tests.conftest import ROOT, complaint, run
from wsseg.cli._command import run as run_here
from wsseg.cli._command import tool
from wsseg.cli._env import Env
from wsseg.cli._recipe import RECIPE
from wsseg.errors import ExitStatus


@pytest.fixture
def given(tmp_path, capfd):
    """Run a small tool with a recipe; give its options, or the complaint."""
    def go(recipe, *words, code=ExitStatus.OK):
        found = {}

        @tool("ws-x")
        @click.option("-o", "--output", default="-")
        @click.option("--lr", type=float, default=.1)
        @click.option("--scale", type=(float, float), default=(.5, 2.))
        @click.option("--weak", multiple=True)
        @click.option("--em-forbid", is_flag=True)
        @click.option("--flip/--no-flip", default=True)
        @click.option("--head", type=click.Choice(["aspp", "pspnet"]), default="aspp")
        @RECIPE
        def main(**options):
            found.update(options)

        path = tmp_path / "recipe.json"
        path.write_text(recipe if isinstance(recipe, str) else json.dumps(recipe))
        assert run_here(main, ["--recipe", str(path), *words]) == code
        said = capfd.readouterr().err
        assert said.count("\n") == (code != ExitStatus.OK), said
        return said or found
    return go


def test_its_values_stand_where_the_command_line_says_nothing(given):
    recipe = {"lr": .02, "scale": [.75, 1.25], "weak": ["a", "b"], "em-forbid": True,
              "head": "pspnet"}
    expected = {"lr": .02, "scale": (.75, 1.25), "weak": ("a", "b"), "em_forbid": True,
                "head": "pspnet", "output": "-", "flip": True}
    assert given(recipe) == expected
    assert given({}) == {**expected, "lr": .1, "scale": (.5, 2.), "weak": (), "em_forbid": False,
                         "head": "aspp"}


def test_the_command_line_wins_wherever_it_stands(given):
    recipe = {"lr": .02, "scale": [.75, 1.25], "weak": ["a"], "flip": False}
    for words in (["--lr", "3", "--weak", "c", "--flip"], ["--flip", "--weak", "c", "--lr", "3"]):
        found = given(recipe, *words, "--scale", "1", "2")
        assert (found["lr"], found["weak"], found["flip"]) == (3., ("c",), True)
        assert found["scale"] == (1., 2.)


def test_remarks_are_passed_over(given):
    assert given({"_paper": "wssl-2015, section 4.2", "_": 1, "lr": 4})["lr"] == 4


def test_an_unknown_option_is_told_with_the_nearest(given):
    said = given({"sclae": [1, 2]}, code=ExitStatus.USAGE)
    assert "no option 'sclae' (did you mean scale?)" in said
    assert "no option 'zzz'" in given({"zzz": 1}, code=ExitStatus.USAGE)
    for name in ("output", "recipe", "help", "em_forbid", "--lr", "o"):
        assert f"no option '{name}'" in given({name: "x"}, code=ExitStatus.USAGE)


@pytest.mark.parametrize("recipe, said", [
    ({"lr": "fast"}, "'fast' is not a valid float"), ({"lr": None}, "lr"),
    ({"head": "fcn"}, "'fcn' is not one of 'aspp', 'pspnet'"), ({"scale": [1]}, "2 values"),
    ({"scale": 1}, "scale"), ({"weak": {"a": 1}}, "weak"), ({"lr": [1]}, "lr"),
    ({"em-forbid": "perhaps"}, "perhaps"), ({"em-forbid": [1]}, "em-forbid")])
def test_values_are_checked_as_those_of_the_command_line(given, recipe, said):
    assert said in given(recipe, code=ExitStatus.USAGE)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"lr": }', "\x00", "[" * 99_999])
def test_a_file_that_is_no_recipe_is_one_line(given, text):
    said = given(text, code=ExitStatus.USAGE)
    assert "recipe.json" in said


def test_a_file_that_is_not_there_is_named():
    done = run(["ws-train", "x", "-o", "y", "--recipe", "none.json"], code=ExitStatus.USAGE)
    assert "none.json" in complaint(done)


def test_what_was_resolved_is_stored(tmp_path, capfd, monkeypatch):
    pytest.importorskip("torch")
    from tests import tinynet
    from tests.training import QUICK, places
    from wsseg.cli import train
    from wsseg.nets.model import read_card

    tinynet.install(monkeypatch)
    places(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = {"_from": "a paper", "lr": .005, "momentum": .8, "scale": [.75, 1.25], "crop": 41}
    (tmp_path / "paper.json").write_text(json.dumps(recipe))
    assert run_here(train.main, [*QUICK, "strong", "--recipe", "paper.json", "--momentum", ".7",
                                 "-o", "run"]) == ExitStatus.OK
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (settings["lr"], settings["momentum"], settings["scale"]) == (.005, .7, [.75, 1.25])
    assert settings["crop"] == 33  # of the command line
    parameters = read_card(tmp_path / "run" / "model.safetensors")["history"][-1]["parameters"]
    assert (parameters["lr"], parameters["momentum"]) == (.005, .7)
    assert run_here(train.main, [*QUICK, "strong", "--lr", ".005", "--momentum", ".7", "--scale",
                                 ".75", "1.25", "-o", "plain"]) == ExitStatus.OK
    capfd.readouterr()
    models = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("run", "plain")]
    assert models[0][-1000:] == models[1][-1000:]


@pytest.mark.parametrize("path", sorted((ROOT / "examples/recipes").glob("*.json")),
                         ids=lambda path: path.stem)
def test_the_recipes_that_we_ship_are_options_of_ws_train(path):
    from wsseg.cli.train import main as train

    context = train.make_context("ws-train", ["--recipe", str(path), "-o", "run"], obj=Env("x"))
    found = json.loads(path.read_text())
    assert {"backbone", "head", "crop", "lr"} <= set(found)
    assert context.params["lr"] == found["lr"] and context.params["head"] == found["head"]
