"""A trained net's file: what is saved comes back, and nothing else is taken."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from tests import tinynet  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.model import find_model, load_model, model_bytes, read_card  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402
from wsseg.nets.tensorfile import read_tensors  # noqa: E402

CARD = {"classes": ["background", "cat", "dog"], "supervision": {"masks": [3, 4, 5]},
        "history": [{"tool": "ws-train", "arguments": [], "id": "1"}], "step": 7}


def a_net(**more):
    torch.manual_seed(1)
    return build(NetSpec("tiny", "largefov", 3, width=8, **more))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tinynet.install(monkeypatch)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(a_net(), CARD))
    return path


def parts(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write(path, header: dict, numbers: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


def with_card(path, **changes) -> None:
    header, numbers = parts(path)
    card = {**json.loads(header["__metadata__"]["wsseg"]), **changes}
    header["__metadata__"]["wsseg"] = json.dumps({k: v for k, v in card.items() if v != "gone"})
    write(path, header, numbers)


@pytest.mark.parametrize("more", [{}, {"dual": True, "shared": 1}, {"frozen_norm": True}])
def test_what_is_saved_comes_back(tmp_path, more):
    net, path = a_net(**more), tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(net, CARD))
    found, card = load_model(path)
    assert found.spec == net.spec and not found.training
    assert {k: card[k] for k in CARD} == CARD
    images = torch.rand(2, 3, 33, 41)
    with torch.no_grad():
        for branch in net.branches:
            torch.testing.assert_close(net.eval()(images, branch), found(images, branch))
    assert model_bytes(found, {k: card[k] for k in CARD}) == path.read_bytes()


def test_equal_nets_are_equal_bytes():
    assert model_bytes(a_net(), CARD) == model_bytes(a_net(), dict(reversed(CARD.items())))


def test_the_public_reader_reads_it(saved):
    safetensors = pytest.importorskip("safetensors.torch")
    theirs, ours = safetensors.load_file(str(saved)), a_net().state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[k], ours[k]) for k in ours)


def test_a_run_and_its_file_are_both_names_of_it(saved, tmp_path):
    assert find_model(str(tmp_path)) == find_model(str(saved)) == saved
    with pytest.raises(WssegError, match="none: no such model"):
        find_model("none")
    (tmp_path / "run").mkdir()
    with pytest.raises(WssegError, match="run holds no model.safetensors: is its training fin"):
        find_model(str(tmp_path / "run"))


def test_a_cut_file_is_refused(saved):
    whole = saved.read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:cut])
        with pytest.raises(WssegError, match="damaged"):
            load_model(saved)


def test_flipped_bits_are_found(saved):
    """safetensors has no checksum: the card's digest stands in."""
    whole = saved.read_bytes()
    before = read_tensors(str(saved))
    for place in range(8, len(whole), len(whole) // 300):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        saved.write_bytes(data)
        try:
            found = load_model(saved)[0].state_dict()
        except WssegError:
            continue
        assert all(torch.equal(found[k], before[k]) for k in before)


@pytest.mark.parametrize("changes, said", [
    ({"wsseg": 2}, "was written by a later wsseg"),
    ({"wsseg": "x"}, "its card is damaged"),
    ({"classes": "gone"}, "its card is damaged"),
    ({"classes": [1, 2, 3]}, r"its card is damaged \(classes\)"),
    ({"classes": ["a", "b"]}, "2 class names for 3 classes"),
    ({"supervision": {"masks": [1, 2]}}, r"damaged \(supervision\)"),
    ({"supervision": {"masks": [1, 2, -3]}}, r"damaged \(supervision\)"),
    ({"supervision": [1]}, r"damaged \(supervision\)"),
    ({"history": ["x"]}, r"damaged \(history\)"),
    ({"net": []}, r"damaged \(net\)"),
    ({"net": {"backbone": "tiny", "head": "largefov"}}, "net: classes is missing"),
    ({"net": {"backbone": "tiny", "head": "aspq", "classes": 3}}, "did you mean aspp"),
    ({"net": {"backbone": "tiny", "head": "largefov", "classes": 3, "width": 9}},
     "are not those of its net"),
    ({"net": {"backbone": "vgg16", "head": "aspp", "classes": 3, "width": 8192}},
     "are not those of its net"),
])
def test_a_card_that_does_not_fit_is_refused(saved, changes, said):
    with_card(saved, **changes)
    with pytest.raises(WssegError, match=said):
        load_model(saved)


@pytest.mark.parametrize("metadata", [None, [], {}, {"wsseg": 3}, {"wsseg": "no json"},
                                      {"wsseg": "[" * 99_000}, {"wsseg": "3"}])
def test_other_weights_are_no_model(saved, metadata):
    header, numbers = parts(saved)
    header["__metadata__"] = metadata
    write(saved, header, numbers)
    with pytest.raises(WssegError, match="card"):
        read_card(saved)


def test_a_model_without_the_newer_entries_is_read(saved):
    with_card(saved, sha256="gone", supervision="gone", history="gone")
    card = load_model(saved)[1]
    assert card["supervision"] == {} and card["history"] == []


def test_files_of_another_kind_are_refused_by_name(tmp_path):
    torch.save({}, tmp_path / "net.pth")
    with pytest.raises(WssegError, match="net.pth is no model of wsseg"):
        read_card(tmp_path / "net.pth")


def test_loading_does_not_draw_weights_nor_import_the_compiler(tmp_path):
    """Drawing on the device 'meta' imports torch._dynamo: two seconds for each ws-predict."""
    path = tmp_path / "model.safetensors"
    net = build(NetSpec("efficientnet-lite0", "conv6", 2, width=4))
    path.write_bytes(model_bytes(net, {"classes": None}))
    code = ("import sys, torch; from wsseg.nets.model import load_model\n"
            "state = torch.get_rng_state(); load_model(sys.argv[1])\n"
            "assert torch.equal(state, torch.get_rng_state())\n"
            "assert 'torch._dynamo' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, path], check=True)
