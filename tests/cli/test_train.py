"""ws-train as its users run it: whole runs, stopped ones, and what is learnt."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import cli_contract, conftest, training  # noqa: E402
from tests.cli_contract import ToolContract  # noqa: E402
from tests.conftest import make_record, run, write_place  # noqa: E402
from tests.training import QUICK, places, steps_of, wait_for  # noqa: E402
from tests.warm import warm  # noqa: E402
from wsseg.cli import cat  # noqa: E402
from wsseg.errors import ExitStatus, WssegError  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.supervision import by_kind, named  # noqa: E402
from wsseg.nets.model import read_card  # noqa: E402
from wsseg.train import run_folder  # noqa: E402
from wsseg.train.run_folder import BEFORE, LAST  # noqa: E402

runner = training.runner
#: All that a resumed run could get wrong: dropout, E-steps in random orders, sums, references.
HARD = (*QUICK, "strong", "--weak", "weak", "--weak-loss", "em-adapt", "--ratio", "1:1",
        "--dropout", ".4", "--l2sp", ".01", ".001", "--accumulate", "2", "--iterations", "30",
        "--log-every", "1", "--jitter", ".3", "--rotate", "10")


@pytest.fixture
def started(monkeypatch):
    for module in (conftest, cli_contract):
        monkeypatch.setattr(module, "command", lambda tool: warm().command(tool))


@pytest.mark.usefixtures("started")
class TestTrain(ToolContract):
    tool = "ws-train"
    kinds = ("label", "image")
    arguments = QUICK

    def output(self, folder: Path, name: str = "out") -> list[str]:
        return ["-o", str(folder / name)]


# -- what a run leaves -------------------------------------------------------------------------


def test_a_run_leaves_its_model_its_log_and_what_it_was_made_of(runner):
    told = runner.train("strong", "--weak", "weak", "--weak-loss", "em-fixed", "--val", "val",
                        "--val-every", 2, "--json", "-q")
    summary = json.loads(told.out)
    assert (summary["steps"], summary["of"], summary["device"]) == (4, 4, "cpu")
    assert summary["model"] == "run/model.safetensors"
    assert sorted(os.listdir(runner.folder / "run")) == [
        "best.safetensors", "last.pt", "log.jsonl", "model.safetensors", "settings.json"]
    assert [(e["step"], "val_miou" in e) for e in runner.log()] == [(2, True), (4, False),
                                                                    (4, True)]
    assert summary["val_miou"] == runner.log()[-1]["val_miou"]
    settings = json.loads((runner.folder / "run" / "settings.json").read_text())
    assert settings["lr"] == 2.5e-4 and settings["data"]["weak"]["images"] == 8
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert card["classes"] == list(conftest.CLASSES)
    assert card["images"] == {"strong": 6, "weak": 8}
    weak = [f"img{i:03d}" for i in range(6, 14)]
    assert card["supervision"] == {
        named("masks", (f"img{i:03d}" for i in range(6))): [6, 12, 12],
        named("tags", weak): [8, 16, 16], named("boxes", weak): [8, 16, 16]}
    assert by_kind(card["validation"]) == {"masks": (4, 8, 8)}
    assert card["history"][-1]["tool"] == "ws-train"
    assert card["init"] == "none: random weights"


def test_labels_that_chose_the_net_were_used(runner):
    runner.train("strong", "--val", "val", "--val-every", 1, "--select", "best", "--lr", .1)
    scores = {e["step"]: e["val_miou"] for e in runner.log() if "val_miou" in e}
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert card["step"] == max(scores, key=lambda step: (scores[step], -step))
    assert runner.model() == (runner.folder / "run" / "best.safetensors").read_bytes()
    assert by_kind(card["supervision"]) == {"masks": (10, 20, 20)}
    runner.train("strong", "--val", "strong", "--val-every", 2, "--select", "best", out="same")
    card = read_card(runner.folder / "same" / "model.safetensors")
    assert by_kind(card["supervision"]) == {"masks": (6, 12, 12)}


def test_equal_runs_are_equal_bytes_whatever_the_threads(runner):
    runner.train("strong", "--weak", "weak", "--weak-loss", "em-adapt", "-j1", out="one")
    runner.train("strong", "--weak", "weak", "--weak-loss", "em-adapt", "-j7", out="two")
    runner.train("strong", "--weak", "weak", "--weak-loss", "em-adapt", "--seed", 1, out="other")
    assert runner.model("one") == runner.model("two") != runner.model("other")


def test_epochs_are_of_the_first_place(runner):
    """6 strong images; 2 of each batch of 4 are strong: 3 batches an epoch."""
    for words, steps in ((["strong", "--epochs", 2], 3), (["strong", "--epochs", .1], 1),
                         (["strong", "--weak", "val", "--ratio", "1:1", "--epochs", 2], 6),
                         (["strong", "--weak", "val", "--oversample", 3, "--epochs", 2], 11),
                         (["strong", "--accumulate", 3, "--epochs", 4], 2),
                         (["--weak", "weak", "--epochs", 2, "--weak-loss", "em-fixed"], 4)):
        at = QUICK.index("--iterations")
        quick = QUICK[:at] + QUICK[at + 2:]
        told = runner.train(*words, "--overwrite", "--json", quick=quick)
        assert json.loads(told.out)["of"] == steps, words


def test_a_stream_is_trained_on_as_its_directory_is(runner, started):
    runner("strong", "-o", "strong.tar", tool=cat)
    data = (runner.folder / "strong.tar").read_bytes()
    run(["ws-train", *QUICK, "-", "-o", "piped"], stdin=data, cwd=runner.folder)
    run(["ws-train", *QUICK, "strong", "-o", "plain"], cwd=runner.folder)
    assert runner.model("piped") == runner.model("plain")


@pytest.mark.parametrize("words", [
    ["--msc"], ["--dual", "--weak", "weak", "--weak-loss", "bbox-em"], ["--head", "pspnet"],
    ["--weak", "weak", "--weak-loss", "mil-max", "--mil-form", "image"],
    ["--head", "deeplabv3plus", "--loss-at", "logits", "--optimizer", "adamw"],
    ["--precision", "bf16", "--schedule", "step", "--warm-up", "2"],
    ["--conf", "--class-weight", "weights", "--oversample", "2", "--weak", "val"],
    ["--join-classes", "--weak", "val", "--batch", "1"]])  # each step lacks one of the two
def test_every_way_to_train_trains(runner, words):
    (runner.folder / "weights").write_text("1\n2\n.5\n")
    runner.train("strong", *words)
    assert np.isfinite(runner.log()[-1]["loss"]) and runner.log()[-1]["loss"] > 0
    runner.predict("run", "val", "-o", "found")


# -- stopping and going on ---------------------------------------------------------------------


def start(folder: Path, *words):
    return warm().spawn(["ws-train", *HARD, "--save-minutes", "1e-9", *words], folder)


def test_a_run_that_is_killed_again_and_again_ends_bit_by_bit_the_same(tmp_path):
    """kill -9 in any state: between steps, in the middle of a checkpoint."""
    places(tmp_path)
    whole = start(tmp_path, "-o", "whole")
    assert whole.wait() == 0, whole.said
    log, last = tmp_path / "cut" / "log.jsonl", tmp_path / "cut" / LAST
    killed = 0
    for number, steps in enumerate((1, 3, 8, 9, 17, 24)):
        tool = start(tmp_path, "-o", "cut", "--resume")
        wait_for(tool, log, steps)
        time.sleep(.003 * number)
        with contextlib.suppress(ProcessLookupError):  # on a busy machine it may have ended
            os.kill(tool.pid, signal.SIGKILL)
        killed += tool.wait() == -signal.SIGKILL
    assert killed >= 3
    cut = last.exists() and (last.parent / BEFORE).exists()
    if cut:  # as if the machine had lost its power
        last.write_bytes(last.read_bytes()[:5000])
    tool = start(tmp_path, "-o", "cut", "--resume")
    assert tool.wait() == 0, tool.said
    assert ("is damaged (BadZipFile): going on from the one before" in tool.said) == cut
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors").read_bytes()
    logs = [[(e["step"], e["loss"]) for e in map(json.loads, open(tmp_path / n / "log.jsonl"))]
            for n in ("whole", "cut")]
    assert logs[0] == logs[1] and [s for s, _ in logs[0]] == list(range(1, 31))
    assert not [n for n in os.listdir(tmp_path / "cut") if n.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_step_and_nothing_is_lost(tmp_path, number):
    places(tmp_path)
    tool = start(tmp_path, "-o", "cut", "--iterations", "5000", "--save-minutes", "0")
    wait_for(tool, tmp_path / "cut" / "log.jsonl", 4)
    began = time.monotonic()
    os.kill(tool.pid, number)
    assert tool.wait() == -number  # 143 and 130 for a shell
    assert time.monotonic() - began < 10
    assert tool.said.splitlines() == ["ws-train: " + {signal.SIGTERM: "terminated",
                                                      signal.SIGINT: "interrupted"}[number]]
    assert not [n for n in os.listdir(tmp_path / "cut") if n.startswith(".")]
    steps = steps_of(tmp_path / "cut" / "log.jsonl")
    tool = start(tmp_path, "-o", "cut", "--iterations", "5000", "--resume", "--max-minutes",
                 "1e-9", "-v")
    assert tool.wait() == 0
    assert f"going on after step {steps}" in tool.said and "stopped after" in tool.said


def test_a_second_signal_ends_what_the_first_let_finish():
    script = """if True:
        import os, signal, time
        from wsseg.cli._env import Env, Terminated
        env = Env.take("ws-train")
        try:
            with env.held():
                os.kill(os.getpid(), signal.SIGTERM)
                print("finishing", env.signalled == signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
                print("not reached")
        except Terminated:
            print("ended")
        """
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout.split("\n") == ["finishing True", "ended", ""], told.stderr


def test_time_that_is_over_stops_it_and_it_goes_on(runner):
    runner.train("strong", "--log-every", 1, out="whole")
    for _ in range(2):
        told = runner.train("strong", "--resume", "--max-minutes", "1e-9", "--log-every", 1)
        assert re.search(r"stopped after \d\.\d minutes: --resume goes on", told.err)
        assert "model " not in told.out
    assert "is its training finished?" in runner.predict("run", "val", "-o", "found",
                                                         code=ExitStatus.FAILED).err
    runner.train("strong", "--resume", "--save-minutes", 0, "--log-every", 1)
    assert runner.model() == runner.model("whole")
    assert [e["step"] for e in runner.log()] == [1, 2, 3, 4]


def test_a_finished_run_is_left_as_it_is(runner):
    runner.train("strong", "--val", "val")
    before, net = conftest.tree(runner.folder / "run"), runner.folder / "run" / "model.safetensors"
    os.utime(net, (0, 0))
    told = runner.train("strong", "--val", "val", "--resume")
    assert "run is finished already" in told.err
    assert conftest.tree(runner.folder / "run") == before
    assert net.stat().st_mtime  # for make, which compares times


def test_a_run_goes_on_with_the_same_data_in_any_form_and_with_no_other(runner):
    runner("strong", "-o", "same.h5", tool=cat)
    weights = runner.folder / "weights"
    weights.write_text("1\n2\n3\n")
    words = ("--class-weight", "weights", "--max-minutes", "1e-9", "--resume")
    for place in ("strong", "strong", "same.h5"):
        runner.train(place, *words)
    records = [make_record(i, "image", "label") for i in range(6)]
    records[3].set("label", records[3].get("label")[::-1].copy())
    write_place(runner.folder / "changed", records, kinds=["image", "label"])
    assert "run is a run with other settings (data.strong.content was" in runner.train(
        "changed", *words, code=ExitStatus.USAGE).err
    weights.write_text("1\n2\n4\n")
    assert "other settings (class_weight was [1.0, 2.0, 3.0], is [1.0, 2.0, 4.0])" in runner.train(
        "strong", *words, code=ExitStatus.USAGE).err


def test_a_run_is_resumed_as_it_was_begun(runner):
    runner.train("strong")
    for words, said in ((["--lr", 1], "lr was 0.00025, is 1.0"),
                        (["--keys", "k"], "data.strong.images was 6, is 3"),
                        (["--iterations", 5], "iterations was 4, is 5"),
                        (["--weak", "weak", "--weak-loss", "em-fixed"], "data.weak")):
        (runner.folder / "k").write_text("img001\nimg002\nimg003\n")
        told = runner.train("strong", "--resume", *words, code=ExitStatus.USAGE)
        assert "is a run with other settings" in told.err and said in told.err


def test_another_nets_checkpoint_is_one_line(runner):
    runner.train("strong", "--head", "aspp", "--max-minutes", "1e-9")
    (runner.folder / "run" / "settings.json").unlink()
    told = runner.train("strong", "--resume", code=ExitStatus.FAILED)
    assert "the checkpoint in run is of another net" in told.err
    for name in (LAST, BEFORE):
        (runner.folder / "run" / name).write_bytes(b"noise")
    told = runner.train("strong", "--resume", code=ExitStatus.FAILED)
    assert "no checkpoint in run can be read" in told.err and told.err.count("\n") == 1


def test_a_loss_that_is_no_number_keeps_the_checkpoint(runner):
    told = runner.train("strong", "--lr", 1e30, "--save-minutes", "1e-9", "--iterations", 20,
                        code=ExitStatus.FAILED)
    assert "its images are img00" in told.err and told.err.count("\n") == 1
    state = torch.load(runner.folder / "run" / LAST, weights_only=True)
    assert state["step"] >= 1
    assert not (runner.folder / "run" / "model.safetensors").exists()


def test_a_disk_that_is_full_is_one_line(runner, monkeypatch):
    def full(path, data, **_):
        raise WssegError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(run_folder, "atomic_write", full)
    told = runner.train("strong", code=ExitStatus.FAILED)
    assert "No space left on device" in told.err and told.err.count("\n") == 1


# -- learning ----------------------------------------------------------------------------------


def accuracy(folder: Path, found: str, truth: str) -> float:
    pairs = [(open_source(str(folder / found)).get(r.key).get("label"), r.get("label"))
             for r in open_source(str(folder / truth))]
    right = sum(int(((f == t) & (t != 255)).sum()) for f, t in pairs)
    return right / sum(int((t != 255).sum()) for _, t in pairs)


LEARN = ("--optimizer", "adam", "--lr", ".01", "--new-rate", "1", "--bias-rate", "1", "--batch",
         "8", "--scale", ".9", "1.2", "--iterations", "80", "--dropout", "0", "--weight-decay", "0",
         "--width", "24")


@pytest.fixture
def learnt(runner):
    """Train on coloured shapes; give the share of the test pixels that is right. The background
    alone is 69 % of them."""
    training.shapes(runner.folder)

    def learn(*words, out="run") -> float:
        runner.train(*LEARN, *words, "--overwrite", out=out)
        runner.predict(out, "test", "--write", "label", "-o", "found", "--overwrite")
        return accuracy(runner.folder, "found", "test")
    return learn


def test_it_learns_from_masks_and_from_two_kinds_side_by_side(learnt):
    assert learnt("masked") > .88
    assert learnt("few", "--weak", "tagged", "--weak-loss", "bbox-em", "--dual", "--shared",
                  "1") > .8


def test_em_adapt_learns_from_tags_what_em_fixed_cannot(learnt):
    """The order of Table 1 of wssl-2015; nothing is known of any pixel."""
    adapt, fixed = (learnt("--weak", "tagged", "--weak-loss", f"em-{how}")
                    for how in ("adapt", "fixed"))
    assert adapt > .6
    assert adapt > fixed + .2


def test_tags_do_no_harm_to_a_net_that_knows_a_little(learnt, runner):
    few = learnt("few", out="few_run")
    semi = learnt("few", "--weak", "tagged", "--weak-loss", "em-fixed", "--em-bias", 1, 1,
                  "--ratio", "1:1", "--init", "few_run/model.safetensors", "--lr", ".003")
    assert semi > few - .05 > .8
