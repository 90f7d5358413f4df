"""Random scale, crop, flip, rotation, squash and colour of a photo and of all that is drawn on it.

``Augment`` says how far; ``draw`` takes one sample's numbers from a generator and composes them to
one affine map, so that a pixel is interpolated once: bilinear for photos (below half size after
an area average), nearest for labels.

An image larger than the crop is cut at random, a smaller one is placed at random, with the mean
colour around it and 255 around its labels: where it was cut or turned out of view likewise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from wsseg.errors import UsageError

IGNORE = 255
MEAN = (124, 116, 104)  # RGB of ImageNet
LUMA = (.299, .587, .114)


@dataclass(frozen=True, eq=False)
class Warp:
    """One sample's augmentation.

    matrix: float64 (2,3), from the output's pixels to those of the input; a pixel's centre lies
    at .5. source: (H,W) of the input; size: (h,w) of the output. colour: float32 (3,4) on RGB
    and 1, or None. mean: the colour around the photo (before ``colour``).
    """

    matrix: np.ndarray
    source: tuple[int, int]
    size: tuple[int, int]
    colour: np.ndarray | None = None
    mean: tuple[int, int, int] = MEAN

    @property
    def upright(self) -> bool:
        """Whether rows stay rows."""
        return self.matrix[0, 1] == self.matrix[1, 0] == 0

    def photo(self, photo: np.ndarray) -> np.ndarray:
        """Return the photo, uint8 (H,W,3), at (h,w); without scale and turn its own pixels."""
        self._check(photo)
        result = self._cut(photo)
        if result is None:
            small, matrix = self._shrunk(photo)
            result = _warp_affine(small, matrix, self.size, cv2.INTER_LINEAR, self.mean)
        return result if self.colour is None else cv2.transform(result, self.colour)

    def label(self, label: np.ndarray, fill: int = IGNORE) -> np.ndarray:
        """Return a label map, uint8 or uint16 (H,W), at (h,w).

        fill: what is put around it. Masks of weights (``conf``) and of boxes go the same way,
        with fill 0.
        """
        self._check(label)
        if not self.upright:
            return _warp_affine(label, self.matrix, self.size, cv2.INTER_NEAREST, fill)
        for axis in (0, 1):
            at = self.matrix[1 - axis, 1 - axis] * (np.arange(self.size[axis]) + .5)
            index = np.floor(at + self.matrix[1 - axis, 2]).astype(np.intp)
            outside = (index < 0) | (index >= self.source[axis])
            label = label.take(index.clip(0, self.source[axis] - 1), axis)
            label[(slice(None),) * axis + (outside,)] = fill
        return label

    def boxes(self, boxes: np.ndarray, visible: float = 0.) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 (M,4) boxes in the output and the indices (M,) of those that remain.

        boxes: (N,4) as x0, y0, x1, y1. A turned box becomes the upright one around it. One
        remains if more than ``visible`` of its area, and some, is in view.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] - self.matrix[:, 2]
        corners = corners @ np.linalg.inv(self.matrix[:, :2]).T
        whole = np.concatenate([corners.min(1), corners.max(1)], 1)
        limit = np.array([self.size[1], self.size[0]] * 2)
        seen = whole.clip(0, limit)
        kept = np.flatnonzero(_area(seen) > visible * _area(whole))
        return seen[kept], kept

    def _cut(self, photo: np.ndarray) -> np.ndarray | None:
        """The crop of a photo that is neither scaled nor turned, else None."""
        (a, _, x), (_, d, y) = self.matrix
        if not self.upright or abs(a) != 1 or d != 1 or x % 1 or y % 1:
            return None
        height, width = self.size
        top, left = int(y), int(x) - width * (a < 0)
        bottom, right = top + height - self.source[0], left + width - self.source[1]
        part = photo[max(0, top):top + height, max(0, left):left + width]
        result = cv2.copyMakeBorder(part, max(0, -top), max(0, bottom), max(0, -left),
                                    max(0, right), cv2.BORDER_CONSTANT, value=self.mean)
        return result if a > 0 else cv2.flip(result, 1)

    def _shrunk(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The photo averaged so far that two pixels across suffice, and the matrix onto it."""
        steps = np.hypot(self.matrix[:, 0], self.matrix[:, 1]).astype(int).clip(1)
        if (steps == 1).all():
            return photo, self.matrix
        height, width = self.source
        size = -(-width // steps[0]), -(-height // steps[1])
        ratio = np.array([size[0] / width, size[1] / height])
        return (cv2.resize(photo, [int(n) for n in size], interpolation=cv2.INTER_AREA),
                self.matrix * ratio[:, None])

    def _check(self, array: np.ndarray) -> None:
        if array.shape[:2] != self.source:
            raise ValueError(f"expected {self.source[0]}x{self.source[1]} pixels, got an array of "
                             f"shape {array.shape}")


def _warp_affine(array: np.ndarray, matrix: np.ndarray, size: tuple[int, int], how: int,
                 fill: int | Sequence[int]) -> np.ndarray:
    centred = matrix.copy()  # cv2 counts from the centre of the first pixel
    centred[:, 2] += matrix[:, :2] @ [.5, .5] - .5
    return cv2.warpAffine(array, centred, size[::-1], flags=how | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_CONSTANT, borderValue=fill)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@dataclass(frozen=True)
class Augment:
    """How far samples are varied; the defaults are those of the papers' nets (scale, flip).

    crop: (h,w) or one number for both. scale: the range of a uniform factor. flip: probability
    of left-right. rotate: most degrees either way, about the crop's centre. squash: the whole
    image becomes the crop, whatever its proportions, and scale is not used. brightness,
    contrast, saturation: most relative change; hue: most share of a turn, up to .5. mean: the
    colour around the photo. Raises UsageError for what is out of range.
    """

    crop: tuple[int, int] | int
    scale: tuple[float, float] = (.5, 2.)
    flip: float = .5
    rotate: float = 0.
    squash: bool = False
    brightness: float = 0.
    contrast: float = 0.
    saturation: float = 0.
    hue: float = 0.
    mean: tuple[int, int, int] = field(default=MEAN)

    def __post_init__(self) -> None:
        if isinstance(self.crop, int):
            object.__setattr__(self, "crop", (self.crop, self.crop))
        changes = (self.brightness, self.contrast, self.saturation)
        for name, right in (("crop", min(self.crop) >= 1),
                            ("scale", 0 < self.scale[0] <= self.scale[1] < math.inf),
                            ("flip", 0 <= self.flip <= 1), ("rotate", 0 <= self.rotate <= 180),
                            ("brightness, contrast or saturation",
                             all(0 <= change < math.inf for change in changes)),
                            ("hue", 0 <= self.hue <= .5)):
            if not right:
                value = changes if "," in name else getattr(self, name)
                raise UsageError(f"the augmentation's {name} cannot be {value}")

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Warp:
        """Draw one sample's warp for an image of (H,W); always takes 9 numbers of ``rng``."""
        scale, left, top, flip, turn, *colours = rng.random(9).tolist()
        height, width = self.crop
        if self.squash:
            scaled = self.crop
        else:
            factor = self.scale[0] + (self.scale[1] - self.scale[0]) * scale
            scaled = tuple(max(1, round(n * factor)) for n in size)
        offset = _place(scaled[1] - width, left), _place(scaled[0] - height, top)
        # output -> turned about the crop's centre -> mirrored -> in the scaled image -> input
        angle = math.radians(self.rotate) * (2 * turn - 1)
        cos, sin = math.cos(angle), math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        centre = np.array([width / 2, height / 2])
        shift = centre - linear @ centre
        if flip < self.flip:
            linear[0], shift[0] = -linear[0], width - shift[0]
        ratio = np.array([size[1] / scaled[1], size[0] / scaled[0]])
        matrix = np.column_stack([linear, shift + offset]) * ratio[:, None]
        return Warp(matrix, tuple(size), self.crop, self._colour(*colours), self.mean)

    def _colour(self, brightness: float, contrast: float, saturation: float,
                hue: float) -> np.ndarray | None:
        """One matrix: hue turned about the grey axis, mixed with its luma, stretched, scaled."""
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            return None
        light, stretch, vivid = (max(0., 1 + most * (2 * share - 1)) for most, share in (
            (self.brightness, brightness), (self.contrast, contrast),
            (self.saturation, saturation)))
        angle = math.tau * self.hue * (2 * hue - 1)
        grey = np.full((3, 3), 1 / 3)
        across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        turn = grey + math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * across
        mix = vivid * np.eye(3) + (1 - vivid) * np.array([LUMA] * 3)
        matrix = np.column_stack([stretch * mix @ turn, np.full(3, (1 - stretch) * 127.5)])
        return (light * matrix).astype(np.float32)


def _place(room: int, share: float) -> int:
    """A whole offset between 0 and ``room``, which is negative where the image is too small."""
    return min(0, room) + int(share * (abs(room) + 1))
