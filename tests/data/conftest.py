"""Small foreign data sets, built in the test that needs them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsseg.io.png import voc_palette


@pytest.fixture
def tree(tmp_path):
    """Write files below tmp_path by name: text and bytes as they are, arrays as PNG (labels as
    palette PNG, 16 bits as grey, colours as RGB), and (H, W) tuples as grey JPEG photos."""
    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, tuple):
                Image.new("RGB", content[::-1], (90, 120, 150)).save(path, "JPEG")
            else:
                image = Image.fromarray(content)
                if content.ndim == 2 and content.dtype == np.uint8:
                    image.putpalette(voc_palette().tobytes())
                image.save(path, "PNG")
        return tmp_path
    return write


@pytest.fixture
def real():
    """Return a folder of real data by name; the test is skipped where it is absent."""
    default = Path(__file__).parents[3] / "shared" / "data"
    base = Path(os.environ.get("WSSEG_DATA") or default)

    def find(name):
        if not (base / name).is_dir():
            pytest.skip(f"no real data {name} in {base} (set WSSEG_DATA)")
        return str(base / name)
    return find
