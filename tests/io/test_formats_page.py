"""What wsseg-formats(5) promises, checked by readers written from that page alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib

import h5py
import numpy as np
from PIL import Image

from tests.conftest import make_label, make_record, write_place


def records(count: int = 4):
    return [make_record(i, "label", "boxes", "tags") for i in range(count)]


def read_tar(path):
    """Return header, end, {key: {suffix: bytes}} and the pax comments, by the page."""
    found, notes, header, end = {}, {}, None, None
    with tarfile.open(path) as tar:
        for info in tar:
            data = tar.extractfile(info).read()
            if info.name == "__wsseg__/header.json":
                header = json.loads(data)
            elif info.name == "__wsseg__/end.json":
                end = json.loads(data)
            else:
                key, _, suffix = info.name.partition(".")
                key = key.replace("%2E", ".").replace("%25", "%")
                found.setdefault(key, {})[suffix] = data
                if "comment" in info.pax_headers:
                    notes[key] = json.loads(info.pax_headers["comment"])
    return header, end, found, notes


def record_digest(key, members):
    digest = hashlib.sha256()
    for suffix in sorted(members):
        data = members[suffix]
        digest.update(f"{key}\0{suffix}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def test_a_tar_reads_as_the_page_says(tmp_path):
    header, end, found, notes = read_tar(write_place(tmp_path / "a.tar", records()))
    assert header["wsseg"] == 1 and header["classes"] == ["background", "cat", "dog"]
    assert len(found) == end["records"] == 4
    for key, members in found.items():
        assert notes[key].pop("sha256") == record_digest(key, members)
        assert notes[key] == {"members": 3, "supervision": {"boxes": [2, 2]}}
        label = np.asarray(Image.open(io.BytesIO(members["png"])))
        assert np.array_equal(label, make_label(int(key[3:])))
    assert end["supervision"] == {"boxes": [4, 8, 8]}
    numbers = [int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) for key in found]
    assert end["labelled"] == {"boxes": f"{sum(numbers) % 2**48:012x}"}


def test_digests_are_those_of_the_page(tmp_path):
    path = write_place(tmp_path / "a.tar", records())
    header, end, found, _ = read_tar(path)
    total, lines = 0, []
    for key in sorted(found):
        digest = record_digest(key, found[key])
        total += int(digest, 16)
        lines.append(f"{key}\t{digest}\t" + '{"boxes":[2,2]}')
    assert end["digest"] == f"sha256sum:{total % 2**256:064x}"
    text = json.dumps(header, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert end["header"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    write_place(tmp_path / "dir", records())
    assert (tmp_path / "dir/__wsseg__/records.tsv").read_text().splitlines() == lines


def test_hdf5_reads_as_the_page_says(tmp_path):
    path = write_place(tmp_path / "a.h5", records())
    with h5py.File(path) as file:
        header = json.loads(file.attrs["wsseg_header"].tobytes())
        end = json.loads(file.attrs["wsseg_end"].tobytes())
        assert header["wsseg"] == 1 and end["records"] == 4
        label = file["label/img002"]
        assert np.array_equal(label[()], make_label(2))
        digest, kinds = label.attrs["digest"].tobytes(), label.attrs["kinds"]
        kept = digest + kinds.tobytes()
        assert digest.hex() == records()[2].pack().digest and kinds == 3
        assert label.attrs["crc32"] == zlib.crc32(
            b"/label/img002" + label[()].tobytes() + kept + b'{"boxes":[2,2]}')
        boxes = file["boxes/img002"]
        assert boxes.attrs["suffix"] == "boxes.json"
        assert boxes.attrs["supervision"] == '{"boxes":[2,2]}'
        assert boxes.attrs["crc32"] == zlib.crc32(
            b"/boxes/img002" + boxes[()].tobytes() + kept + b'boxes.json{"boxes":[2,2]}')
        assert json.loads(boxes[()].tobytes())["size"] == [24, 32]
