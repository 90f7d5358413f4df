"""ws-budget curve, plan and paper as commands: what they read, and what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_budget import trained
from tests.cli.test_info import run
from tests.conftest import complaint, make_record, write_place

VOC = {"masks": 239.7, "boxes": 38.1, "tags": 20.0}


def result(path: Path, miou: float, **more) -> str:
    """A result as ws-eval --json writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"miou": miou, "records": 3, "prediction": "gone", **more}))
    return str(path)


def curve(*words, command: str = "curve", **options) -> dict:
    return json.loads(run(["ws-budget", command, *words, "--json"], **options).stdout)


@pytest.fixture
def results(tmp_path: Path) -> list[str]:
    """Two methods, two sizes of two runs each, as their names say."""
    return [result(tmp_path / method / f"{n}-{seed}.json", score + seed / 100)
            for method, base in (("f", .3), ("g", .4))
            for n, score in ((100, base), (200, base + .2)) for seed in (0, 1)]


COSTS = ("--cost", "100=0.25", "--cost", "200=12h")


def test_names_tell_methods_and_sizes_and_costs_are_given(results):
    points = curve(*results, *COSTS)["points"]

    assert [(p["method"], p["size"], p["runs"], p["days"]) for p in points] == [
        ("f", "100", 2, .25), ("f", "200", 2, .5), ("g", "100", 2, .25), ("g", "200", 2, .5)]
    assert points[0]["score"] == pytest.approx(.305)
    assert points[0]["deviation"] == pytest.approx(.01 / 2 ** .5)
    assert [p["front"] for p in points] == [False, False, True, True]


def test_a_cost_can_be_that_of_a_method_or_of_one_of_its_sizes(results):
    points = curve(*results, *COSTS, "--cost", "f/100=1", "--cost", "f=9")["points"]

    assert [p["days"] for p in points if p["method"] == "f"] == [.5, 1.0]


def test_the_cost_beside_a_result_is_read_and_not_taken_for_a_result(tmp_path):
    path = result(tmp_path / "g" / "100-0.json", .5)
    beside = tmp_path / "g" / "100-0.cost.json"
    beside.write_bytes(run("ws-budget cost --dataset voc --mix masks=100,tags=50 --json").stdout)

    point, = curve(path, beside)["points"]

    assert point["seconds"] == pytest.approx(100 * VOC["masks"] + 50 * VOC["tags"])
    assert point["labels"]["masks"] == pytest.approx(
        {"images": 100, "classes": 150, "objects": 280, "seconds": 23970})


def test_the_place_that_was_scored_tells_what_was_spent_on_it(tmp_path):
    place = trained(tmp_path / "p", {"boxes": (10, 15, 28)})
    path = result(tmp_path / "boxes.json", .5, prediction=place)

    point, = curve(path, "--n-classes", "20")["points"]

    assert (point["method"], point["seconds"]) == ("boxes", 10 * 20 - 15 + 28 * 7)
    assert point["labels"]["boxes"]["images"] == 10


def test_a_place_that_records_no_labels_is_not_taken_for_free(tmp_path):
    place = trained(tmp_path / "p", {})
    path = result(tmp_path / "p.json", .5, prediction=place)

    assert "it records no labels" in complaint(run(["ws-budget", "curve", path], code=2))
    assert curve(path, "--cost", "p=0")["points"][0]["seconds"] == 0


def test_a_result_may_tell_its_supervision(tmp_path):
    names = [{"class": n} for n in ("background", *map(str, range(20)))]
    path = result(tmp_path / "tags.json", .5, supervision={"tags": [10, 15, 15]}, classes=names)

    point, = curve(path)["points"]

    assert (point["seconds"], point["n_classes"]) == (10 * 20, 20)


def test_a_cost_may_be_a_file_or_a_place(tmp_path):
    price = tmp_path / "price.json"
    price.write_bytes(run("ws-budget cost --dataset voc --mix boxes=10 --json").stdout)
    place = trained(tmp_path / "p", {"masks": (10, 15, 28)})

    points = curve(f"a={result(tmp_path / 'x.json', .5)}", f"b={result(tmp_path / 'y.json', .6)}",
                   "--cost", f"a={price}", "--cost", f"b={place}", "--n-classes", "20")["points"]

    assert [p["seconds"] for p in points] == pytest.approx([381, 10 * 20 - 15 + 28 * 79])


def test_what_labels_cost_must_be_known(tmp_path):
    path = result(tmp_path / "boxes.json", .5)

    text = complaint(run(["ws-budget", "curve", path], code=2))

    assert "add --cost boxes=DAYS" in text and "boxes.cost.json" in text


def test_intervals_over_images_are_kept(tmp_path):
    path = result(tmp_path / "a.json", .5, interval=[.4, .55])

    assert curve(path, "--cost", "a=1")["points"][0]["interval"] == pytest.approx([.4, .55])


def test_what_ws_eval_writes_is_read(tmp_path):
    """Two predictions with intervals, priced by what their places record."""
    truth = write_place(tmp_path / "truth", [make_record(i, "label") for i in range(6)],
                        kinds=["label"])
    for kind, seed in (("boxes", 0), ("boxes", 1)):
        run(["ws-weaken", truth, f"--{kind}", "--count", 0, "-o", tmp_path / f"{kind}{seed}"])
        run(["ws-boxfill", tmp_path / f"{kind}{seed}", "--method", "rect",
             "-o", tmp_path / "rect" / f"6-{seed}"])
    done = run(["ws-eval", tmp_path / "rect" / "6-0", tmp_path / "rect" / "6-1", truth,
                "--bootstrap", 50, "--json"])
    (tmp_path / "both.json").write_bytes(done.stdout)

    found = curve(tmp_path / "both.json")

    point, = found["points"]
    assert (found["score"], point["method"], point["size"], point["runs"]) == (
        "miou", "rect", "6", 2)
    assert point["seconds"] == 6 * 2 * 7 and point["labels"]["boxes"]["objects"] == 12
    result_ = json.loads(done.stdout)["results"][0]
    assert point["interval"] == pytest.approx(result_["interval"]["miou"], abs=1e-6)


def test_scores_are_not_mixed(tmp_path):
    one = result(tmp_path / "a.json", .5)
    other = result(tmp_path / "b.json", .4, metric="ap", ap=.3)
    costs = ("--cost", "a=1", "--cost", "b=1")

    done = run(["ws-budget", "curve", one, other, *costs], code=2)

    assert "its score is ap, that of the first result miou" in complaint(done)
    assert [p["score"] for p in curve(one, other, *costs, "--score", "miou")["points"]] == [.5, .4]


def test_full_supervision_of_no_method_is_refused(results):
    told = complaint(run(["ws-budget", "curve", *results, *COSTS, "--full", "h=.8"], code=2))
    assert "--full h=: no point is of that method, but of f, g" in told


def test_shares_of_full_supervision(results, tmp_path):
    full = result(tmp_path / "full.json", .8)

    points = curve(*results, *COSTS, "--full", full, "--full", "g=90%")["points"]

    assert points[0]["of_full"] == pytest.approx(.305 / .8)
    assert points[-1]["of_full"] == pytest.approx(.605 / .9)
    text = run(["ws-budget", "curve", *results, *COSTS, "--full", ".8"]).stdout.decode()
    assert "of full" in text.splitlines()[0] and f"{30.5 / .8:.2f}" in text.splitlines()[1]


def test_a_curve_is_read_again(results, tmp_path):
    first = curve(*results, *COSTS, "--full", ".8")
    (tmp_path / "curve.json").write_text(json.dumps(first))

    assert curve(tmp_path / "curve.json") == first
    mixed = curve(tmp_path / "curve.json", f"h={result(tmp_path / 'h.json', .9)}", "--cost", "h=3")
    assert mixed["points"][-1]["method"] == "h" and len(mixed["points"]) == 5


def test_a_table_on_standard_input():
    points = json.loads(run(["ws-budget", "curve", "--json"],
                            stdin=b"method,percent,days\nf,40,1\ng,50,2\n").stdout)["points"]

    assert [(p["method"], p["score"], p["days"]) for p in points] == [("f", .4, 1), ("g", .5, 2)]


def test_numbers_of_images_are_priced_by_a_data_set(tmp_path):
    (tmp_path / "t.csv").write_text("score,boxes\n.5,10\n")

    assert curve(tmp_path / "t.csv", "--dataset", "voc")["points"][0]["seconds"] == \
        pytest.approx(381)
    assert curve(tmp_path / "t.csv", "--dataset", "voc", "--price",
                 "box=0")["points"][0]["seconds"] == pytest.approx(185)


@pytest.mark.parametrize("suffix, magic", [(".png", b"\x89PNG"), (".svg", b"<?xml"),
                                           (".pdf", b"%PDF")])
def test_curves_are_drawn_and_equal_curves_are_equal_bytes(results, tmp_path, suffix, magic):
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"

    for path in (one, two):
        run(["ws-budget", "curve", *results, *COSTS, "--full", ".8", "--plot", path])

    assert one.read_bytes().startswith(magic)
    assert one.read_bytes() == two.read_bytes()


def test_a_drawing_names_axes_and_methods(results, tmp_path):
    path = tmp_path / "curve.svg"
    run(["ws-budget", "curve", *results, *COSTS, "--full", "f=.8", "--plot", path])

    text = path.read_text()
    assert all(f">{word}</text>" in text for word in ("f", "g", "miou (%)",
                                                      "miou (% of full supervision)",
                                                      "annotation time (days of 24 hours)"))


def test_a_drawing_that_cannot_be_written_is_one_line(results, tmp_path):
    for name, code, reason in (("none/x.png", 1, "cannot write"), ("x.doc", 2, "ending must be")):
        done = run(["ws-budget", "curve", *results, *COSTS, "--plot", tmp_path / name], code=code)
        assert reason in complaint(done) and done.stdout == b""


@pytest.mark.parametrize("text, words, message", [
    ('{"miou": .5', "", "bad JSON"),
    ('{"miou": 0.5}', "--cost a=1 --cost x=1", "--cost x=...: no result"),
    ('{"miou": 0.5}', "--cost 1", "it is WHAT=COST"),
    ('{"miou": 0.5}', "--cost a=soon", "neither a time"),
    ('{"miou": 0.5}', "--full 2x --cost a=1", "'2x' is not a score"),
    ('{"miou": 0.5}', "--full 0 --cost a=1", "a share of zero"),
    ('{"miou": 0.5}', "--score ap --cost a=1", "no score is called 'ap'"),
    ('{"points": [{}]}', "", "not as it should be"), ('{"points": []}', "", "no results"),
    ('{"points": [], "full": {"": 3}}', "", "full is 3"),
    ("score,days\n.5,1\n", "--price box=3", "cannot be priced anew"),
    ("score,days\n.5,1\n", "--mean-classes nan", "not a finite number"),
    ("score,days\n.5,1\n", "--mean-objects inf", "not a finite number"),
    ("score,days\n.5,1\n", "--mean-classes 3", "go together with --n-classes")])
def test_what_is_wrong_is_one_line(text, words, message, tmp_path):
    (tmp_path / "a.json").write_text(text)

    done = run(["ws-budget", "curve", tmp_path / "a.json", *words.split()],
               code=1 if message == "bad JSON" else 2)

    assert done.stdout == b"" and message in complaint(done)


def test_a_missing_file_is_one_line():
    assert "none.json: no such file" in complaint(run("ws-budget curve none.json", code=2))


def test_the_paper_is_shown_and_its_points_make_curves(tmp_path):
    text = run("ws-budget paper").stdout.decode()
    value = run("ws-budget paper --json").stdout

    assert "IL+C  counts    22.22    22.22" in text
    assert "2.4495     2.44     2.43  26.8" in text
    points = json.loads(run(["ws-budget", "curve", "-", "--json"], stdin=value).stdout)
    assert points["score"] == "ap50" and points["full"] == {"": .564}
    best = [(p["method"], p["size"]) for p in points["points"] if p["front"]]
    assert best == [("RSIS", "100"), ("RSIS", "400"), ("RSIS", "800"), ("RSIS", "1464"),
                    ("W-RSIS N=100", "100+912"), ("W-RSIS N=200", "200+912")]


def test_slips_of_the_paper_are_in_its_manual():
    text = " ".join(run("ws-budget paper --help").stdout.decode().split())

    for words in (".2774 is printed .27", "2.43 days for 2.4495", "printed 4459 for 4559",
                  "35.7 in figure 7 and 35.5 in table 5", "31.7 in table 3 and 31.8 in table 4",
                  'M = 6838" in the text is W-RSIS', "not charged for counts"):
        assert words in text


def test_a_file_named_twice_is_no_second_run(results):
    done = run(["ws-budget", "curve", *results, results[0], *COSTS], code=2)
    assert "is named twice" in complaint(done)
    same = [f"{name}={path}" for name in "fg" for path in results[:1]]
    assert len(curve(*same, "--cost", "100=1")["points"]) == 2  # one net as both methods


def test_an_interval_from_above_to_below_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("method,score,masks,low,high\nA,.5,100,.6,.4\n")
    done = run(["ws-budget", "curve", tmp_path / "t.csv", "--dataset", "voc"], code=2)
    assert "low .6 is above high .4" in complaint(done)


def test_an_interval_is_that_of_the_score_it_is_about(tmp_path):
    path = result(tmp_path / "f/100.json", .5, pixel_accuracy=.9, interval=[.4, .6])
    one, other = (curve(path, "--cost", "100=1", *words)["points"][0]["interval"]
                  for words in ((), ("--score", "pixel_accuracy")))
    assert one == [.4, .6] and other is None


def test_tags_and_counts_of_a_table_are_of_images_of_their_own(tmp_path):
    """As for ws-budget cost --mix."""
    (tmp_path / "t.csv").write_text("method,score,tags,counts\nA,.5,100,50\n")
    point, = curve(tmp_path / "t.csv", "--dataset", "voc")["points"]
    mix = json.loads(run(["ws-budget", "cost", "--dataset", "voc", "--mix", "tags=100,counts=50",
                          "--json"]).stdout)
    assert point["seconds"] == pytest.approx(sum(row["seconds"] for row in mix["rows"]))
