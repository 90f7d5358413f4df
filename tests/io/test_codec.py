"""Values to bytes and back, for the kinds that are neither JSON nor a plain picture."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.io.conftest import make_value, same
from wsseg.errors import RecordError, UnsafeError
from wsseg.io import npz as npz_reader
from wsseg.io.codec import check_classes, decode, encode
from wsseg.io.kinds import KINDS
from wsseg.io.png import encode_labels, voc_palette
from wsseg.io.values import InstanceMap, ScoreMap, Segment

DATA = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)


def score(data=DATA, classes=(1, 5), size=(6, 8)) -> ScoreMap:
    return ScoreMap(np.asarray(data), np.asarray(classes, np.int64), size)


def npz(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


SOUND = {"data": DATA, "classes": np.array([1, 5]), "size": np.array([6, 8])}


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1 << 30))
def test_every_kind_survives_and_equal_values_give_equal_bytes(kind, seed):
    value = make_value(kind, np.random.default_rng(seed))
    members = encode(kind, value)
    again = decode(kind, members)
    assert same(again, value)
    assert encode(kind, again) == members
    assert set(members) <= set(KINDS[kind].suffixes)


def test_an_unknown_kind_is_its_bytes():
    assert encode("txt", b"abc") == {"txt": b"abc"}
    assert decode("txt", {"txt": b"abc"}) == b"abc"


def test_a_score_file_is_plain_numpy_without_pickle_and_without_dates():
    (name, data), = encode("score", score()).items()
    assert name == "score.npz"
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        assert sorted(arrays) == ["classes", "data", "size"]
        np.testing.assert_array_equal(arrays["data"], DATA)
        assert arrays["classes"].tolist() == [1, 5] and arrays["size"].tolist() == [6, 8]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: a.T.copy().T,
                                    lambda a: np.repeat(a, 2, 2)[..., ::2]])
def test_equal_scores_give_equal_bytes_whatever_their_memory_layout(layout):
    """A Fortran-ordered array came back from HDF5 in C order, and so as other bytes."""
    assert np.array_equal(layout(DATA), DATA)
    assert encode("score", score(layout(DATA))) == encode("score", score())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_scores_dtype_is_kept(dtype):
    found = decode("score", encode("score", score(DATA.astype(dtype))))
    assert found.data.dtype == dtype and found.size == (6, 8)


def test_no_class_at_all_is_a_score():
    found = decode("score", encode("score", score(np.zeros((0, 3, 4), np.float32), ())))
    assert found.data.shape == (0, 3, 4) and found.classes.shape == (0,)


@pytest.mark.parametrize("change, message", [
    ({"data": DATA.astype(np.float64)}, "float16 or float32 (K, h, w); got float64 (2, 3, 4)"),
    ({"data": (DATA > .5).astype(np.uint8)}, "got uint8"),
    ({"data": DATA[0]}, "got float32 (3, 4)"),
    ({"classes": [1]}, "one ascending class id per map; got 1 for 2 maps"),
    ({"classes": [5, 1]}, "one ascending class id per map"),
    ({"classes": [5, 5]}, "one ascending class id per map"),
    ({"data": np.where(DATA == DATA[1, 2, 3], np.nan, DATA)}, "not finite, first at (1, 2, 3)"),
    ({"data": np.where(DATA == DATA[0, 1, 0], np.inf, DATA)}, "not finite, first at (0, 1, 0)"),
    ({"data": DATA * 9 - 4}, "these look like logits, apply a softmax"),
    ({"data": DATA - 0.5}, "not in [0, 1]")])
@pytest.mark.parametrize("kind", ["score", "cam"])
def test_a_score_that_is_none_is_refused_when_read_and_when_written(change, message, kind):
    arrays = {**SOUND, **{k: np.asarray(v) for k, v in change.items()}}
    with pytest.raises(RecordError) as caught:
        decode(kind, {f"{kind}.npz": npz(**arrays)})
    assert message in str(caught.value) and str(caught.value).startswith(kind)
    with pytest.raises(RecordError) as caught:
        encode(kind, ScoreMap(arrays["data"], arrays["classes"], (6, 8)))
    assert message in str(caught.value)


@pytest.mark.parametrize("classes", [[-1, 1], [1, 70000], [1, 255]])
def test_a_score_of_a_class_that_cannot_be_is_refused(classes):
    """As uint16, -1 and 70000 would become other classes without a word."""
    with pytest.raises(RecordError, match="class"):
        encode("score", score(classes=classes))


def test_rounding_beyond_0_and_1_is_let_through():
    data = np.array([[[-5e-4, 1.0005]]], np.float32)
    assert same(decode("score", encode("score", score(data, (1,)))).data, data)


@pytest.mark.parametrize("missing", ["data", "classes", "size"])
def test_a_missing_array_is_named(missing):
    arrays = {k: v for k, v in SOUND.items() if k != missing}
    with pytest.raises(RecordError, match=f"score map has no .*{missing}"):
        decode("score", {"score.npz": npz(**arrays)})


def test_a_size_that_is_none_is_refused():
    with pytest.raises(RecordError, match=r"size is \[6, 8, 3\], not \[H, W\]"):
        decode("score", {"score.npz": npz(**{**SOUND, "size": np.array([6, 8, 3])})})


def test_a_pickle_is_never_loaded():
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    array = np.empty(1, object)
    array[0] = Trap()
    with pytest.raises(UnsafeError, match="score map has pickled objects"):
        decode("score", {"score.npz": npz(**{**SOUND, "data": array})})
    with pytest.raises(RecordError, match="score map damaged"):
        decode("score", {"score.npz": pickle.dumps(Trap())})


def test_what_is_no_npz_is_called_by_its_name():
    with pytest.raises(RecordError, match="score map damaged: a PNG"):
        decode("score", {"score.npz": encode_labels(np.zeros((2, 2), np.uint8))})
    out = io.BytesIO()
    np.save(out, DATA)
    with pytest.raises(RecordError, match="score map damaged: a numpy file"):
        decode("score", {"score.npz": out.getvalue()})


def test_a_score_map_that_declares_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(npz_reader, "MAX_BYTES", 100)
    with pytest.raises(UnsafeError, match="declares .* bytes of data.npy"):
        decode("score", encode("score", score()))


IDS = np.array([[0, 3], [7, 7]], np.uint16)


def test_an_instance_map_needs_both_members():
    members = encode("instance", InstanceMap(IDS, (Segment(3, 1), Segment(7, 2))))
    assert sorted(members) == ["inst.json", "inst.png"]
    for gone in members:
        with pytest.raises(RecordError, match="an instance map is two members"):
            decode("instance", {k: v for k, v in members.items() if k != gone})


@pytest.mark.parametrize("segments, odd", [((Segment(3, 1),), "[7]"),
                                           ((Segment(3, 1), Segment(7, 1), Segment(9, 1)), "[9]")])
def test_map_and_list_of_instances_must_hold_the_same_ids(segments, odd):
    with pytest.raises(RecordError) as caught:
        encode("instance", InstanceMap(IDS, segments))
    assert f"differ: {odd}" in str(caught.value)


def test_instance_ids_are_16_bit_even_if_small():
    value = InstanceMap(np.array([[0, 1]], np.uint16), (Segment(1, 1),))
    found = decode("instance", encode("instance", value))
    assert found.ids.dtype == np.uint16
    png = encode_labels(np.array([[0, 1]], np.uint8))
    eight_bit = {**encode("instance", value), "inst.png": png}
    assert same(decode("instance", eight_bit), value)


@pytest.mark.parametrize("most, depth", [(255, 8), (256, 16), (65535, 16)])
def test_instance_ids_are_stored_in_as_few_bits_as_hold_them(most, depth):
    value = InstanceMap(np.array([[0, 1, most]], np.uint16), (Segment(1, 1), Segment(most, 2)))
    members = encode("instance", value)
    assert members["inst.png"][24:26] == bytes([depth, 0])  # PNG bit depth, grey
    assert same(decode("instance", members), value)


def test_labels_in_a_jpeg_are_refused():
    with pytest.raises(RecordError, match="labels in a JPEG are damaged"):
        decode("label", {"png": b"\xff\xd8\xff\xe0"})


def test_an_empty_file_is_refused():
    for kind in sorted(set(KINDS) - {"image", "instance"}):
        with pytest.raises(RecordError, match="^empty file$"):
            decode(kind, {KINDS[kind].suffixes[0]: b""})


def test_confidence_is_written_in_grey():
    (name, data), = encode("conf", np.zeros((2, 2), np.uint8)).items()
    assert name == "conf.png" and data[25] == 0  # PNG colour type


NAMES = ("background", "cat", "dog")


def test_labels_of_known_classes_pass():
    for label in (np.array([[0, 1, 2, 255]]), np.zeros((0, 3), int)):
        check_classes(label.astype(np.uint8), NAMES)
    check_classes(np.array([[77]], np.uint8), None)
    check_classes(np.array([[9, 0]], np.uint8), NAMES, ignore=9)


def test_an_unknown_value_is_told_with_count_and_place():
    label = np.zeros((4, 6), np.uint8)
    label[2, 3:5] = 77
    label[3, 0] = 255
    with pytest.raises(RecordError) as caught:
        check_classes(label, NAMES)
    assert str(caught.value) == ("2 pixels are of no known class: value 77 at x=3, y=2, but there "
                                 "are 3 classes; map it away with ws-cat --remap")


def test_a_palette_read_as_grey_is_recognised():
    """Pillow's convert('L') and cv2 give these values for VOC's colours."""
    names = tuple(map(str, range(21)))
    rgb = voc_palette(21)[np.arange(21)][None]
    from PIL import Image

    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    with pytest.raises(RecordError, match="grey values of VOC's palette"):
        check_classes(grey, names)


def test_raw_cityscapes_ids_are_recognised():
    with pytest.raises(RecordError, match="Cityscapes label ids: use ws-cat --from cityscapes"):
        check_classes(np.arange(34, dtype=np.uint8)[None], tuple(map(str, range(19))))
