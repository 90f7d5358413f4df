"""1,000 label maps through ``ws-cat DIR | ws-cat - -o OUT.h5``: time and peak memory.

    python tests/benchmarks/cat_memory.py MASK_FOLDER [--count 1000]

Prints the peak resident memory of each of the two tools, workers included (the largest
process), for a tenth of the maps and for all of them: it must not grow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def pipe(masks: Path, keys: Path, out: Path) -> tuple[float, list[float]]:
    """Run the pipe; return seconds and the peak of each tool in MB."""
    cat = str(Path(sys.executable).parent / "ws-cat")
    start = time.perf_counter()
    first = subprocess.Popen([cat, str(masks), "--classes", "voc", "--keys", str(keys)],
                             stdout=subprocess.PIPE)
    second = subprocess.Popen([cat, "-", "-o", str(out)], stdin=first.stdout)
    first.stdout.close()
    peaks = []
    for process in (first, second):
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"the pipe failed ({status})")
        peaks.append(usage.ru_maxrss / 1024)
    return time.perf_counter() - start, peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("masks", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    names = sorted(p.stem for p in args.masks.glob("*.png"))[:args.count]
    with tempfile.TemporaryDirectory() as folder:
        for n in (max(1, len(names) // 10), len(names)):
            keys = Path(folder) / "keys.txt"
            keys.write_text("\n".join(names[:n]))
            seconds, (first, second) = pipe(args.masks, keys, Path(folder) / f"{n}.h5")
            print(f"{n:5} maps: {seconds:5.1f} s, peak {first:.0f} MB and {second:.0f} MB")


if __name__ == "__main__":
    main()
