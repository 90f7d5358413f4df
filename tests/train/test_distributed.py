"""Several processes give what one with the joined batch gives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.conftest import ROOT  # noqa: E402
from tests.training import QUICK, places, wait_for  # noqa: E402
from tests.warm import warm  # noqa: E402
from wsseg.errors import ExitStatus, UsageError  # noqa: E402
from wsseg.nets.layers import FrozenNorm  # noqa: E402
from wsseg.nets.tensorfile import read_tensors  # noqa: E402
from wsseg.train import distributed  # noqa: E402
from wsseg.train.distributed import join_group, pick_device, share_norms, use_bf16  # noqa: E402

STILL = (*QUICK, "--frozen-norm", "--dropout", "0", "--lr", ".01")
#: No batch norm beyond the backbone, and nothing but photo in view: EM-Adapt would choose among
#: the equal scores around it by their last bit.
CALM = ("--backbone", "plain", "--scale", "1.5", "2")


def free_port() -> str:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return str(link.getsockname()[1])


def started(folders, *words) -> list:
    """Two processes as torchrun starts them, in one folder or in one each."""
    port, folders = free_port(), folders if isinstance(folders, tuple) else (folders, folders)
    return [warm().spawn(["ws-train", *words], folder, {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": port,
        "MASTER_ADDR": "127.0.0.1"}) for rank, folder in enumerate(folders)]


def pair(folder, *words) -> list:
    """The same; they have ended."""
    tools = started(folder, *words)
    for tool in tools:
        tool.status = tool.wait()
    return tools


def alone(folder, *words) -> None:
    tool = warm().spawn(["ws-train", *words], folder)
    assert tool.wait() == ExitStatus.OK, tool.said


def assert_same(folder, one="one", two="two", start=None) -> None:
    a, b = (read_tensors(str(folder / name / "model.safetensors")) for name in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("words", [
    ["strong"],
    [*CALM, "strong", "--weak", "weak", "--weak-loss", "em-adapt", "--dual", "--shared", "1",
     "--accumulate", "2", "--l2sp", ".1", ".01"],
    ["strong", "--weak", "weak", "--weak-loss", "em-fixed"],  # parts differ in strong images
    ["--weak", "weak", "--weak-loss", "mil-lse", "--optimizer", "adam", "--lr", "1e-4"],
    ["strong", "--weak", "val", "--join-classes"],
], ids=["strong", "dual", "mixture", "mil", "joint"])
def test_two_processes_are_as_one(tmp_path, words):
    places(tmp_path)
    alone(tmp_path, *STILL, *words, "-o", "one")
    tools = pair(tmp_path, *STILL, *words, "-o", "two")
    assert [t.status for t in tools] == [0, 0], [t.said for t in tools]
    assert_same(tmp_path)
    assert (tmp_path / "two" / "log.jsonl").read_text().count("\n") == 1


def test_torchrun_starts_them(tmp_path):
    places(tmp_path)
    words = [*STILL, "--backbone", "efficientnet-lite0", "--stride", "32", "--iterations", "2",
             "strong", "--weak", "weak", "--weak-loss", "em-fixed", "--ratio", "1:1"]
    alone(tmp_path, *words, "-o", "one")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
         free_port(), "-m", "wsseg.cli.train", *words, "-o", "two"], cwd=tmp_path,
        capture_output=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"model ") == 1
    assert_same(tmp_path)


def test_they_stop_together_and_go_on(tmp_path):
    """The first evaluates while the other waits; its clock decides."""
    places(tmp_path)
    words = [*STILL, "strong", "--val", "val", "--val-every", "1", "--select", "best"]
    alone(tmp_path, *words, "-o", "one")
    for limit in ("1e-9", "1e-9", "10"):
        tools = pair(tmp_path, *words, "-o", "two", "--resume", "--max-minutes", limit)
        assert [t.status for t in tools] == [0, 0], [t.said for t in tools]
    assert_same(tmp_path)
    log = (tmp_path / "two" / "log.jsonl").read_text()
    assert log.count("val_miou") == 4
    tools = pair(tmp_path, *words, "-o", "two", "--resume")
    assert "two is finished already" in tools[0].said


def test_a_signal_that_one_of_them_gets_stops_both(tmp_path):
    places(tmp_path)
    words = [*STILL, "strong", "--iterations", "400", "--log-every", "1", "-o", "two"]
    tools = started(tmp_path, *words)
    log = tmp_path / "two" / "log.jsonl"
    wait_for(tools[0], log, 3)
    os.kill(tools[1].pid, signal.SIGTERM)
    assert [t.wait() for t in tools] == [0, -signal.SIGTERM], [t.said for t in tools]
    assert "--resume goes on" in tools[0].said
    stopped = len(log.read_text().splitlines())
    assert 3 <= stopped < 400
    tools = pair(tmp_path, *words, "--resume", "--max-minutes", "1e-9")
    assert [t.status for t in tools] == [0, 0], [t.said for t in tools]
    assert len(log.read_text().splitlines()) == stopped + 1


def test_processes_that_would_go_on_after_different_steps_are_refused(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        places(tmp_path / name)
    words = [*STILL, "strong", "-o", "run", "--resume"]
    tools = pair(tmp_path / "here", *words, "--max-minutes", "1e-9")
    assert [t.status for t in tools] == [0, 0], [t.said for t in tools]
    tools = started((tmp_path / "here", tmp_path / "there"), *words)
    assert [t.wait() for t in tools] == [ExitStatus.FAILED] * 2
    assert all("would go on after step 0, another after 1" in t.said for t in tools)


def test_each_names_its_images_when_the_loss_is_no_number(tmp_path):
    places(tmp_path)
    tools = pair(tmp_path, *QUICK, "strong", "--lr", "1e30", "--iterations", "20", "-o", "two")
    assert [t.status for t in tools] == [ExitStatus.FAILED] * 2
    named = [t.said.split("its images are ")[1].split(" (")[0].split(", ") for t in tools]
    assert all(len(keys) == 2 for keys in named) and named[0] != named[1]


def test_one_that_is_refused_does_not_leave_the_other_waiting(tmp_path):
    places(tmp_path)
    alone(tmp_path, *QUICK, "strong", "-o", "two")
    tools = pair(tmp_path, *QUICK, "strong", "-o", "two")
    assert tools[0].status == ExitStatus.USAGE and "two exists" in tools[0].said
    assert tools[1].status != 0


def test_a_batch_must_divide(tmp_path):
    places(tmp_path)
    tools = pair(tmp_path, *QUICK, "strong", "--batch", "5", "-o", "two")
    assert [t.status for t in tools] == [ExitStatus.USAGE] * 2
    for tool in tools:
        assert "2 processes cannot share 5 samples of a batch evenly" in tool.said


# -- parts -------------------------------------------------------------------------------------


def test_norms_are_shared_but_for_frozen_ones():
    """torch's own conversion takes a FrozenNorm for any batch norm, and so would train it."""
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(FrozenNorm(2), nn.Conv2d(2, 2, 1)))
    frozen, weight = net[1][0], net[0].weight
    share_norms(net)
    assert isinstance(net[0], nn.SyncBatchNorm) and net[0].weight is weight
    assert net[1][0] is frozen
    net.train()
    assert not frozen.training


def test_without_torchrun_there_is_one(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert join_group(torch.device("cpu")) == (0, 1)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_group(torch.device("cpu")) == (0, 1)
    model = nn.Linear(1, 1)
    assert distributed.wrapped(model, torch.device("cpu")) is model


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device(None) == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="--device cuda: PyTorch sees no GPU here"):
        pick_device("cuda")
    for name in ("tpu", "cuda:x", "cuda:-1", "cpu:", "", "CUDA"):
        with pytest.raises(UsageError, match="is not auto, cpu, cuda or cuda:N"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
    assert pick_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(UsageError, match="--device cuda:2: there are 2 GPUs"):
        pick_device("cuda:2")


def test_precision_by_name(monkeypatch):
    gpu = SimpleNamespace(type="cuda")
    assert use_bf16("bf16", gpu) and not use_bf16("fp32", gpu)
    for capability, has in (((8, 0), True), ((9, 0), True), ((7, 5), False)):  # Turing emulates it
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert use_bf16("auto", gpu) is has
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not use_bf16("auto", torch.device("cpu"))
