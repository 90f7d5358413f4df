"""Contact sheets have the layout that was asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from wsseg.errors import UsageError
from wsseg.view import sheet as layout
from wsseg.view.heat import heat_table
from wsseg.view.sheet import (EMPTY, GAP, GROUP_GAP, LETTERS, MARGIN, PAPER, ROW_GAP, Sheet, cell,
                              strip)

LINE = LETTERS + 8
RED = np.full((30, 40, 3), (200, 0, 0), np.uint8)
BLUE = np.full((40, 20, 3), (0, 0, 200), np.uint8)


def test_a_cell_centres_its_tiles_over_the_key():
    result = cell([RED, BLUE], 40, "some/key")
    assert result.shape == (40 + LINE, 2 * 40 + GAP, 3)
    assert (result[5:35, :40] == RED).all() and (result[:5, :40] == PAPER).all()
    left = 40 + GAP + 10
    assert (result[:40, left:left + 20] == BLUE).all()
    assert (result[40:] != PAPER).any()  # the key


def test_a_missing_record_is_an_empty_tile():
    result = cell([RED, None], 100, "key")
    assert (result[0, 100 + GAP:] == EMPTY).all()
    assert (strip([RED, None], RED)[:, 40 + GAP:] == EMPTY).all()


def test_a_strip_of_one_is_that_picture():
    assert (strip([RED], RED) == RED).all()
    assert (strip([None], BLUE) == BLUE).all()
    assert strip([RED, RED, RED], RED).shape == (30, 3 * 40 + 2 * GAP, 3)


def test_a_sheet_is_as_large_as_its_parts():
    sheet = Sheet(["photo", "masks"], 40, columns=3)
    for i in range(4):
        sheet.add(cell([RED, RED], 40, f"key {i}"))
    result = sheet.finish()
    group = 2 * 40 + GAP
    assert result.shape[1] == 2 * MARGIN + 3 * group + 2 * GROUP_GAP
    assert result.shape[0] == 2 * MARGIN + (LINE + 4) + 2 * (30 + LINE + ROW_GAP)
    reds = (result == (200, 0, 0)).all(2)
    assert reds.sum() == 4 * 2 * RED[..., 0].size
    first_row = MARGIN + LINE + 4
    assert reds[first_row, MARGIN] and not reds[first_row - 1].any()
    assert reds[first_row, MARGIN + 2 * (group + GROUP_GAP)]


def test_legend_heat_and_notes_add_lines():
    plain = Sheet(["masks"], 200).finish()
    full = Sheet(["masks"], 200).finish([("cat", (64, 0, 0)), ("dog", (64, 0, 128))], heat="dog",
                                        notes=["2 more"])
    assert full.shape[0] == plain.shape[0] + (LINE + 4) + 8 + LINE
    assert (full == (64, 0, 128)).all(2).sum() > 100
    for colour in heat_table(96)[1:-1]:  # the frame covers the ends
        assert (full == colour).all(2).any()


def test_a_long_legend_takes_several_lines():
    many = [(f"class number {i}", (i, 0, 0)) for i in range(40)]
    sheet = Sheet(["a"], 100, columns=2).finish(many)
    for _, colour in many:
        assert (sheet == colour).all(2).any()


def test_the_columns_default_to_about_four_pictures():
    assert [Sheet(["x"] * n, 10).columns for n in (1, 2, 3, 4, 5)] == [4, 2, 1, 1, 1]


def test_the_file_is_png_or_jpeg():
    sheet = Sheet(["x"], 40)
    sheet.add(cell([RED], 40, "k"))
    assert Image.open(io.BytesIO(sheet.encode())).format == "PNG"
    assert Image.open(io.BytesIO(Sheet(["x"], 40, lossy=True).encode())).format == "JPEG"


def test_a_sheet_beyond_what_pictures_can_hold_is_refused_early(monkeypatch):
    monkeypatch.setattr(layout, "MAX_SIDE", 400)
    sheet = Sheet(["x"], 40, columns=1)
    with pytest.raises(UsageError, match="--limit"):
        for i in range(20):
            sheet.add(cell([RED], 40, str(i)))
