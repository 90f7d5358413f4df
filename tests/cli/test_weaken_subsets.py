"""ws-weaken: which records stay strong, and what a result says of how it was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import conftest
from tests.cli.test_info import info, run
from tests.cli.test_weaken import ALL, NUMBERS, labelled, objects
from tests.conftest import complaint, keys_of, make_record, tree, write_place
from wsseg.io.places import open_source
from wsseg.io.record import Record


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


# -- subsets -----------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> str:
    return write_place(tmp_path / "many", (make_record(i, "label") for i in range(40)),
                       kinds=["label"])


def split(place: Path) -> tuple[set[str], set[str]]:
    """Keys of the strong and of the weak records."""
    strong, weak = set(), set()
    for record in open_source(str(place)):
        assert record.kinds() in ({"label"}, {"boxes"})
        (strong if "label" in record else weak).add(record.key)
    return strong, weak


def halves(source, tmp_path, *words: str) -> tuple[set[str], set[str]]:
    out = tmp_path / "_".join(["out", *words]).replace("/", "of")
    run(["ws-weaken", source, "--boxes", *words, "-o", out])
    return split(out)


def test_count_leaves_that_many_strong_and_weakens_the_rest(many, tmp_path):
    for count in (0, 1, 7, 40):
        strong, weak = halves(many, tmp_path, "--count", str(count))
        assert len(strong) == count and len(weak) == 40 - count


def test_a_larger_count_contains_a_smaller_one(many, tmp_path):
    sets = [halves(many, tmp_path, "--count", str(n))[0] for n in (3, 8, 20, 33)]
    assert sets[0] < sets[1] < sets[2] < sets[3]


def test_a_larger_fraction_contains_a_smaller_one(many, tmp_path):
    sets = [halves(many, tmp_path, "--fraction", f)[0] for f in ("0", ".2", ".5", ".8", "1")]
    assert sets[0] <= sets[1] <= sets[2] <= sets[3] <= sets[4]
    assert len(sets[0]) == 0 and 10 <= len(sets[2]) <= 30 and len(sets[4]) == 40


def test_the_subset_seed_alone_chooses(many, tmp_path):
    one, again, other = (halves(many, tmp_path, "--count", "20", "--subset-seed", *words)[0]
                         for words in (["1"], ["1", "--seed", "9"], ["2"]))
    assert one == again != other


def test_a_fraction_is_chosen_by_key_alone_so_a_pipe_gives_the_same(many, tmp_path):
    stream = conftest.run(["ws-cat", many]).stdout
    conftest.run(["ws-weaken", "--boxes", "--fraction", ".4", "-o", tmp_path / "piped"],
                 stdin=stream)
    (tmp_path / "keys").write_text("".join(f"img{i:03d}\n" for i in range(0, 40, 3)))

    strong, _ = halves(many, tmp_path, "--fraction", ".4")
    listed, weak = halves(many, tmp_path, "--fraction", ".4", "--keys", str(tmp_path / "keys"))

    assert split(tmp_path / "piped")[0] == strong
    assert listed == strong & (listed | weak) and len(listed | weak) == 14


def test_shards_of_a_counted_subset_add_up(many, tmp_path):
    whole = halves(many, tmp_path, "--count", "9")[0]
    parts = [halves(many, tmp_path, "--count", "9", "--shard", f"{i}/3")[0] for i in (1, 2, 3)]
    assert set().union(*parts) == whole and sum(map(len, parts)) == 9


def test_the_two_parts_are_the_whole(many, tmp_path):
    strong, weak = halves(many, tmp_path, "--count", "9")

    assert halves(many, tmp_path, "--count", "9", "--part", "strong") == (strong, set())
    assert halves(many, tmp_path, "--count", "9", "--part", "weak") == (set(), weak)
    run(["ws-cat", tmp_path / "out_--count_9_--part_strong",
         tmp_path / "out_--count_9_--part_weak", "-o", tmp_path / "both"])
    assert split(tmp_path / "both") == (strong, weak)


def test_a_place_that_does_not_say_its_kinds_keeps_its_strong_labels(tmp_path):
    place = write_place(tmp_path / "in", (make_record(i, "label") for i in range(6)), kinds=())
    run(["ws-weaken", place, "--count", "4", "--part", "strong", "-o", tmp_path / "out"])
    assert len(split(tmp_path / "out")[0]) == 4


def test_the_strong_part_is_the_input_byte_for_byte(many, tmp_path):
    run(["ws-weaken", many, "--count", "5", "--part", "strong", "-o", tmp_path / "out"])

    found = {n: d for n, d in tree(tmp_path / "out").items() if not n.startswith("__")}
    assert len(found) == 5 and found.items() <= tree(many).items()


@pytest.mark.parametrize("words, message", [
    ([], "choose at least one of --tags"),
    (["--boxes", "--count", "7"], "--count 7: there are only 6 records"),
    (["--boxes", "--count", "1", "--fraction", ".5"], "exclude each other"),
    (["--boxes", "--part", "weak"], "--part weak needs --count or --fraction"),
    (["--boxes", "--fraction", "1.5"], "1.5"),
    (["--scribbles", "--sloppy", ".5"], "--sloppy"),
    (["--scribbles", "--coverage", "0"], "--coverage"),
    (["--scribbles", "--strokes", "0"], "--strokes"),
    (["--scribbles", "--stroke-width", "0"], "--stroke-width")])
def test_options_that_make_no_sense_are_usage_errors(words, message, place, tmp_path):
    done = run(["ws-weaken", place("p", "label"), *words, "-o", tmp_path / "out"], code=2)

    assert message in complaint(done)


def test_a_pipe_cannot_be_counted(place, tmp_path):
    done = run(["ws-weaken", place("p.tar", "label"), "--boxes", "--count", "2", "-o",
                tmp_path / "out"], code=2)

    assert "use --fraction" in complaint(done)


# -- what is recorded ----------------------------------------------------------------------------


def test_supervision_is_that_of_the_weak_labels(tmp_path):
    source = write_place(tmp_path / "p", map(labelled, NUMBERS))

    run(["ws-weaken", source, *ALL, "-o", tmp_path / "out"])

    found = info(tmp_path / "out")["supervision"]
    parts = [objects(labelled(i).get("label"), 16) for i in NUMBERS]
    tags = [objects(labelled(i).get("label"), 1) for i in NUMBERS]
    marked = [12, sum(len({c for c, _ in p}) for p in parts), sum(map(len, parts))]
    named = [12, *[sum(len({c for c, _ in p}) for p in tags)] * 2]
    assert found == {"tags": named, "counts": marked, "boxes": marked, "points": marked,
                     "scribble": [12, *[sum(len({c for c, _ in p}) for p in parts)] * 2]}


def test_weak_labels_never_cost_what_the_masks_did(tmp_path):
    record = make_record(0, "label")
    record.supervision = {"masks": (2, 2)}
    source = write_place(tmp_path / "p", [record])

    run(["ws-weaken", source, "--tags", "-o", tmp_path / "out"])

    facts = info(tmp_path / "out")
    assert facts["supervision"] == {"tags": [1, 2, 2]}
    assert "no strong label used" in facts["labels"]


def test_a_mixture_costs_masks_for_the_strong_and_boxes_for_the_rest(many, tmp_path):
    run(["ws-weaken", many, "--boxes", "--count", "9", "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["supervision"] == {"masks": [9, 18, 18], "boxes": [31, 62, 62]}
    assert open_source(str(tmp_path / "out")).header.kinds == ("boxes", "label")


def test_the_history_tells_how_they_were_made(place, tmp_path):
    run(["ws-weaken", place("p", "label"), "--boxes", "--points", "--seed", "4", "-o",
         tmp_path / "out"])

    entry, = info(tmp_path / "out")["history"]
    assert (entry["tool"], entry["arguments"]) == \
        ("ws-weaken", ["--boxes", "--points", "--seed", "4"])


def test_keep_leaves_the_masks_beside_the_weak_labels(place, tmp_path):
    run(["ws-weaken", place("p", "label"), "--boxes", "--keep", "label", "-o", tmp_path / "out"])

    assert [r.kinds() for r in open_source(str(tmp_path / "out"))] == [{"boxes", "label"}] * 6


def test_masks_that_are_kept_are_part_of_the_cost(place, tmp_path):
    run(["ws-weaken", place("p", "label"), "--boxes", "--keep", "label", "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["supervision"] == {"boxes": [6, 12, 12], "masks": [6, 12, 12]}


def test_photos_stay_with_their_records(place, tmp_path):
    run(["ws-weaken", place("p", "label", "image"), "--tags", "-o", tmp_path / "out"])

    assert [r.kinds() for r in open_source(str(tmp_path / "out"))] == [{"tags", "image"}] * 6


def test_a_record_without_masks_is_named(place, tmp_path):
    done = run(["ws-weaken", place("p", "tags"), "--boxes", "-o", tmp_path / "out"], code=1)

    assert "img000: has no label or instance map to weaken (it holds tags)" in complaint(done)


def test_an_image_of_nothing_has_labels_of_nothing(tmp_path):
    record = Record("a")
    record.set("label", np.full((9, 9), 255, np.uint8))

    run(["ws-weaken", write_place(tmp_path / "p", [record]), *ALL, "-o", tmp_path / "out"])

    weak, = open_source(str(tmp_path / "out"))
    assert weak.get("tags") == () and weak.get("counts") == {}
    assert len(weak.get("boxes").classes) == len(weak.get("points").classes) == 0
    assert (weak.get("scribble") == 255).all()
    assert keys_of(tmp_path / "out") == ["a"]
