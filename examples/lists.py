"""Lists of keys, as published code writes them: a key, an image's path, or that and its mask's.

    python lists.py rest ALL.txt SOME.txt        print the keys of ALL that SOME does not have
    python lists.py check PHOTOS [LIST MASKS]... tell photos and masks (- for none) that a LIST
                                                 names in vain
    python lists.py aug SBD VOC2012 FOLDER       write trainaug.txt, sbd.txt and voc.txt

It needs no wsseg, for `make data` comes before that is installed; lists are read as
wsseg.data.lists reads them.

aug: trainaug.txt has the keys of VOC's train and of all of SBD that is not in VOC's val; the labels
of voc.txt (train and val) are VOC's, and those of sbd.txt are SBD's.
"""

from __future__ import annotations

import sys
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png")


def keys(path: Path) -> list[str]:
    """The keys of a list; of the path of an image, its name without the suffix."""
    found = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            name = words[0].rpartition("/")[2]
            stem, dot, suffix = name.rpartition(".")
            found.append(stem if f"{dot}{suffix}".lower() in SUFFIXES else words[0].strip("/"))
    return found


def lacking(wanted: list[str], folder: Path, *suffixes: str) -> str:
    """What a folder lacks of these keys, in words; '' for nothing."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    gone = [key for key in wanted if not any(key + suffix in there for suffix in suffixes)]
    if not gone:
        return ""
    return f"{len(gone):,} of {len(wanted):,} are not in {folder}, such as {gone[0]}"


def check(photos: Path, *pairs: Path) -> int:
    """Print what is missing of each list, and return the exit status."""
    status = 0
    for path, masks in zip(pairs[::2], pairs[1::2]):
        wanted = keys(path)
        for text in (lacking(wanted, photos, ".jpg", ".jpeg", ".png"),
                     "" if str(masks) == "-" else lacking(wanted, masks, ".png")):
            if text:
                print(f"{path}: {text}", file=sys.stderr)
                status = 1
    return status


def aug(sbd: Path, voc: Path, folder: Path) -> int:
    """Write the three lists; the exit status is 1 where SBD is not there."""
    found = {path.stem for path in (sbd / "cls").glob("*.mat")}
    if not found:
        print(f"there is no {sbd}/cls/*.mat: SBD= names the folder dataset of benchmark.tgz",
              file=sys.stderr)
        return 1
    lists = voc / "ImageSets" / "Segmentation"
    if not all((lists / f"{name}.txt").is_file() for name in ("train", "val")):
        print(f"there is no {lists} with train.txt and val.txt: name the VOC2012 folder",
              file=sys.stderr)
        return 1
    train, val = (set(keys(lists / f"{name}.txt")) for name in ("train", "val"))
    for name, some in (("trainaug", found - val | train), ("sbd", found - train - val),
                       ("voc", train | val)):
        (folder / f"{name}.txt").write_text("".join(f"{key}\n" for key in sorted(some)))
    print(f"trainaug.txt: {len(found - val | train):,} images (10,582 of the whole of SBD)")
    return 0


def main(arguments: list[str]) -> int:
    """Do what the first word says."""
    what, paths = arguments[:1], [Path(word) for word in arguments[1:]]
    if what == ["rest"] and len(paths) == 2:
        without = set(keys(paths[1]))
        print("".join(f"{key}\n" for key in keys(paths[0]) if key not in without), end="")
        return 0
    if what == ["check"] and len(paths) % 2:
        return check(*paths)
    if what == ["aug"] and len(paths) == 3:
        return aug(*paths)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
