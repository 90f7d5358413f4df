"""A contact sheet: one picture of many records, to be looked at as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from wsseg.errors import UsageError
from wsseg.view.colours import Colour
from wsseg.view.heat import heat_table
from wsseg.view.ink import font, shorten
from wsseg.view.overlay import jpeg, png

MAX_PIXELS = 1 << 28
MAX_SIDE = 65000  # JPEG holds 65535
PAPER, EMPTY, TEXT, FAINT = (255, 255, 255), (243, 244, 246), (25, 28, 32), (110, 116, 124)
GAP, GROUP_GAP, ROW_GAP, MARGIN, LETTERS = 6, 24, 12, 20, 14
_LINE = LETTERS + 8


def strip(tiles: Sequence[np.ndarray | None], ground: np.ndarray) -> np.ndarray:
    """Set tiles, uint8 (h, w, 3), side by side; None becomes an empty one. One tile alone is
    returned as it is, and ``ground``, of the same size, if there is none."""
    if not any(t is not None for t in tiles):
        return ground
    gap = np.full((len(ground), GAP, 3), PAPER, np.uint8)
    empty = np.full_like(ground, EMPTY)
    parts = [part for t in tiles for part in (gap, empty if t is None else t)]
    return np.concatenate(parts[1:], axis=1)


def cell(tiles: Sequence[np.ndarray | None], width: int, key: str) -> np.ndarray:
    """Set one record's tiles side by side, with its key below.

    tiles: uint8 (h, w, 3), none larger than ``width``, or None for an empty place. Returns
    uint8 (height, len(tiles) * width + gaps, 3).
    """
    height = max([t.shape[0] for t in tiles if t is not None], default=width // 2)
    total = len(tiles) * width + (len(tiles) - 1) * GAP
    canvas = np.full((height + _LINE, total, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        left = i * (width + GAP)
        if tile is None:
            canvas[:height, left:left + width] = EMPTY
            _write(canvas, left + width // 2, height // 2, "no record", FAINT, "mm")
            continue
        h, w = tile.shape[:2]
        top, left = (height - h) // 2, left + (width - w) // 2
        canvas[top:top + h, left:left + w] = tile
    _write(canvas, 0, height + _LINE // 2, shorten(key, total, LETTERS), TEXT)
    return canvas


def _write(canvas: np.ndarray, x: int, y: int, text: str, colour: Colour,
           anchor: str = "lm") -> None:
    """Write one line into uint8 (H, W, 3), touching only the strip around it."""
    top, bottom = max(0, y - _LINE), min(len(canvas), y + _LINE)
    image = Image.fromarray(canvas[top:bottom])
    ImageDraw.Draw(image).text((x, y - top), text, colour, font(LETTERS), anchor)
    canvas[top:bottom] = image


@dataclass
class Sheet:
    """Rows of records, added one by one.

    headings: one per tile; width: of a tile; columns: records side by side, by default as many
    as make four tiles; lossy: encode as JPEG. Raises UsageError from ``add`` when the sheet
    grows beyond what pictures can hold.
    """

    headings: Sequence[str]
    width: int
    columns: int | None = None
    lossy: bool = False
    _rows: list[np.ndarray] = field(default_factory=list)
    _row: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = self.columns or max(1, 4 // len(self.headings))

    @property
    def group(self) -> int:
        """Width of one record's tiles with the gaps between them."""
        return len(self.headings) * (self.width + GAP) - GAP

    @property
    def total(self) -> int:
        """Width of the whole sheet."""
        return 2 * MARGIN + self.columns * (self.group + GROUP_GAP) - GROUP_GAP

    def add(self, record: np.ndarray) -> None:
        """Add what ``cell`` returned."""
        self._row.append(record)
        if len(self._row) == self.columns:
            self._end_row()

    def _end_row(self) -> None:
        if not self._row:
            return
        height = max(len(c) for c in self._row)
        band = np.full((height + ROW_GAP, self.total, 3), PAPER, np.uint8)
        for i, record in enumerate(self._row):
            left = MARGIN + i * (self.group + GROUP_GAP)
            top = height - len(record)  # keys in one line
            band[top:height, left:left + record.shape[1]] = record
        self._rows.append(band)
        self._row = []
        rows = sum(map(len, self._rows))
        if rows * self.total > MAX_PIXELS or max(rows, self.total) > MAX_SIDE:
            raise UsageError(f"a sheet of {rows}x{self.total} pixels is too large: use a smaller "
                             "--limit or --width, or write a directory or .html")

    def finish(self, legend: Sequence[tuple[str, Colour]] = (), *, heat: str | None = None,
               notes: Sequence[str] = ()) -> np.ndarray:
        """Return the sheet, uint8 (H, W, 3): legend, headings, rows, notes.

        heat: name of the class whose heat map is shown, which needs a scale.
        """
        self._end_row()
        top = np.full((MARGIN, self.total, 3), PAPER, np.uint8)
        bands = [top, *self._legend(legend, heat), self._heading(), *self._rows]
        for note in notes:
            band = np.full((_LINE, self.total, 3), PAPER, np.uint8)
            _write(band, MARGIN, _LINE // 2, shorten(note, self.total - 2 * MARGIN, LETTERS),
                   FAINT)
            bands.append(band)
        return np.concatenate([*bands, np.full((MARGIN, self.total, 3), PAPER, np.uint8)])

    def encode(self, legend: Sequence[tuple[str, Colour]] = (), *, heat: str | None = None,
               notes: Sequence[str] = ()) -> bytes:
        """Return the sheet as a PNG or JPEG file; the rest as for ``finish``."""
        pixels = self.finish(legend, heat=heat, notes=notes)
        return jpeg(pixels, 90) if self.lossy else png(pixels)

    def _heading(self) -> np.ndarray:
        band = np.full((_LINE + 4, self.total, 3), PAPER, np.uint8)
        for column in range(self.columns):
            for i, text in enumerate(self.headings):
                x = MARGIN + column * (self.group + GROUP_GAP) + i * (self.width + GAP)
                _write(band, x + self.width // 2, _LINE // 2,
                       shorten(text, self.width, LETTERS), FAINT, "mm")
        return band

    def _legend(self, legend: Sequence[tuple[str, Colour]],
                heat: str | None) -> list[np.ndarray]:
        """Set swatches and names in as many lines as they need."""
        items = [(shorten(name, self.total // 2, LETTERS), np.full((1, 22, 3), colour, np.uint8))
                 for name, colour in legend]
        if heat is not None:
            items.append((shorten(f"{heat}: 0 to 1", self.total // 2, LETTERS),
                          heat_table(96)[None]))
        lines: list[np.ndarray] = []
        x = self.total
        for name, swatch in items:
            need = swatch.shape[1] + 6 + round(font(LETTERS).getlength(name))
            if not lines or x + need > self.total - MARGIN:
                lines.append(np.full((_LINE + 4, self.total, 3), PAPER, np.uint8))
                x = MARGIN
            box = lines[-1][4:18, x:x + swatch.shape[1]]
            box[:] = swatch[:, :box.shape[1]]
            box[[0, -1]] = box[:, [0, -1]] = np.uint8(120)
            _write(lines[-1], x + swatch.shape[1] + 6, 11, name, TEXT)
            x += need + 18
        if lines:
            lines.append(np.full((8, self.total, 3), PAPER, np.uint8))
        return lines
