"""A flipped bit is an error or of no consequence, in every form; never a wrong label."""

from __future__ import annotations

import io
import random
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_label
from tests.faults.helpers import (contents, flips, full_record, make_header, stream_bytes,
                                  times, tool, write)
from wsseg.errors import ExitStatus, RecordError, UnsafeError, WssegError
from wsseg.io import codec
from wsseg.io.photo import decode_photo
from wsseg.io.places import open_source
from wsseg.io.png import SIGNATURE, decode_labels, encode_labels
from wsseg.io.stream import StreamSource
from wsseg.io.values import InstanceMap, Masks, ScoreMap, Segment

HEADER = make_header("boxes", "image")


def big_label() -> np.ndarray:
    rng = np.random.default_rng(5)
    label = np.kron(rng.integers(0, 21, (6, 8)), np.ones((8, 8), int)).astype(np.uint8)
    label[20:23] = 255
    return label


def saved(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
    """A PNG as other programs write it."""
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    elif mode is not None:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def handmade(pixels: np.ndarray, *, depth: int, colour: int = 0, interlaced: bool = False,
             pieces: int = 1) -> bytes:
    """A PNG of any bit depth, interlaced if asked for, its data in several chunks."""
    height, width = pixels.shape
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1)) if interlaced else ((0, 0, 1, 1),)
    raw = b""
    for y, x, dy, dx in passes:
        for row in pixels[y::dy, x::dx]:
            bits = np.unpackbits(row.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
            raw += b"\0" + np.packbits(bits[:, -depth:]).tobytes() if len(row) else b""
    data = zlib.compress(raw)
    step = -(-len(data) // pieces)
    return b"".join([
        SIGNATURE, chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0,
                                              interlaced)),
        chunk(b"PLTE", bytes(i % 256 for i in range(3 << depth))) if colour == 3 else b"",
        *(chunk(b"IDAT", data[i:i + step]) for i in range(0, len(data), step)),
        chunk(b"IEND", b"")])


def masks() -> dict[str, tuple[bytes, np.ndarray]]:
    """Name -> a PNG and the labels it holds."""
    label, bits = big_label(), (big_label() > 10).astype(np.uint8)
    deep = label.astype(np.uint16) * 200
    few = (label % 4).astype(np.uint8)
    return {
        "ours": (encode_labels(label), label),
        "ours, 16 bits": (encode_labels(deep), deep),
        "optimised palette": (saved(few, "P", optimize=True, bits=2), few),
        "palette with every filter": (saved(label, "P", compress_level=9), label),
        "interlaced palette": (handmade(label, depth=8, colour=3, interlaced=True), label),
        "grey": (saved(label), label),
        "grey in 7 chunks": (handmade(label, depth=8, pieces=7), label),
        "interlaced grey": (handmade(label, depth=8, interlaced=True), label),
        "1 bit": (handmade(bits, depth=1), bits),
        "1 bit interlaced": (handmade(bits, depth=1, interlaced=True), bits),
        "4-bit palette": (handmade(label % 16, depth=4, colour=3), label % 16),
    }


@pytest.mark.parametrize("name", masks())
def test_every_kind_of_mask_is_read_as_its_indices(name):
    data, label = masks()[name]
    assert (decode_labels(data) == label).all()


@pytest.mark.parametrize("name", masks())
def test_a_flipped_bit_never_changes_a_mask(name):
    """1,000 flips for our own masks, 300 for each foreign kind."""
    data, label = masks()[name]
    refused = 0
    for damaged in flips(data, times(1000 if name == "ours" else 300), 1):
        try:
            found = decode_labels(damaged)
        except (RecordError, UnsafeError):
            refused += 1
        else:
            assert found.dtype == label.dtype and (found == label).all()
    assert refused > 0


@pytest.mark.parametrize("name", masks())
def test_a_cut_mask_is_refused(name):
    data, _ = masks()[name]
    for cut in range(1, len(data), max(1, len(data) // 60)):
        with pytest.raises(RecordError):
            decode_labels(data[:cut])


@pytest.mark.parametrize("depth,interlaced", [(8, False), (8, True), (1, False), (16, False)])
def test_a_mask_with_too_few_pixels_is_refused(depth, interlaced):
    """Every checksum is right, but rows are missing: a decoder must not fill them with 0."""
    whole = handmade(np.ones((40, 16), np.uint8), depth=depth, interlaced=interlaced)
    short = zlib.compress(zlib.decompress(whole[41:-16])[:200 if depth == 8 else 60])
    with pytest.raises(RecordError):
        decode_labels(whole[:33] + chunk(b"IDAT", short) + chunk(b"IEND", b""))


def test_a_mask_of_two_or_four_bits_of_grey_is_never_scaled():
    """Pillow makes 17 of class 1 in a 4-bit grey map: indices, or a refusal."""
    for depth in (2, 4):
        label = (big_label() % (1 << depth)).astype(np.uint8)
        try:
            found = decode_labels(handmade(label, depth=depth))
        except RecordError:
            continue
        assert (found == label).all()


def score() -> ScoreMap:
    rng = np.random.default_rng(2)
    return ScoreMap(rng.random((3, 9, 11)).astype(np.float16), np.array([0, 2, 7]), (36, 44))


def test_a_flipped_bit_in_a_score_map_is_an_error_or_changes_nothing():
    value = score()
    data = codec.encode("score", value)["score.npz"]
    for damaged in flips(data, times(1000), 2):
        try:
            found = codec.decode("score", {"score.npz": damaged})
        except WssegError:
            continue
        assert (found.data == value.data).all() and found.data.dtype == value.data.dtype
        assert (found.classes == value.classes).all() and found.size == value.size


@pytest.mark.parametrize("kind", ["instance", "masks", "boxes", "tags", "counts", "points"])
def test_a_flipped_bit_in_any_kind_raises_nothing_but_our_errors(kind):
    label = make_label(1)
    ids, segments = (label % 255).astype(np.uint16), (Segment(1, 1), Segment(2, 2))
    values = {"instance": InstanceMap(ids, segments),
              "masks": Masks((4, 5), ((3, 17), (0, 20)), np.array([1, 2]), np.array([.5, 1])),
              "tags": (1, 2), "counts": {1: 2, 2: 10},
              "boxes": full_record(1, "boxes", extra=False).get("boxes")}
    if kind == "points":
        members = {"points.json": b'{"size":[4,5],"points":[{"class":1,"at":[2,3]}]}\n'}
    else:
        members = codec.encode(kind, values[kind])
    for suffix, data in members.items():
        for damaged in flips(data, times(500), 3):
            try:
                codec.decode(kind, {**members, suffix: damaged}, ("background", "cat", "dog"))
            except WssegError:
                pass


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_a_flipped_bit_in_a_photo_raises_nothing_but_our_errors(form):
    photo = full_record(3, "image").get("image")
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010e] = 1, "a photo"
    options = {"exif": exif} if form in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    Image.fromarray(photo).resize((96, 64)).save(out, form, **options)
    data = out.getvalue()
    cuts = (data[:i] for i in range(0, len(data), max(1, len(data) // 60)))
    for damaged in [*flips(data, times(250), 4), *flips(data[:120], times(150), 5), *cuts]:
        try:
            found = decode_photo(damaged)
        except WssegError:
            continue
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3


# -- places --------------------------------------------------------------------------------


def make_place(place: Path, count: int = 5) -> list:
    records = [full_record(i, "boxes", "image") for i in range(count)]
    packs = [(p, p.digest) for p in (r.pack() for r in records)]
    place.parent.mkdir(exist_ok=True)
    write(place, packs, HEADER)
    return packs


def facts(records, header) -> tuple:
    """All that must not change unseen."""
    return ([(r.digest, r.supervision) for r in records], header.classes, header.ignore,
            header.history, header.kinds, header.supervision)


def test_a_flipped_bit_in_a_stream_is_an_error_or_changes_nothing():
    """1,000 flips of records with labels, scores, boxes and a photo."""
    packs = [(p, p.digest) for p in (full_record(i, "boxes", "image").pack() for i in range(3))]
    data = stream_bytes(packs, HEADER)
    truth = facts([p for p, _ in packs], HEADER)
    passed = 0
    for damaged in flips(data, times(1000), 6):
        try:
            source = StreamSource(io.BytesIO(damaged), "stream")
            records = [r.stored() for r in source]
        except WssegError:
            continue
        passed += 1
        assert facts(records, source.header) == truth
    assert passed < times(1000) // 2


def test_a_flipped_bit_in_the_notes_of_a_stream_changes_nothing_unseen():
    """The same, all of it in headers, pax records and the end."""
    packs = [(p, p.digest) for p in (full_record(i, "boxes", extra=False).pack()
                                     for i in range(2))]
    data = stream_bytes(packs, HEADER)
    truth, rng = facts([p for p, _ in packs], HEADER), random.Random(7)
    spots = [i for i, byte in enumerate(data) if byte]
    for _ in range(times(1000)):
        damaged = bytearray(data)
        damaged[rng.choice(spots)] ^= 1 << rng.randrange(8)
        try:
            source = StreamSource(io.BytesIO(bytes(damaged)), "stream")
            records = [r.stored() for r in source]
        except WssegError:
            continue
        assert facts(records, source.header) == truth


def test_a_flipped_bit_in_a_stream_never_passes_through_ws_cat(tmp_path):
    packs = [(p, p.digest) for p in (full_record(i, "boxes").pack() for i in range(2))]
    data = stream_bytes(packs, HEADER)
    for damaged in flips(data, times(60), 8):
        done = tool("ws-cat", "-j1", stdin=damaged)
        if done.code:
            assert done.line
            continue
        source = StreamSource(io.BytesIO(done.out), "copy")
        assert facts([r.stored() for r in source], source.header) == \
            facts([p for p, _ in packs], HEADER)


def test_a_flipped_bit_in_a_directory_never_passes_through_ws_cat(tmp_path):
    """300 flips over all files; half of them in the notes, where a bit weighs more."""
    packs = make_place(tmp_path / "whole")
    names = [p for p in sorted((tmp_path / "whole").rglob("*")) if p.is_file()]
    notes = [p for p in names if p.parent.name == "__wsseg__"]
    truth, rng, place = facts([p for p, _ in packs], HEADER), random.Random(9), tmp_path / "place"
    shutil.copytree(tmp_path / "whole", place)
    wrong = []
    for n in range(times(300)):
        victim = rng.choice(notes if n % 2 else names)
        victim = place / victim.relative_to(tmp_path / "whole")
        whole = victim.read_bytes()
        damaged = bytearray(whole)
        at = rng.randrange(len(damaged))
        damaged[at] ^= 1 << rng.randrange(8)
        victim.write_bytes(damaged)
        done = tool("ws-cat", place, "-j1")
        victim.write_bytes(whole)
        assert done.code in (0, 1, 4, 5), done
        if done.code:
            assert done.line
            continue
        source = StreamSource(io.BytesIO(done.out), "copy")
        if facts([r.stored() for r in source], source.header) != truth:
            wrong.append((victim.name, bytes(whole[at - 9:at + 9]), bytes(damaged[at - 9:at + 9])))
    assert wrong == []


@pytest.mark.parametrize("name,change", [
    ("header.json", (b'"cat"', b'"dig"')), ("header.json", (b'"ignore": 255', b'"ignore": 250')),
    ("header.json", (b'"seed": 7', b'"seed": 8')), ("records.tsv", (b"[2,2]", b"[2,9]")),
    ("records.tsv", (b"img001\t", b"imgOO1\t")), ("records.tsv", (b"\n", b" "))])
def test_a_directory_whose_notes_were_changed_is_refused(name, change, tmp_path):
    """Class names, history and supervision are as much a part of the place as its records."""
    make_place(tmp_path / "place")
    notes = tmp_path / "place" / "__wsseg__" / name
    assert change[0] in notes.read_bytes()
    notes.write_bytes(notes.read_bytes().replace(*change, 1))
    done = tool("ws-cat", tmp_path / "place", "-j1", "-o", tmp_path / "copy")
    assert done.code in (ExitStatus.FAILED, ExitStatus.INCOMPLETE), done
    assert "place" in done.line
    assert not (tmp_path / "copy" / "__wsseg__" / "end.json").exists()


def test_a_flipped_bit_in_an_hdf5_file_never_changes_a_record_unseen(tmp_path):
    """300 flips: labels, scores, class names, supervision and names of records."""
    packs = make_place(tmp_path / "whole.h5", 3)
    data = (tmp_path / "whole.h5").read_bytes()
    damaged = tmp_path / "damaged.h5"
    values, notes, silent = [], [], 0
    truth = facts([p for p, _ in packs], HEADER)
    for n, flipped in enumerate(flips(data, times(300), 10)):
        damaged.write_bytes(flipped)
        try:
            source = open_source(str(damaged))
            records = [r.stored() for r in source]
        except WssegError:
            continue
        finally:
            if "source" in locals():
                source.close()
        silent += 1
        found = facts(records, source.header)
        if [r.members for r in records] != [p.members for p, _ in packs]:
            values.append(n)
        elif found != truth:
            notes.append(n)
    assert (values, notes) == ([], [])
    assert silent < times(300) // 2


@pytest.mark.parametrize("old,new", [
    (b'"cat"', b'"dig"'), (b'"boxes":[2,2]', b'"boxes":[2,9]'), (b"img001", b"imgOO1")])
def test_an_hdf5_file_whose_notes_were_changed_is_refused(old, new, tmp_path):
    """Where HDF5's own checksums do not reach: class names, supervision, names of records."""
    import h5py

    make_place(tmp_path / "place.h5", 3)
    with h5py.File(tmp_path / "place.h5", "r+") as file:
        if old == b"img001":
            for group in file.values():
                group.move("img001", "imgOO1")
        elif old == b'"cat"':
            header = file.attrs["wsseg_header"].tobytes().replace(old, new)
            file.attrs["wsseg_header"] = np.frombuffer(header, np.uint8)
        else:
            for group in file.values():
                group["img001"].attrs["supervision"] = new.decode().join("{}")
    done = tool("ws-cat", tmp_path / "place.h5", "-j1", "-o", tmp_path / "copy")
    assert done.code in (ExitStatus.FAILED, ExitStatus.INCOMPLETE), done
    assert "place.h5" in done.line or "imgOO1" in done.line or "img001" in done.line


def test_a_cut_hdf5_file_is_refused(tmp_path):
    make_place(tmp_path / "whole.h5", 3)
    data = (tmp_path / "whole.h5").read_bytes()
    for cut in range(0, len(data), max(1, len(data) // times(60))):
        (tmp_path / "cut.h5").write_bytes(data[:cut])
        with pytest.raises(WssegError):
            list(open_source(str(tmp_path / "cut.h5")))
    assert contents(tmp_path / "whole.h5")


def test_ws_info_check_finds_a_flipped_bit_anywhere_in_a_record(tmp_path):
    make_place(tmp_path / "place", 3)
    rng = random.Random(11)
    files = sorted(p for p in (tmp_path / "place").iterdir() if p.is_file())
    for _ in range(times(30)):
        victim = rng.choice(files)
        whole = victim.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        victim.write_bytes(damaged)
        done = tool("ws-info", "--check", "-j1", tmp_path / "place")
        victim.write_bytes(whole)
        assert done.code == ExitStatus.FAILED, victim
        assert victim.name.split(".")[0] in done.line
