"""What is drawn over a fill with full opacity: contours, boxes, strokes, dots and names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wsseg.view.colours import Colour, ink_on

_HALO = (255, 255, 255)
_PAD = 3


@lru_cache(8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font in ``size`` pixels."""
    return ImageFont.load_default(size)


def shorten(text: str, width: float, size: int) -> str:
    """Return ``text``, cut to at most ``width`` pixels with an ellipsis."""
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    """Return bool (H, W) with every set pixel grown to a square of 2 * by + 1."""
    height, width = mask.shape
    padded = np.pad(mask, by)
    result = np.zeros_like(mask)
    for y in range(2 * by + 1):
        result |= padded[y:y + height, by:by + width]
    padded[by:by + height, by:by + width] = result
    result = np.zeros_like(mask)
    for x in range(2 * by + 1):
        result |= padded[by:by + height, x:x + width]
    return result


def inside(mask: np.ndarray) -> tuple[int, int]:
    """Return a pixel (x, y) well inside a region, bool (H, W) with at least one pixel set: the
    middle of the longest run on the row that halves its area."""
    sums = np.cumsum(mask.sum(1))
    y = int(np.searchsorted(sums, (sums[-1] + 1) // 2))
    row = np.concatenate(([0], mask[y].astype(np.int8), [0]))
    steps = np.diff(row)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    longest = int(np.argmax(stops - starts))
    return int(starts[longest] + stops[longest] - 1) // 2, y


class Ink:
    """A clear layer of (H, W) pixels to draw on; ``pixels()`` gives uint8 RGBA (H, W, 4).

    Names are put on last by ``pixels()``, moved so that they stay in the picture and do not
    hide each other where there is room.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.size = int(min(28, max(10, min(shape) / 18)))
        self._pixels = np.zeros((*shape, 4), np.uint8)
        self._names: list[tuple[str, tuple[float, float], Colour, bool]] = []

    def paint(self, mask: np.ndarray, colour: Colour | np.ndarray) -> None:
        """Set the pixels of bool (H, W) to one colour, or to those of uint8 (H, W, 3)."""
        self._pixels[mask, :3] = colour[mask] if isinstance(colour, np.ndarray) else colour
        self._pixels[mask, 3] = 255

    def stroke(self, mask: np.ndarray, colour: Colour) -> None:
        """Paint bool (H, W) with a white rim of one pixel, seen on dark and light photos."""
        self.paint(grown(mask, 1) & ~mask & (self._pixels[..., 3] == 0), _HALO)
        self.paint(mask, colour)

    def box(self, xyxy: Sequence[float], colour: Colour, name: str = "") -> None:
        """Draw a rectangle, two pixels wide to its inside, covering x0 <= x < x1."""
        height, width = self.shape
        x0, y0 = (int(min(max(np.floor(v), 0), n - 1))
                  for v, n in zip(xyxy[:2], (width, height)))
        x1, y1 = (int(min(max(np.ceil(v), 1), n)) for v, n in zip(xyxy[2:], (width, height)))
        part = self._pixels[y0:y1, x0:x1]
        inner = part[2:-2, 2:-2].copy()
        part[:] = (*colour, 255)
        part[2:-2, 2:-2] = inner
        if name:
            self._names.append((name, (x0, y0), colour, False))

    def dot(self, x: float, y: float, colour: Colour) -> None:
        """Draw a disc with a white rim around a point."""
        radius = max(3.5, self.size / 3)
        rows, columns = np.ogrid[:self.shape[0], :self.shape[1]]
        distance = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2
        self.paint(distance <= (radius + 1.5) ** 2, _HALO)
        self.paint(distance <= radius ** 2, colour)

    def name(self, text: str, at: tuple[float, float], colour: Colour,
             centred: bool = True) -> None:
        """Write a name on a patch of ``colour``, centred at (x, y) or with its corner there."""
        self._names.append((text, at, colour, centred))

    def pixels(self) -> np.ndarray:
        """Return the layer."""
        if not self._names:
            return self._pixels
        image = Image.fromarray(self._pixels)
        draw = ImageDraw.Draw(image)
        taken: list[tuple[float, float, float, float]] = []
        for text, at, colour, centred in self._names:
            self._write(draw, taken, text, at, colour, centred)
        return np.asarray(image)

    def _write(self, draw: ImageDraw.ImageDraw, taken: list[tuple[float, float, float, float]],
               text: str, at: tuple[float, float], colour: Colour, centred: bool) -> None:
        height, width = self.shape
        face = font(self.size)
        text = shorten(text, width - 2 * _PAD, self.size)
        w, h = round(face.getlength(text)) + 2 * _PAD, self.size + 2 * _PAD
        x, y = (at[0] - w / 2, at[1] - h / 2) if centred else at
        x, y = round(max(0, min(x, width - w))), round(max(0, min(y, height - h)))
        for _ in range(8):  # step below what is in the way
            under = [t for t in taken if x < t[2] and t[0] < x + w and y < t[3] and t[1] < y + h]
            if not under or max(t[3] for t in under) + h > height:
                break
            y = max(t[3] for t in under)
        taken.append((x, y, x + w, y + h))
        draw.rectangle((x, y, x + w - 1, y + h - 1), (*colour, 255))
        draw.text((x + _PAD, y + h / 2), text, (*ink_on(colour), 255), face, "lm")
