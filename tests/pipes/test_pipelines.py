"""Shell pipelines as users write them, one a line in pipelines.txt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT, make_record, write_place

LINES = [line for line in (Path(__file__).parent / "pipelines.txt").read_text().splitlines()
         if line and not line.startswith("#")]


@pytest.mark.parametrize("line", LINES)
def test_the_pipeline_ends_well(line: str, tmp_path: Path) -> None:
    write_place(tmp_path / "masks", [make_record(i, "label") for i in range(6)], kinds=["label"])
    write_place(tmp_path / "boxes", [make_record(i, "boxes") for i in range(6)], kinds=["boxes"])
    (tmp_path / "photos").mkdir()
    for i in range(6):
        record = make_record(i, "image")
        Image.fromarray(record.get("image")).save(tmp_path / f"photos/{record.key}.jpg",
                                                  quality=97)
    (tmp_path / "keys.txt").write_text("img001\nimg004\n")
    path = f"{ROOT / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", f"set -euo pipefail; {line}"], cwd=tmp_path,
                          env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
