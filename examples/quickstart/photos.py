"""Export the photos of the quickstart from packages that are already installed.

Usage: ``python photos.py OUTDIR`` writes OUTDIR/KEY.jpg for every key of PHOTOS.

No photo is kept in this repository: each one ships inside the wheel of scikit-image,
scikit-learn or matplotlib, and its credit below is the one that package states.  A JPEG
that is small enough is copied byte for byte; the others are written as JPEG, quality 95,
with the long side at most MAX_SIDE pixels.  The annotations in weak/ and reference/ are
in the pixel coordinates of the exported photos.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image

MAX_SIDE = 640


class Photo(NamedTuple):
    """Where one photo lies, and its credit as its package states it."""

    package: str
    file: str
    credit: str


MIDDLEBURY = "Middlebury 2014 stereo benchmark, Nesic, Scharstein et al.; no licence stated"
HOPPER = "Grace Hopper in uniform; matplotlib's sample data, no credit or licence stated"
FLICKR = "Flickr, CC BY 2.0 (sklearn/datasets/images/README.txt)"
PHOTOS: dict[str, Photo] = {
    "astronaut": Photo(
        "skimage", "data/astronaut.png", "Eileen Collins, NASA Great Images database; public domain"
    ),
    "cat": Photo("skimage", "data/chelsea.png", "Chelsea the cat, Stefan van der Walt; CC0"),
    "coffee": Photo("skimage", "data/coffee.png", "Rachel Michetti, Pikolo Espresso Bar; CC0"),
    "motorbike": Photo("skimage", "data/motorcycle_left.png", MIDDLEBURY),
    "rocket": Photo("skimage", "data/rocket.jpg", "DSCOVR launch, SpaceX; public domain"),
    "flower": Photo(
        "sklearn", "datasets/images/flower.jpg", f"danielbuechele (link: vultilion); {FLICKR}"
    ),
    "palace": Photo("sklearn", "datasets/images/china.jpg", f"danielbuechele; {FLICKR}"),
    "hopper": Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", HOPPER),
}


def locate(photo: Photo) -> Path:
    """The file of a photo, found without importing its package; SystemExit where missing."""
    spec = importlib.util.find_spec(photo.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / photo.file
        if path.is_file():
            return path
    what = f"has no {photo.file}" if spec else "is not installed"
    raise SystemExit(f"photos.py: package {photo.package} {what}: pip install 'wsseg[demo]'")


def export(key: str, folder: Path) -> Path:
    """Write one photo as FOLDER/KEY.jpg and return that path."""
    source, target = locate(PHOTOS[key]), folder / f"{key}.jpg"
    with Image.open(source) as image:
        if image.format == "JPEG" and max(image.size) <= MAX_SIDE:
            shutil.copyfile(source, target)
            return target
        photo = image.convert("RGB")
    scale = min(1.0, MAX_SIDE / max(photo.size))
    if scale < 1:
        size = (round(photo.width * scale), round(photo.height * scale))
        photo = photo.resize(size, Image.Resampling.LANCZOS)
    photo.save(target, quality=95)
    return target


def main(arguments: list[str]) -> int:
    """Export every photo; 2 on wrong usage."""
    if len(arguments) != 1:
        print("usage: python photos.py OUTDIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for key in PHOTOS:
        print(export(key, folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
