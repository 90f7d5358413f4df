"""Count what lies in the data's folders, and say what is missing and where it comes from.

    python data.py VOC2012 [--coco COCO] [--cityscapes CITYSCAPES] [--scribbles FOLDER]
        [--record FILE.json]

A piece is here if it has as many files or lines as it should, and every image that a list names is
there. Its digest is compared with the one that --record FILE holds, which is written on first use:
that of a list is of its lines, that of a folder of names and sizes. Of what is unpacked nobody's
published digests are known here, so the first use is trusted. The exit status is 1 if a piece has
changed, if what every Makefile needs is missing, or if a list names what is not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lists import keys, lacking

VOC = "VOCtrainval_11-May-2012.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
SBD = ("labels of SBD beside VOC's: `make trainaug SBD=benchmark_RELEASE/dataset` makes them from "
       "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
       "semantic_contours/benchmark.tgz")
COCO_FROM = "of https://cocodataset.org"
CITY_FROM = "of https://www.cityscapes-dataset.com (after registration)"


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


LISTS, LACKS = "ImageSets/Segmentation/", "not all of"
PIECES = (
    Piece(LISTS + "train.txt", 1464, VOC),
    Piece(LISTS + "val.txt", 1449, VOC),
    Piece("JPEGImages", 2913, VOC, suffix=".jpg", of=("train", "val")),
    Piece("SegmentationClass", 2913, VOC, suffix=".png", of=("train", "val")),
    Piece("SegmentationObject", 2913, VOC, "instances of VOC (OBJECTS=)", ".png", ("train", "val")),
    Piece(LISTS + "trainaug.txt", 10582, "VOC's train and SBD, without VOC's val; " + SBD,
          "SCALE=paper"),
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
#: Cityscapes as flat folders, by its lists
FLAT = tuple(Piece(f"{split}.txt", count, f"gtFine_trainvaltest.zip {CITY_FROM}")
             for split, count in (("train", 2975), ("val", 500)))
CITYSCAPES = tuple(
    Piece(f"{part}/{split}", count, f"{part}_trainvaltest.zip {CITY_FROM}",
          "" if split != "test" else "the archive for Cityscapes' server", suffix)
    for part, suffix in (("leftImg8bit", "_leftImg8bit.png"), ("gtFine", "_gtFine_labelIds.png"))
    for split, count in (("train", 2975), ("val", 500), ("test", 1525)) if (part, split) != (
        "gtFine", "test"))


def entries(folder: Path, suffix: str) -> Iterator[tuple[str, int]]:
    """Name and size of the files with a suffix, by name; none where there is no folder. Those of
    Cityscapes lie in folders of cities."""
    paths = sorted(folder.rglob(f"*{suffix}") if "_" in suffix else folder.glob(f"*{suffix}"))
    return ((path.name, path.stat().st_size) for path in paths)


def look(root: Path, piece: Piece) -> tuple[list[str], int, str]:
    """Return what is wrong with a piece, how many it has, and its digest."""
    path = root / piece.path
    if not path.exists():
        return ["missing"], 0, ""
    if "test" in piece.of and not (root / LISTS / "test.txt").is_file():
        return ["there is no test.txt that says which"], 0, ""
    found = list(entries(path, piece.suffix)) if piece.suffix else \
        [(line, 0) for line in path.read_text().split("\n") if line.strip()]
    wrong = [] if len(found) >= piece.count else [f"{len(found):,} of {piece.count:,}"]
    for listed in (root / LISTS / f"{name}.txt" for name in piece.of):
        if listed.is_file() and (text := lacking(keys(listed), path, piece.suffix)):
            wrong.append(f"{LACKS} {listed.name}: {text}")
    text = "".join(f"{name}\t{size}\n" for name, size in found)
    return wrong, len(found), hashlib.sha256(text.encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Print a line for each piece, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("voc", type=Path)
    for name in ("coco", "cityscapes", "scribbles", "record"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args(arguments)
    known = json.loads(given.record.read_text()) if given.record and given.record.exists() else {}
    status = 0
    flat = given.cityscapes and (given.cityscapes / "train.txt").is_file()
    for root, pieces in ((given.cityscapes, FLAT if flat else CITYSCAPES), (given.voc, PIECES),
                         (given.scribbles, SCRIBBLES), (given.coco, COCO)):
        for piece in pieces if root else ():
            wrong, count, digest = look(root, piece)
            name = f"{root / piece.path} {piece.suffix} {' '.join(piece.of)}".strip()
            if digest and known.setdefault(name, digest) != digest:
                wrong.append(f"changed since {given.record} was written")
                status = 1
            status |= not piece.use and (not count or any(text.startswith(LACKS) for text in wrong))
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
