"""Count what lies in the data's folders, and say what is missing and where it comes from.

    python data.py VOC2012 [--coco COCO] [--scribbles FOLDER] [--record FILE.json]

A piece is here if it has as many files or lines as it should, and every image that a list names is
there. Its digest is compared with the one that --record FILE holds, which is written on first use:
that of a list is of its lines, that of a folder of names and sizes. Nobody's published digests are
known here, so the first use is trusted. The exit status is 1 if a piece has changed, or if what
every Makefile needs is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VOC = "VOCtrainval_11-May-2012.tar of host.robots.ox.ac.uk/pascal/VOC/voc2012"
SBD = ("labels of SBD (the Semantic Boundaries Dataset of Hariharan et al., benchmark.tgz) beside "
       "VOC's, as id.png with VOC's class ids; known as SegmentationClassAug")
COCO_FROM = "of cocodataset.org"


@dataclass(frozen=True)
class Piece:
    """path: below the folder; count: how many lines (.txt) or files (suffix) it has, at least;
    where: what to download; use: what needs it, '' for everything; of: lists whose keys must be
    there."""

    path: str
    count: int
    where: str
    use: str = ""
    suffix: str = ""
    of: tuple[str, ...] = ()


LISTS = "ImageSets/Segmentation/"
PIECES = (
    Piece(LISTS + "train.txt", 1464, VOC),
    Piece(LISTS + "val.txt", 1449, VOC),
    Piece("JPEGImages", 2913, VOC, suffix=".jpg", of=("train", "val")),
    Piece("SegmentationClass", 2913, VOC, suffix=".png", of=("train", "val")),
    Piece("SegmentationObject", 2913, VOC, "instances of VOC (OBJECTS=)", ".png", ("train", "val")),
    Piece(LISTS + "trainaug.txt", 10582, "the list that comes with the " + SBD, "SCALE=paper"),
    Piece("SegmentationClassAug", 12031, SBD, "SCALE=paper (10,582 of trainaug and 1,449 of val)",
          ".png", ("trainaug", "val")),
    Piece("JPEGImages", 12031, VOC, "SCALE=paper", ".jpg", ("trainaug", "val")),
    Piece(LISTS + "test.txt", 1456, "VOC2012test.tar of the PASCAL VOC evaluation server",
          "archives for the test server"),
    Piece("JPEGImages", 1456, "VOC2012test.tar, unpacked into the same folder",
          "archives for the test server", ".jpg", ("test",)))
SCRIBBLES = (
    Piece("", 10582, "ScribbleSup (Lin et al.): scribble_annotation.zip, the folder pascal_2012",
          "scribbles-2019 with SCRIBBLESUP=", ".xml"),)
COCO = (
    Piece("train2017", 118287, "train2017.zip " + COCO_FROM, "COCO's tables", ".jpg"),
    Piece("val2017", 5000, "val2017.zip " + COCO_FROM, "COCO's tables", ".jpg"),
    Piece("annotations", 2, "annotations_trainval2017.zip " + COCO_FROM, "COCO's tables",
          "2017.json"))


def entries(folder: Path, suffix: str) -> Iterator[tuple[str, int]]:
    """Name and size of the files with a suffix, by name; none where there is no folder."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else ()
    return ((path.name, path.stat().st_size) for path in paths if path.name.endswith(suffix))


def look(root: Path, piece: Piece) -> tuple[list[str], int, str]:
    """Return what is wrong with a piece, how many it has, and its digest."""
    path = root / piece.path
    if not path.exists():
        return ["missing"], 0, ""
    found = list(entries(path, piece.suffix)) if piece.suffix else \
        [(line, 0) for line in path.read_text().split("\n") if line.strip()]
    wrong = [] if len(found) >= piece.count else [f"{len(found):,} of {piece.count:,}"]
    names = {name for name, _ in found}
    for name in piece.of:
        keys = root / LISTS / f"{name}.txt"
        lacking = [key for key in keys.read_text().split() if key + piece.suffix not in names] \
            if keys.is_file() else []
        if lacking:
            wrong.append(f"{len(lacking):,} of {name}.txt are not there, the first {lacking[0]}")
    text = "".join(f"{name}\t{size}\n" for name, size in found)
    return wrong, len(found), hashlib.sha256(text.encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Print a line for each piece, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("voc", type=Path)
    for name in ("coco", "scribbles", "record"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args(arguments)
    known = json.loads(given.record.read_text()) if given.record and given.record.exists() else {}
    status = 0
    for root, pieces in ((given.voc, PIECES), (given.scribbles, SCRIBBLES), (given.coco, COCO)):
        for piece in pieces if root else ():
            wrong, count, digest = look(root, piece)
            name = f"{root / piece.path} {piece.suffix} {' '.join(piece.of)}".strip()
            if digest and known.setdefault(name, digest) != digest:
                wrong.append(f"changed since {given.record} was written")
                status = 1
            status |= not piece.use and not count
            print(f"{'; '.join(wrong) or 'ok'}: {root / piece.path}"
                  + (f" ({count:,})" if count else "")
                  + (f", for {piece.use}" if piece.use else ""))
            if wrong:
                print(f"    it should have {piece.count:,}: {piece.where}")
    if given.record:
        given.record.parent.mkdir(parents=True, exist_ok=True)
        given.record.write_text(json.dumps(known, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
