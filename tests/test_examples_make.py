"""What make runs again, and what it does not: the papers' Makefiles over tools that only write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_examples import MAKE, commands, data, make, voc  # noqa: F401

pytestmark = pytest.mark.skipif(MAKE is None, reason="no make")

#: Notes its command, and writes what -o names: a model, lists of keys, or a place.
TOOL = """#!/bin/bash
echo "${0##*/} $*" >> "$LOG"
[ -p /dev/stdin ] && cat > /dev/null
seed=0
for word; do
  case $before in -o) out=$word ;; -n) n=$word ;; --keys) keys=$word ;; --seed) seed=$word ;; esac
  before=$word
done
case ${0##*/} in
  ws-train) mkdir -p "$out"; echo > "$out/model.safetensors" ;;
  ws-budget) mkdir -p "$out"; head -n "$n" "$keys" > "$out/$n-$seed.txt" ;;
  *) if [ -z "$out" ] || [ "$out" = - ]; then echo
     else mkdir -p "$(dirname "$out")"; echo > "$out"; fi ;;
esac
"""
TOOLS = ("boxfill", "budget", "cam", "cat", "crf", "eval", "fuse", "predict", "rfpam", "train",
         "weaken")
FILES = (("wssl-2015", "table1", "N=1"), ("wssl-2015", "table3", "N=1"),
         ("dualbranch-2020", "table1", "N=1"), ("dualbranch-2020", "figure5", "N=1"),
         ("scribbles-2019", "table1", ""), ("panoptic-2018", "table4", ""),
         ("panoptic-2018", "figure6-pq", ""), ("budget-2019", "figure2-rows", "N=1"),
         ("budget-2019", "table5", "RSIS_N=1 TABLE5=gr-1\\ gw-1-1 N=1"))


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / f"ws-{name}").write_text(TOOL)
        (tmp_path / "bin" / f"ws-{name}").chmod(0o755)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path


@pytest.mark.parametrize("paper, name, more", FILES)
def test_more_seeds_train_only_the_new_ones(paper, name, more, tools, voc):  # noqa: F811
    out, log = tools / "out", tools / "log"

    def ran(seeds: str, *words: str) -> list[str]:
        log.write_text("")
        told = make(paper, *data(paper, voc), f"BIN={tools / 'bin'}", f"OUT={out}",
                    f"SEEDS={seeds}", *(w.replace("\\", " ") for w in more.replace(
                        "\\ ", "\\").split()), *words)
        assert told.returncode == 0, told.stderr
        return log.read_text().splitlines()

    target = str(out / f"{name}.json")
    first = ran("0", target, "-j2")
    assert any(line.startswith("ws-train") for line in first)
    assert ran("0", target) == []
    second = [line for line in ran("0 7", target, "-j2") if line.startswith("ws-train")]
    assert second and all("--seed 7 " in line for line in second)
    assert ran("0 7", target) == []
    (out / f"{name}.json").unlink()
    assert [line.split()[0] for line in ran("0 7", target)] == ["ws-eval"]
