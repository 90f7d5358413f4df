"""ws-eval of shards: what they come to together is what one run says, to the byte."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from tests.cli.evals import NAMES, labels, one_worker, random_maps, score, segments  # noqa: F401
from tests.cli.test_eval_instances import disturbed, scenes
from tests.cli.test_info import run
from tests.conftest import complaint, write_place
from wsseg.io.places import open_source

pytestmark = pytest.mark.usefixtures("one_worker")
METRICS = ("miou", "ap", "pq")
OTHERS = (*NAMES[:-1], "tram")
N = 9


@pytest.fixture(params=METRICS)
def places(request, tmp_path) -> tuple[str, list[str]]:
    """A metric, and two predictions and the truth."""
    if request.param == "miou":
        maps = [random_maps(seed, N) for seed in (1, 2, 0)]
        return "miou", [labels(tmp_path / f"{i}", m, NAMES) for i, m in enumerate(maps)]
    truth = scenes(0, N)
    maps = disturbed(truth, 1), disturbed(truth, 2), truth
    return request.param, [segments(tmp_path / f"{i}", m) for i, m in enumerate(maps)]


def parts(folder, *words, count: int = 3) -> list[str]:
    files = []
    for i in range(1, count + 1):
        files.append(str(folder / f"part-{i}.json"))
        done = run(["ws-eval", *words, "--shard", f"{i}/{count}", "--json"])
        (folder / f"part-{i}.json").write_bytes(done.stdout)
    return files


def text(*words, **options) -> str:
    return run(["ws-eval", *words], **options).stdout.decode()


def test_merged_shards_are_the_whole_to_the_byte(places, tmp_path):
    metric, where = places
    files = parts(tmp_path, *where, "--metric", metric)
    more = ["--bootstrap", 50, "--per-image", tmp_path / "images.tsv", "--full", 90]

    for words in (["--json"], ["--json", *more], more, ["--tsv"], []):
        whole = text(*where, "--metric", metric, *words)
        table = (tmp_path / "images.tsv").read_bytes() if words == more else None
        assert text("--merge", *reversed(files), *words) == whole
        assert table is None or table == (tmp_path / "images.tsv").read_bytes()


def test_one_prediction_has_its_part_in_its_object(places, tmp_path):
    metric, (guess, _, truth) = places
    files = parts(tmp_path, guess, truth, "--metric", metric)
    assert text("--merge", *files, "--json") == text(guess, truth, "--metric", metric, "--json")
    found = json.loads((tmp_path / "part-1.json").read_text())
    assert found["part"]["shard"] == [1, 3] and found["part"]["metric"] == metric


@pytest.mark.parametrize("words", [
    ["--metric", "ap", "--rule", "cityscapes"], ["--metric", "ap", "--ranking", "oracle"],
    ["--metric", "ap", "--rule", "voc", "--thresholds", ".5,.7"],
    ["--metric", "pq", "--unlabelled", "background"]])
def test_the_shards_say_how_they_were_scored(words, tmp_path):
    truth = scenes(0, N)
    where = [segments(tmp_path / "p", disturbed(truth, 1)), segments(tmp_path / "t", truth)]
    files = parts(tmp_path, *where, *words)
    assert text("--merge", *files, "--json") == text(*where, *words, "--json")
    assert text("--merge", *files) == text(*where, *words)


def test_bands_and_classes_without_names_add_up(tmp_path):
    maps = [np.where(m == 3, 9, m) for m in random_maps(0, N)]
    where = [labels(tmp_path / "p", [np.roll(m, 1, 1) for m in maps], None),
             labels(tmp_path / "t", maps, None)]
    words = ["--trimap", "1", "--trimap", "3", "--quality"]
    files = parts(tmp_path, *where, *words[:4], count=4)
    assert text("--merge", *files, "--json", "--quality") == text(*where, *words, "--json")


def test_a_shard_without_records_is_no_fault(places, tmp_path):
    metric, where = places
    files = parts(tmp_path, *where, "--metric", metric, count=12)
    assert [json.loads(open(f).read())["results"][0]["records"] for f in files].count(0) > 2
    assert text("--merge", *files, "--json") == text(*where, "--metric", metric, "--json")


def test_the_order_of_a_stream_changes_no_figure(tmp_path):
    truth = scenes(0, N)
    place = segments(tmp_path / "t", truth)
    guess = segments(tmp_path / "p", disturbed(truth, 1))
    source = open_source(guess)
    back = write_place(tmp_path / "back.tar", [source.get(k) for k in reversed(source.keys())],
                       kinds=["instance"], classes=NAMES)
    for metric in ("ap", "pq"):
        found = [score(p, place, "--metric", metric, "--bootstrap", 9) for p in (guess, back)]
        for one in found:
            one.pop("prediction"), one.pop("untrue")  # which a stream does not tell
        assert found[0] == found[1]


def test_a_failed_record_of_a_shard_is_one_of_the_whole(tmp_path):
    guess = labels(tmp_path / "p", random_maps(1, N), NAMES)
    truth = labels(tmp_path / "t", random_maps(0, N), NAMES)
    (tmp_path / "p" / "r03.png").write_bytes(b"no PNG")
    files = []
    bad = 1 + int(hashlib.sha256(b"r03").hexdigest()[:15], 16) % 2
    for i in (1, 2):
        files.append(tmp_path / f"{i}.json")
        files[-1].write_bytes(run(["ws-eval", guess, truth, "--shard", f"{i}/2", "--json",
                                   "--keep-going"], code=3 if i == bad else 0).stdout)
    whole = run(["ws-eval", guess, truth, "--keep-going", "--json"], code=3).stdout
    assert run(["ws-eval", "--merge", *files, "--json"], code=3).stdout == whole


# -- what does not fit -------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path) -> list[str]:
    where = [labels(tmp_path / n, random_maps(i, 4), NAMES) for i, n in enumerate("pt")]
    return parts(tmp_path, *where)


def test_a_missing_shard_is_named(files):
    done = run(["ws-eval", "--merge", files[0], files[2]], code=2)
    assert "shard 2 of 3 not given" in complaint(done)


def test_a_shard_given_twice_is_named(files):
    done = run(["ws-eval", "--merge", *files, files[0]], code=2)
    assert "are both of shard 1/3" in complaint(done)


def test_shards_of_different_evaluations_are_not_added(files, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    where = [labels(other / n, random_maps(i, 4), OTHERS) for i, n in enumerate("pt")]
    third = parts(other, *where)[2]
    done = run(["ws-eval", "--merge", *files[:2], third], code=2)
    assert "differ in the names of classes" in complaint(done)
    two = parts(other, *where, count=2)
    assert "are of 2 and 3 parts" in complaint(run(["ws-eval", "--merge", *files, *two], code=2))


def test_one_key_in_two_shards_is_named(files):
    value = json.loads(open(files[0]).read())
    other = json.loads(open(files[1]).read())
    value["part"]["keys"].append(other["part"]["keys"][0])
    open(files[0], "w").write(json.dumps(value))
    done = run(["ws-eval", "--merge", *files], code=2)
    assert f"have both scored {other['part']['keys'][0]}" in complaint(done)


@pytest.mark.parametrize("damage", [
    lambda v: v.pop("part"), lambda v: v["part"].pop("shard"), lambda v: v["part"].pop("keys"),
    lambda v: v["part"].update(metric="x"), lambda v: v["part"]["keys"].append(3)])
def test_a_file_that_is_no_result_of_a_shard_is_named(damage, files):
    value = json.loads(open(files[0]).read())
    damage(value)
    open(files[0], "w").write(json.dumps(value))
    done = run(["ws-eval", "--merge", *files], code=1)
    assert f"{files[0]}: no result of ws-eval --shard" in complaint(done)


@pytest.mark.parametrize("damage", [
    lambda p: p["counts"].append([0, 0, 1]), lambda p: p["counts"][0].append(1),
    lambda p: p["counts"].__setitem__(0, [-1, 0, 1]), lambda p: p.pop("counts"),
    lambda p: p["counts"].__setitem__(0, [70000, 0, 1]), lambda p: p.update(bands=3)])
def test_damaged_counts_are_told(damage, files):
    values = [json.loads(open(f).read()) for f in files]
    which = next(i for i, v in enumerate(values) if v["part"]["counts"])
    damage(values[which]["part"])
    open(files[which], "w").write(json.dumps(values[which]))
    done = run(["ws-eval", "--merge", *files], code=1)
    assert "damaged" in complaint(done)


@pytest.mark.parametrize("names", [[1, 2], "ab", {"a": 1}])
def test_class_names_that_are_none_are_told(names, files):
    for file in files:
        value = json.loads(open(file).read())
        value["part"]["names"] = names
        open(file, "w").write(json.dumps(value))
    assert "damaged" in complaint(run(["ws-eval", "--merge", *files], code=1))


@pytest.mark.parametrize("words, message", [
    (["--rule", "voc"], "--rule was decided when the shards"),
    (["--missing", "skip"], "--missing was decided"), (["--shard", "1/2"], "--shard was decided"),
    (["--full", "place"], "--full is a share"), (["--baseline", "3"], "needs --full")])
def test_options_that_come_too_late_are_refused(words, message, files):
    assert message in complaint(run(["ws-eval", "--merge", *files, *words], code=2))


def test_files_that_are_not_there_are_one_line(tmp_path):
    assert "cannot read" in complaint(run(["ws-eval", "--merge", tmp_path / "no"], code=2))
    assert "--merge needs" in complaint(run(["ws-eval", "--merge"], code=2))
