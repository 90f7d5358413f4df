"""Time of ``--help`` of every tool, and what it imports.

    python tests/benchmarks/help_time.py [--rounds 21]

Runs the installed launchers, once before timing so that bytecode is cached as pip leaves it.
Prints the median of each, after those of Python alone and of Python with click, which are what
the machine leaves no tool to beat. Fails if one imports a heavy module.
"""

from __future__ import annotations

import argparse
import configparser
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HEAVY = ("numpy", "cv2", "h5py", "scipy", "sklearn", "torch", "PIL")
ROOT = Path(__file__).resolve().parents[2]


def imported(module: str) -> set[str]:
    """Heavy modules that ``--help`` of a tool has loaded when it ends."""
    code = (f"import sys; sys.argv = ['x', '--help']\nfrom {module} import main\n"
            f"try: main()\nexcept SystemExit: pass\n"
            f"print(*(m for m in {HEAVY} if m in sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def timed(command: list[str], rounds: int, env: dict[str, str]) -> list[float]:
    """Milliseconds of each run."""
    times = []
    for _ in range(rounds + 1):  # the first is not counted: it writes the bytecode
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=env)
        times.append((time.perf_counter() - start) * 1e3)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for name, code in (("python", "pass"), ("and click", "import click")):
        times = timed([sys.executable, "-c", code], args.rounds, env)
        print(f"{name:12} {median(times):6.1f} ms (min {min(times):.1f})")
    for line in config["options.entry_points"]["console_scripts"].strip().splitlines():
        tool, _, target = (part.strip() for part in line.partition("="))
        times = timed([str(Path(sys.executable).parent / tool), "--help"], args.rounds, env)
        heavy = imported(target.partition(":")[0])
        print(f"{tool:12} {median(times):6.1f} ms (min {min(times):.1f})"
              f"{'  imports ' + ' '.join(sorted(heavy)) if heavy else ''}")
        if heavy:
            sys.exit(1)


if __name__ == "__main__":
    main()
