"""Photos with objects: what is kept of them, batches, and the order of tokens."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import RecordError  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.train.augment import Augment  # noqa: E402
from wsseg.train.rsis_samples import (ObjectLoader, Objects, ObjectSamples,  # noqa: E402
                                      squashed, stacked_objects, token_order)
from wsseg.train.sampling import Draw, Sampler  # noqa: E402

PLAIN = Augment(8, flip=0, squash=True)


def photo(size=(16, 24)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def ids_map() -> Objects:
    """Areas 12, 96 and 30 of 16x24, and one pixel that no pixel of 8x8 shows."""
    ids = np.zeros((16, 24), np.uint16)
    ids[:2, :6], ids[4:12, 3:15], ids[:5, 18:], ids[15, 23] = 1, 2, 3, 4
    return Objects((ids,), np.array([7, 8, 9, 6]), (ids != 3).view(np.uint8))


def test_the_largest_come_first_and_what_is_lost_is_left_out():
    sample = squashed("a", photo(), ids_map(), PLAIN, 0)
    assert sample.photo.shape == (8, 8, 3) and sample.valid.shape == (8, 8)
    assert sample.classes.tolist() == [8, 9, 7]
    areas = sample.masks.sum((1, 2))
    assert (np.diff(areas) <= 0).all() and areas.min() > 0
    assert not (sample.valid & sample.masks[1]).any()
    assert squashed("a", photo(), ids_map(), PLAIN, 0, most=2).classes.tolist() == [8, 9]


def test_masks_that_overlap_stay_whole():
    masks = np.zeros((2, 16, 24), np.uint8)
    masks[0, :8], masks[1, 4:12] = 1, 1
    sample = squashed("a", photo(), Objects(tuple(masks), np.array([1, 1])), PLAIN, 0)
    assert sample.masks.sum((1, 2)).tolist() == [32, 32]
    assert (sample.masks[0] & sample.masks[1]).sum() == 16 and sample.valid is None


def test_flips_take_the_masks_along():
    flipped = squashed("a", photo(), ids_map(), Augment(8, flip=1, squash=True), 0)
    plain = squashed("a", photo(), ids_map(), PLAIN, 0)
    assert np.array_equal(flipped.masks[:, :, ::-1], plain.masks)


def test_a_batch_is_padded():
    few = squashed("a", photo(), ids_map(), PLAIN, 0)
    none = squashed("b", photo(), Objects((), np.zeros(0, int)), PLAIN, 0)
    batch = stacked_objects([none, few], [Draw("weak", 0, 1), Draw("strong", 0, 2)], steps=2,
                            number=5)
    assert batch.masks.shape == (2, 3, 8, 8) and batch.objects.tolist() == [0, 3]
    assert batch.tokens.tolist() == [[0, 0], [8, 9]]  # the two largest
    assert batch.valid[0].all() and not batch.valid[1].all() and batch.number == 5
    assert batch.photos.is_contiguous(memory_format=torch.channels_last)
    empty = stacked_objects([none], [Draw("weak", 0, 1)], steps=2)
    assert empty.masks.shape[1] == empty.tokens.shape[1] == 1 and empty.valid is None


def test_orders_of_tokens_come_of_the_counts_alone():
    classes = np.array([3, 1, 3, 2, 3, 2])
    for order, expected in (("class", [1, 2, 2, 3, 3, 3]), ("count", [3, 3, 3, 2, 2, 1])):
        assert token_order(classes, order).tolist() == expected
        assert token_order(classes[::-1], order).tolist() == expected
    drawn = [token_order(classes[::step], "random", seed).tolist()
             for seed in range(5) for step in (1, -1)]
    assert drawn[::2] == drawn[1::2] and len({tuple(d) for d in drawn}) > 2
    assert all(sorted(d) == sorted(classes) for d in drawn)
    assert all(len(token_order(np.zeros(0, int), o)) == 0 for o in ("class", "count", "random"))


class Place:
    where = "place"

    def get(self, key):
        record = Record(key)
        record.set("image", photo())
        return record


def samples(find=lambda record, use: ids_map(), classes=10) -> ObjectSamples:
    return ObjectSamples(find, Place(), None, [str(i) for i in range(7)], "instance", classes)


def test_objects_that_do_not_fit_are_refused():
    small = Objects((np.zeros((4, 4), np.uint16),), np.zeros(0, int))
    record = Record("x")
    with pytest.raises(RecordError, match="the photo is 16x24, the instance 4x4"):
        samples(lambda *_: small).read(record, photo())
    with pytest.raises(RecordError, match="class 8 is none of the 8 classes"):
        samples(classes=8).read(record, photo())


def test_batches_are_the_same_from_wherever_a_run_goes_on():
    loader = ObjectLoader({"strong": samples()}, Sampler({"strong": 7}, 3), PLAIN, threads=2,
                          steps=2, order="random")
    whole = list(loader.batches(0, 5))
    again = [*loader.batches(3, 5), loader.batch(1)]
    for a, b in zip(again, (whole[3], whole[4], whole[1])):
        assert a.keys == b.keys and a.number == b.number
        assert torch.equal(a.photos, b.photos) and torch.equal(a.tokens, b.tokens)
    assert [b.number for b in whole] == [0, 1, 2, 3, 4]
