"""Tables 1 and 5 of Bellver et al. 2019, and where it differs from its own model."""

from __future__ import annotations

import pytest

from wsseg.budget import paper
from wsseg.budget.costs import DAY

SECONDS = {"masks": 18.5 + 2.8 * 79, "counts": 20 + 1.5 * 1.48, "tags": 20.0}


def test_table_1_is_what_it_prints():
    rows = {row["name"]: row for row in paper.as_json()["table_1"]}

    assert {name: round(row["seconds_per_image"], 9) for name, row in rows.items()} == {
        "IL": 20, "IL+C": 22.22, "Full": 239.7, "BB": 38.1}
    assert all(abs(r["seconds_per_image"] - r["printed"]) < 1e-9 for r in rows.values())


@pytest.mark.parametrize("row", paper.TABLE_5, ids=lambda r: f"{r.method}-{r.strong}-{r.weak}")
def test_a_row_of_table_5_costs_its_labels(row):
    assert row.days == pytest.approx(
        sum(n * SECONDS[kind] for kind, n in row.images.items()) / 86400)


def test_days_of_table_5_are_cut_off_but_for_zhou():
    printed = [paper.cut_off(row.days) for row in paper.TABLE_5]

    assert printed == [.27, .55, .51, 1.10, 1.14, 2.21, 2.31, 2.44]
    assert [row.printed for row in paper.TABLE_5] == [.27, .55, .51, 1.1, 1.14, 2.21, 2.31, 2.43]
    assert [f"{row.days:.4f}" for row in paper.TABLE_5] == [
        "0.2774", "0.5549", "0.5120", "1.1097", "1.1410", "2.2194", "2.3134", "2.4495"]


def test_rounding_would_print_other_days():
    assert [round(row.days, 2) for row in paper.TABLE_5 if row.method == "RSIS"] == [
        .28, .55, 1.11, 2.22]


def test_unlabelled_images_are_all_others():
    for row in paper.TABLE_5:
        assert not row.unlabelled or row.strong + row.unlabelled == paper.TRAIN == 1464 + 9118


def test_the_ap_of_400_strong_images_is_printed_in_two_ways():
    table = {row.strong: row.ap for row in paper.TABLE_5 if row.method == "RSIS"}

    assert {n: (table[n], ap) for n, ap in paper.FIGURE_7.items() if n in table
            and table[n] != ap} == {400: (35.5, 35.7)}


def test_figure_11_agrees_with_table_5_and_has_half_of_9118():
    table = {row.weak: row.ap for row in paper.TABLE_5 if row.strong == 200 and row.weak}

    assert table == {2279: 30.8, 6838: 32.7}
    assert all(paper.FIGURE_11[weak] == ap for weak, ap in table.items())
    assert 4559 in paper.FIGURE_11 and 4459 not in paper.FIGURE_11 and 9118 / 2 == 4559


@pytest.mark.parametrize("words", ["0.2774 is printed 0.27", "2.43 days; 10582 * 20 s are 2.4495",
                                   "printed 4459; it is 4559", "35.7 in figure 7 and 35.5",
                                   "31.7 without pseudo labels in table 3 and 31.8 in table 4",
                                   "is the W-RSIS row", "not charged for the counts"])
def test_slips_are_told(words):
    assert words in " ".join(paper.as_text().split())


def test_points_have_the_papers_scores_and_our_costs():
    points = {(p.method, p.size): p for p in paper.paper_points()}

    assert len(points) == 5 + 1 + 5 + 1
    assert points["RSIS", "800"].score == .429
    assert points["RSIS", "800"].seconds == pytest.approx(191760)
    assert points["W-RSIS N=200", "200+2279"].days == pytest.approx(
        (200 * 239.7 + 2279 * 22.22) / DAY)
    assert points["Zhou et al.", "10582"].parts["tags"].images == 10582
