"""Records as samples, and batches of them in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.conftest import make_label, make_record, write_place  # noqa: E402
from wsseg.errors import RecordError, WssegError  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.values import Boxes  # noqa: E402
from wsseg.train.augment import Augment  # noqa: E402
from wsseg.train.samples import Loader, Sample, Samples, augmented, stacked  # noqa: E402
from wsseg.train.sampling import Draw, Sampler  # noqa: E402

PLAIN = Augment(24, scale=(1, 1), flip=0)


def samples(folder, use="label", *, count=6, classes=3, kinds=("image", "label", "tags", "boxes"),
            **more) -> Samples:
    place = folder / f"{use}{count}"
    if not place.exists():
        write_place(place, (make_record(i, *kinds) for i in range(count)), kinds=kinds)
    source = open_source(str(place))
    return Samples(source, None, source.keys(), use, classes, **more)


# -- one sample --------------------------------------------------------------------------------


def test_each_kind_of_label_gives_its_tags(tmp_path):
    boxes = make_record(2, "boxes").get("boxes")
    for use in ("label", "tags", "boxes"):
        sample = samples(tmp_path, use).load(2)
        assert sample.key == "img002"
        assert np.array_equal(sample.photo, make_record(2, "image").get("image"))
        assert sample.tags.tolist() == [True, True, True]
        assert (sample.label is None) == (use != "label")
        assert (sample.boxes is None) == (use != "boxes")
    assert np.array_equal(samples(tmp_path / "a").load(2).label, make_label(2))
    assert np.array_equal(samples(tmp_path / "b", "boxes").load(2).boxes.xyxy, boxes.xyxy)


def test_what_does_not_fit_is_refused_with_its_numbers(tmp_path):
    photo = np.zeros((24, 32, 3), np.uint8)
    given = samples(tmp_path, classes=2)
    with pytest.raises(RecordError, match=r"label 2 at \d+ pixels, .* none of the 2 classes"):
        given.read(make_record(0, "label"), photo)
    with pytest.raises(WssegError, match="img003: label 2"):
        given.load(3)
    with pytest.raises(RecordError, match="the photo is 32x24, the label 24x32"):
        given.read(make_record(0, "label"), photo.transpose(1, 0, 2))
    given.use = "tags"
    with pytest.raises(RecordError, match="tag 2 is none of the 2 classes"):
        given.read(make_record(0, "tags"), photo)
    given.use = "boxes"
    with pytest.raises(RecordError, match="the photo is 32x24, the boxes 24x32"):
        given.read(make_record(0, "boxes"), photo.transpose(1, 0, 2))
    with pytest.raises(RecordError, match="has no boxes"):
        given.read(make_record(0, "label"), photo)


def test_the_weights_of_pixels_are_read_where_asked_for(tmp_path):
    record = make_record(0, "label")
    record.set("conf", np.full((24, 32), 99, np.uint8))
    photo = np.zeros((24, 32, 3), np.uint8)
    assert samples(tmp_path).read(record, photo).conf is None
    given = samples(tmp_path / "with", conf=True)
    assert (given.read(record, photo).conf == 99).all()
    assert given.read(make_record(0, "label"), photo).conf is None
    record.set("conf", np.zeros((24, 30), np.uint8))
    with pytest.raises(RecordError, match="the conf 24x30"):
        given.read(record, photo)


def test_all_maps_of_a_sample_are_varied_alike():
    """Photo, label and weights show one number for each pixel, before and after."""
    values = np.arange(1, 1 + 20 * 30).reshape(20, 30) % 200 + 1
    photo = np.repeat(values.astype(np.uint8)[..., None], 3, 2)
    boxes = Boxes(np.array([[3., 4, 9, 8]]), np.array([1]))
    sample = Sample("k", photo, values.astype(np.uint8), values.astype(np.uint8), None, boxes)
    for seed in range(20):
        made = augmented(sample, Augment(16, scale=(1, 1), flip=.5), seed)
        assert np.array_equal(made.photo[..., 0], made.label)
        assert np.array_equal(made.conf, made.label)
        if len(made.boxes.classes):
            x0, y0, x1, y1 = made.boxes.xyxy[0].astype(int)
            inside = np.zeros((16, 16), bool)
            inside[y0:y1, x0:x1] = True
            assert set(made.label[inside]) <= set(values[4:8, 3:9].ravel())
        assert np.array_equal(made.warp.label(sample.label), made.label)
    again = augmented(sample, Augment(16), 5), augmented(sample, Augment(16), 5)
    assert np.array_equal(again[0].photo, again[1].photo)


# -- batches -----------------------------------------------------------------------------------


def plain(key, *, label=None, conf=None, tags=3, size=(4, 5)) -> Sample:
    return Sample(key, np.full((*size, 3), ord(key[0]), np.uint8), label, conf, np.ones(tags, bool))


def test_strong_samples_come_first_and_what_lacks_is_filled():
    label, conf = np.zeros((4, 5), np.uint8), np.full((4, 5), 7, np.uint8)
    batch = stacked([plain("a"), plain("b", label=label, conf=conf), plain("c"),
                     plain("d", label=label + 1)],
                    [Draw("weak", 0, 10), Draw("strong", 0, 11), Draw("weak", 1, 12),
                     Draw("strong", 1, 13)])
    assert batch.keys == ["b", "d", "a", "c"]
    assert batch.strong == 2
    assert batch.seeds == [11, 13, 10, 12]
    assert batch.sources == ["strong", "strong", "weak", "weak"]
    assert batch.photos.shape == (4, 3, 4, 5) and batch.photos.stride()[1] == 1
    assert batch.photos[:, 0, 0, 0].tolist() == [ord(k) for k in batch.keys]
    assert batch.labels.dtype == torch.uint8
    assert batch.labels[:, 0, 0].tolist() == [0, 1, 255, 255]
    assert batch.conf[:, 0, 0].tolist() == [7, 255, 255, 255]


def test_without_a_strong_source_all_are_weak():
    """Once the first source counted as strong, and tags alone taught nothing at all."""
    batch = stacked([plain("a"), plain("b")], [Draw("weak", 0, 1), Draw("weak2", 0, 2)])
    assert batch.strong == 0


def test_sources_of_different_classes_go_into_one_batch():
    wide = np.full((4, 5), 300, np.uint16)
    batch = stacked([plain("a", label=wide, tags=2), plain("b", tags=5)],
                    [Draw("strong", 0, 1), Draw("weak", 0, 2)])
    assert batch.tags.tolist() == [[True] * 2 + [False] * 3, [True] * 5]
    assert batch.labels.dtype == torch.int32 and batch.labels[0, 0, 0] == 300


def loader(folder, batch=4, **more) -> Loader:
    sources = {"strong": samples(folder), "weak": samples(folder, "tags", count=5)}
    sampler = Sampler({n: len(s) for n, s in sources.items()}, batch, [1, 1])
    return Loader(sources, sampler, Augment(24), **more)


def same(one, other) -> bool:
    return (one.keys == other.keys and torch.equal(one.photos, other.photos)
            and torch.equal(one.labels, other.labels) and one.seeds == other.seeds)


def test_batches_depend_on_their_number_alone(tmp_path):
    few, many = loader(tmp_path, threads=1), loader(tmp_path, threads=5)
    plainly = [few.batch(i) for i in range(6)]
    assert all(map(same, few.batches(0, 6), plainly))
    assert all(map(same, many.batches(3, 6), plainly[3:]))
    assert len(list(many.batches(3, 6))) == 3
    assert list(many.batches(6, 6)) == []


def test_the_parts_of_all_processes_are_the_batch(tmp_path):
    whole = loader(tmp_path)
    parts = [loader(tmp_path, rank=rank, world=2) for rank in (0, 1)]
    for number in range(3):
        batch = whole.batch(number)
        seen = {}
        for part in parts:
            own = part.batch(number)
            assert own.strong == 1 and len(own.keys) == 2
            seen |= {s: (k, p) for s, k, p in zip(own.seeds, own.keys, own.photos)}
        assert seen.keys() == set(batch.seeds)
        for seed, key, photo in zip(batch.seeds, batch.keys, batch.photos):
            assert seen[seed][0] == key and torch.equal(seen[seed][1], photo)


def test_a_bad_record_ends_the_batches_with_its_name(tmp_path):
    given = loader(tmp_path, threads=3)
    victim = tmp_path / "label6" / "img003.image.png"
    victim.write_bytes(victim.read_bytes()[:-30])
    before = threading.active_count()
    with pytest.raises(WssegError, match="img003: image: photo damaged"):
        for _ in given.batches(0, 40):
            pass
    assert threading.active_count() == before


def test_leaving_the_batches_ends_the_threads(tmp_path):
    before = threading.active_count()
    batches = loader(tmp_path, threads=3).batches(0, 40)
    next(batches)
    batches.close()
    assert threading.active_count() == before
