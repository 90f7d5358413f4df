"""ws-budget plan as a command, on a small curve whose answers are worked out here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_info import run
from tests.conftest import complaint, make_record, write_place

#: Masks of VOC: 239.7 s, tags 20 s an image.
TABLE = "method,masks,tags,percent,low,high\n" \
        "strong,100,,40,36,44\nstrong,400,,60,57,63\nweak,,1000,45,44,46\n"


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "t.csv").write_text(TABLE)
    return str(tmp_path / "t.csv")


def plan(table: str, *words) -> dict:
    return json.loads(run(["ws-budget", "plan", table, "--dataset", "voc", *words,
                           "--json"]).stdout)


def text(table: str, *words) -> str:
    return run(["ws-budget", "plan", table, "--dataset", "voc", *words]).stdout.decode()


def test_a_budget_of_two_hundred_masks_is_half_way_from_100_to_400(table):
    found = plan(table, "--seconds", 200 * 239.7)

    best = found["best"]
    assert (best["method"], best["buy"], best["measured"]) == ("strong", {"masks": 200}, False)
    assert best["score"] == pytest.approx(.5)
    assert best["interval"] == pytest.approx([.465, .535])
    assert [o["method"] for o in found["methods"]] == ["strong", "weak"]


def test_days_have_24_hours(table):
    one, other = plan(table, "--days", "0.5"), plan(table, "--seconds", "43200")

    assert one == other and one["best"]["buy"] == {"masks": int(43200 / 239.7)}


def test_only_what_was_measured(table):
    found = plan(table, "--seconds", 200 * 239.7, "--measured")

    assert (found["best"]["method"], found["best"]["buy"]) == ("weak", {"tags": 1000})
    assert found["left"] == pytest.approx(200 * 239.7 - 20000)
    # 300 more masks than none: from tags, all 400 are to be bought
    assert found["next"]["buy"] == {"masks": 400}
    assert found["next"]["score_per_day"] == pytest.approx(.15 / (400 * 239.7 / 86400))


def test_the_front_is_what_was_measured_and_not_beaten(table):
    assert [(p["method"], p["score"]) for p in plan(table, "--days", 1)["front"]] == [
        ("weak", .45), ("strong", .6)]


def test_zero_buys_nothing_and_says_what_to_save_for(table):
    found = plan(table, "--days", "0")

    assert (found["best"], found["methods"], found["left"]) == (None, [], 0)
    assert found["next"]["buy"] == {"tags": 1000}  # 45 points for 20,000 s, 40 for 23,970
    shown = text(table, "--days", "0")
    assert "buy nothing" in shown and "was not measured" in shown


def test_beyond_what_was_measured_nothing_is_promised(table):
    found = plan(table, "--days", "100")

    assert (found["best"]["score"], found["beyond_measured"], found["next"]) == (.6, True, None)
    assert "what more labels would add is not known" in text(table, "--days", "100")


def test_labels_that_one_has_are_free(table):
    found = plan(table, "--seconds", 100 * 239.7, "--have", "masks=100")

    assert found["best"]["buy"] == {"masks": 100} and found["best"]["images"] == {"masks": 200}
    assert found["best"]["score"] == pytest.approx(.5)


def test_no_more_images_than_there_are(table):
    found = plan(table, "--days", 1, "--images", 250)

    assert found["best"]["buy"] == {"masks": 250} and [p["score"] for p in found["front"]] == [.4]


def test_what_too_few_images_leave_out_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("method,score,masks\nf,.5,10\nf,.8,20\n")
    words = ["ws-budget", "plan", tmp_path / "t.csv", "--dataset", "voc", "--days", "9"]
    told = run([*words, "--images", "12", "--measured"]).stdout.decode()
    assert "what is better needs more images than there are" in told
    assert "nothing better was measured" not in told
    told = run([*words, "--images", "5"]).stdout.decode()
    assert "buy nothing: all that was measured needs more images than there are" in told
    assert "nothing better was measured" in run(words).stdout.decode()


def test_a_users_own_images_and_prices_change_what_a_budget_buys(table, tmp_path):
    labels = write_place(tmp_path / "own", [make_record(i, "boxes") for i in range(3)])
    (tmp_path / "timings.csv").write_text("action,seconds\n" + "mask,19\nmask,21\nmask,500\n")

    found = json.loads(run(["ws-budget", "plan", table, "--statistics", labels, "--prices",
                            tmp_path / "timings.csv", "--seconds", 8000, "--json"]).stdout)

    # two classes asked for, both present, two objects: 2 * 21 s an image
    assert found["best"]["buy"] == {"masks": 8000 // 42}
    (tmp_path / "own.json").write_bytes(run(["ws-budget", "statistics", labels, "--json"]).stdout)
    again = run(["ws-budget", "plan", table, "--statistics", tmp_path / "own.json", "--price",
                 "mask=21", "--seconds", 8000, "--json"]).stdout
    assert json.loads(again) == found


def test_the_table_says_what_to_buy_and_what_comes_next(table):
    lines = text(table, "--seconds", 200 * 239.7, "--full", ".8").splitlines()

    assert lines[0] == "budget 0.55 days (47,940 s)"
    assert lines[2].split()[:6] == ["buy", "masks=200", "strong", "0.55", "47,940", "50.00"]
    assert "62.50  between 0.28 and 1.11 days" in lines[2]
    assert lines[3].split()[:3] == ["or", "tags=1,000", "weak"]
    assert lines[4].split()[:3] == ["next", "masks=200", "strong"] and "+10.00" in lines[4]


@pytest.mark.parametrize("words, message", [
    ("", "--days or --seconds"), ("--days 1 --seconds 1", "--days or --seconds"),
    ("--days -1", "--days"), ("--days nan", "not a finite number"),
    ("--seconds inf", "not a finite number"),
    ("--days 1 --have mask=1", "--have: no kind is called 'mask'"),
    ("--days 1 --statistics none", "none: no such file"),
    ("--days 1 --statistics none --dataset voc", "exclude each other")])
def test_a_bad_question_is_one_line(words, message, table):
    assert message in complaint(run(["ws-budget", "plan", table, *words.split()], code=2))


def test_what_one_has_must_be_comparable(tmp_path):
    (tmp_path / "t.csv").write_text("score,days\n.5,1\n")

    done = run(["ws-budget", "plan", tmp_path / "t.csv", "--days", 2, "--have", "masks=3"], code=2)

    assert "is not known" in complaint(done)


def test_the_papers_own_curve_says_few_strong_labels_beat_many_weak_ones():
    points = run("ws-budget paper --json").stdout

    found = json.loads(run(["ws-budget", "plan", "-", "--days", "2.45", "--json"],
                           stdin=points).stdout)

    scores = {o["method"]: o["score"] for o in found["methods"]}
    assert found["best"]["method"] == "RSIS" and scores["Zhou et al."] == .268
    assert scores["RSIS"] > .429
