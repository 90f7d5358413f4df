"""The annotation budget of Bellver et al. 2019, and what its figures become in our days."""

from __future__ import annotations

import io

import pytest

from wsseg.budget.costs import DATASETS, DAY, Statistics, seconds, spent
from wsseg.budget.prices import Prices, parse_mix, parse_prices, read_prices
from wsseg.budget.report import as_json, as_text, place_rows, priced_dataset
from wsseg.errors import UsageError, WssegError

VOC = {"tags": 20.0, "counts": 20 + 1.5 * 1.48, "boxes": 18.5 + 2.8 * 7,
       "masks": 18.5 + 2.8 * 79}


def voc_days(kind: str, images: float) -> float:
    labels = (images, images * 1.5, images * 2.8)
    return seconds(kind, labels, 20, Prices()) / DAY


@pytest.mark.parametrize("kind, printed", [("tags", 20), ("counts", 22.22), ("boxes", 38.1),
                                           ("masks", 239.7)])
def test_an_image_of_voc_costs_what_table_1_says(kind, printed):
    got = seconds(kind, (1, 1.5, 2.8), 20, Prices())

    assert got == pytest.approx(printed, abs=1e-9) == VOC[kind]


@pytest.mark.parametrize("kind, days", [("tags", 2.45), ("counts", 2.72), ("boxes", 4.67),
                                        ("masks", 29.36)])
def test_the_10582_training_images_cost_these_days_of_24_hours(kind, days):
    assert round(voc_days(kind, 10582), 2) == days == round(10582 * VOC[kind] / 86400, 2)


def test_1464_masks_and_9118_tags_cost_6_17_days():
    rows = priced_dataset(Prices(), dataset="voc", mix="masks=1464,tags=9118")

    days = sum(row.seconds for row in rows) / DAY

    assert days == pytest.approx((1464 * 239.7 + 9118 * 20) / 86400)
    assert round(days, 2) == 6.17


@pytest.mark.parametrize("strong, weak, printed, ours", [
    (100, 0, .27, .2774), (200, 0, .55, .5549), (400, 0, 1.1, 1.1097), (800, 0, 2.21, 2.2194),
    (100, 912, .51, .5120), (200, 2279, 1.14, 1.1410), (200, 6838, 2.31, 2.3134)])
def test_the_paper_cuts_days_of_24_hours_off_and_we_do_not(strong, weak, printed, ours):
    """Table 5; masks of strong images are not charged for counts."""
    got = voc_days("masks", strong) + voc_days("counts", weak)

    assert got == pytest.approx(ours, abs=5e-5)
    assert int(got * 100) / 100 == pytest.approx(printed)


def test_zhou_et_al_cost_2_45_days_and_not_2_43():
    assert voc_days("tags", 10582) == pytest.approx(10582 * 20 / 86400)
    assert f"{voc_days('tags', 10582):.3f}" == "2.450"


def test_points_and_scribbles_cost_what_bearman_et_al_print():
    one = seconds("points", (1, 1.5, 1.5), 20, Prices())
    every = seconds("points", (1, 1.5, 2.8), 20, Prices())
    squiggle = seconds("scribble", (1, 1.5, 1.5), 20, Prices())

    assert one == pytest.approx(18.5 + 1.5 * 2.4) and round(one, 1) == 22.1
    assert every == pytest.approx(18.5 + 1.5 * 2.4 + 1.3 * .9) and round(every, 1) == 23.3
    assert squiggle == pytest.approx(18.5 + 1.5 * 10.9) and round(squiggle, 2) == 34.85


def test_counts_on_top_of_tags_ask_each_image_only_once():
    both = spent({"tags": (10, 15, 15), "counts": (4, 6, 11)}, 20, Prices())
    alone = spent({"counts": (4, 6, 11)}, 20, Prices())

    assert both == pytest.approx({"tags": 200, "counts": 6 * 1.48})
    assert alone == pytest.approx({"counts": 80 + 6 * 1.48})


def test_images_without_labels_are_free():
    assert spent({}, 20, Prices()) == {}
    assert seconds("masks", (0, 0, 0), 20, Prices()) == 0


def test_more_classes_than_were_asked_for_are_an_error_with_the_fix():
    with pytest.raises(UsageError, match="3 classes present in 1 images, but only 2 asked.*"
                                         "--n-classes"):
        seconds("boxes", (1, 3, 3), 2, Prices())


def test_a_kind_without_a_price_is_refused():
    with pytest.raises(WssegError, match="'box' have no price; did you mean boxes"):
        spent({"box": (1, 1, 1)}, 20, Prices())


def test_prices_change_by_file_and_then_by_option():
    table = io.StringIO("action,seconds\n# ours\nbox, 4\n\nmask,50\n")
    table.name = "prices.csv"

    changed = read_prices(["box=3.5"], table)

    assert (changed.box, changed.mask, changed.tag) == (3.5, 50.0, 1.0)


@pytest.mark.parametrize("text, message", [
    ("box", "ACTION=SECONDS"), ("bx=4", "no price is called 'bx'; did you mean box"),
    ("box=x", "price of box is 'x'"), ("box=-1", "not a number of seconds"),
    ("box=nan", "not a number of seconds"), ("box=inf", "not a number of seconds")])
def test_a_bad_price_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_prices([text])


def test_a_bad_line_of_a_price_file_is_named():
    with pytest.raises(UsageError, match="p.csv: 'box,4,5' is not ACTION,SECONDS"):
        parse_prices("box,4,5\n", "p.csv")


@pytest.mark.parametrize("text", ["masks", "masks=", "masks=-1", "masks=1.5", "masks=1,masks=2"])
def test_a_bad_mixture_is_refused(text):
    with pytest.raises(UsageError, match="KIND=IMAGES"):
        parse_mix(text)


def test_a_mixture_of_an_unknown_kind_names_the_nearest():
    with pytest.raises(UsageError, match="'mask'; did you mean masks"):
        parse_mix("mask=1")


def test_the_rows_of_voc_bear_the_papers_names():
    rows = {row.name: row for row in priced_dataset(Prices(), dataset="voc")}

    per_image = {name: round(row.plain()["seconds_per_image"], 2) for name, row in rows.items()}
    assert per_image == {"IL": 20.0, "IL+C": 22.22, "1Point": 22.1, "AllPoints": 23.27,
                         "Squiggle": 34.85, "BB": 38.1, "Full": 239.7}
    assert rows["IL+C"].supervision == "tags+counts"


def test_statistics_of_a_data_set_can_be_replaced():
    full = priced_dataset(Prices(), dataset="voc", mean_objects=1.0, n_classes=10)[-1]

    assert full.seconds == pytest.approx((10 - 1.5) + 79)
    assert DATASETS["voc"].changed(mean_objects=None) == DATASETS["voc"]
    assert isinstance(DATASETS["coco"], Statistics)


def test_boxes_cost_6_3_times_less_than_masks():
    rows = [row for kind in ("boxes", "masks")
            for row in place_rows(f"{kind}/", {kind: (100, 150, 280)}, 20, Prices())]

    text = as_text(rows, add=True)

    assert f"{239.7 / 38.1:.1f}" == "6.3"
    assert "boxes (boxes/) cost 6.3x less than masks (masks/)" in text
    assert text.splitlines()[-2].split()[:2] == ["total", f"{100 * (38.1 + 239.7):,.0f}"]


def test_json_has_rows_totals_prices_and_the_classes_asked():
    rows = place_rows("p", {"tags": (2, 3, 3), "boxes": (1, 1, 2)}, 20, Prices())

    value = as_json(rows, Prices())

    assert value["n_classes"] == 20 and value["prices"]["mask"] == 79
    assert [r["supervision"] for r in value["rows"]] == ["tags", "boxes"]
    assert value["rows"][1]["seconds"] == 19 + 14 == value["rows"][1]["seconds_per_image"]
    assert value["totals"] == [{"name": "p", "seconds": 40 + 33, "days": 73 / 86400}]


def test_a_name_cannot_reach_the_terminal_as_a_control_sequence():
    text = as_text(place_rows("a\x1b[31m", {}, 20, Prices()), add=True)

    assert "\x1b" not in text and "none" in text
