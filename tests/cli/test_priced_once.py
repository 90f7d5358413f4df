"""Labels are priced once, however many ways they come by: through ws-train, ws-fuse, ws-cam."""

from __future__ import annotations

import json
import tarfile

import pytest

pytest.importorskip("torch")

from tests import training  # noqa: E402
from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.cli import boxfill, budget, cam, cat, fuse, info, view  # noqa: E402
from wsseg.io.header import Header, Total  # noqa: E402
from wsseg.io.places import open_sink, open_source  # noqa: E402
from wsseg.io.supervision import by_kind, named  # noqa: E402
from wsseg.nets.model import read_card  # noqa: E402

runner = training.runner
STRONG, WEAK = ([f"img{i:03d}" for i in numbers] for numbers in (range(6), range(6, 14)))
CLASSIFY = ("--task", "classify", "--backbone", "tiny", "--init", "none", "--crop", "33",
            "--batch", "4", "--iterations", "2", "--device", "cpu", "--precision", "fp32", "-j2")


def card(runner, out) -> dict:
    return {k: tuple(v) for k, v in
            read_card(runner.folder / out / "model.safetensors")["supervision"].items()}


def seen(runner, place) -> dict:
    """What ws-info says that people gave."""
    return json.loads(runner(place, "--json", tool=info).out)["places"][0]["supervision"]


def cost(runner, *words) -> float:
    told = json.loads(runner("cost", *words, "--json", tool=budget).out)
    return sum(row["seconds"] for row in told["rows"])


def weights(path) -> tuple[str, ...]:
    """Quick options that start from a model."""
    return (*training.QUICK[:training.QUICK.index("--init")], "--init", path,
            *training.QUICK[training.QUICK.index("--init") + 2:])


def test_pseudo_labels_and_the_masks_behind_them_cost_the_masks(runner):
    """g trains on 4 of the masks and on labels that f, trained on these 4, gave to the rest."""
    (runner.folder / "keys").write_text("".join(f"{k}\n" for k in STRONG[:4]))
    runner.train("strong", "--keys", "keys", out="f")
    runner.predict("f", "weak", "--images", "weak", "--write", "label", "-o", "mixed")
    runner("weak", "--only", "image", "-o", "photos", tool=cat)
    runner.predict("f", "photos", "--write", "label", "--keep", "image", "-o", "pseudo")
    runner.train("strong", "--keys", "keys", "--weak", "pseudo", out="g")

    masks = {named("masks", STRONG[:4]): (4, 8, 8)}
    assert card(runner, "f") == masks == card(runner, "g")
    for model in "fg":
        runner.predict(model, "--images", "val", "--write", "label", "-o", f"{model}_out")
        assert seen(runner, f"{model}_out") == {"masks": [4, 8, 8]}
    assert cost(runner, "f_out") == cost(runner, "g_out") == cost(
        runner, "strong", "--keys", "keys") > 0
    # masks of other images add up, to the next generation too
    (runner.folder / "rest").write_text("".join(f"{k}\n" for k in STRONG[4:]))
    runner.train("strong", "--keys", "rest", "--weak", "pseudo", out="h")
    assert by_kind(card(runner, "h")) == {"masks": (6, 12, 12)}
    assert seen(runner, "mixed") == {"boxes": [8, 16, 16], "tags": [8, 16, 16],
                                     "masks": [4, 8, 8]}


def test_boxes_that_a_net_learnt_from_and_that_are_fused_cost_once(runner):
    """One stream comes from a net trained on the boxes, another one carries them."""
    runner("weak", "--only", "boxes", "-o", "boxes", tool=cat)
    records = [make_record(i, "image", "label") for i in range(6, 14)]
    for record in records:  # filled boxes
        record.supervision = {"boxes": (2, 2)}
    write_place(runner.folder / "filled", records, kinds=["image", "label"])
    runner.train("filled", out="net")
    runner.predict("net", "--images", "filled", "--write", "score", "-o", "scores")
    boxes = {"boxes": [8, 16, 16]}
    assert seen(runner, "scores") == boxes == seen(runner, "boxes")

    runner("scores", "--outside", "ignore", "--weak", "boxes", "-o", "fused", tool=fuse)
    runner("filled", "scores", "--rule", "priority", "--outside", "ignore", "--weak", "boxes",
           "-o", "again", tool=fuse)
    (runner.folder / "some").write_text("".join(f"{k}\n" for k in WEAK[:3]))
    runner("scores", "--outside", "ignore", "--weak", "boxes", "--keys", "some", "-o", "few",
           tool=fuse)
    for made in ("fused", "again", "few"):
        assert seen(runner, made) == boxes, made
        assert cost(runner, made) == cost(runner, "boxes") > 0
    assert "boxes of 8 images" in runner("fused", tool=info).out.replace("\n" + " " * 14, " ")
    runner("fused", "-o", "page.html", tool=view)
    page = (runner.folder / "page.html").read_text()
    assert "boxes@" not in page and "<td>8</td>" in page.replace(' class="number"', "")

    write_place(runner.folder / "others", [make_record(i, "boxes", "label") for i in range(6)],
                kinds=["boxes", "label"])
    runner("others", "fused", "-o", "both", tool=cat)
    assert seen(runner, "both") == {"boxes": [14, 28, 28]}  # 6 of other images


def test_a_net_tells_of_the_labels_behind_the_model_that_it_starts_from(runner):
    runner.train("strong", out="masks")
    runner.train("--weak", "weak", "--weak-loss", "em-fixed", out="tagged",
                 quick=weights("masks/model.safetensors"))
    assert by_kind(card(runner, "tagged"))["masks"] == (6, 12, 12)
    runner.predict("tagged", "--images", "val", "--write", "label", "-o", "out")
    assert seen(runner, "out")["masks"] == [6, 12, 12]
    assert "strong labels of 6 images" in " ".join(runner("out", tool=info).out.split())
    history = read_card(runner.folder / "tagged/model.safetensors")["history"]
    before = read_card(runner.folder / "masks/model.safetensors")["history"]
    assert before[-1] in history and before[-1]["id"] in history[-1]["previous"]
    assert "init" in history[-1]["inputs"]


def test_a_net_that_starts_from_a_classifier_of_the_same_tags_counts_them_once(runner):
    runner("weak", "--only", "image", "--only", "tags", "-o", "tags", tool=cat)
    runner.train("tags", out="tagger", quick=CLASSIFY)
    (runner.folder / "some").write_text("".join(f"{k}\n" for k in WEAK[:5]))
    quick = weights("tagger/model.safetensors")
    runner.train("--weak", "tags", "--weak-loss", "em-fixed", out="all", quick=quick)
    runner.train("--weak", "tags", "--weak-loss", "em-fixed", "--keys", "some", out="some_of",
                 quick=quick)
    for out in ("all", "some_of"):
        assert card(runner, out) == {named("tags", WEAK): (8, 16, 16)}, out
    runner.train("--weak", "tags", "--weak-loss", "em-fixed", "--keys", "some", out="alone")
    assert card(runner, "alone") == {named("tags", WEAK[:5]): (5, 10, 10)}


@pytest.mark.parametrize("words", [["tags"], ["photos", "--tags", "tags"]])
def test_activation_maps_of_shards_come_to_the_tags_of_all(runner, words):
    runner("weak", "--only", "image", "--only", "tags", "-o", "tags", tool=cat)
    runner("tags", "--only", "image", "-o", "photos", tool=cat)
    runner.train("tags", out="tagger", quick=CLASSIFY)
    runner("tagger", *words, "--stride", 4, "-o", "whole", tool=cam)
    for part in (1, 2):
        runner("tagger", *words, "--stride", 4, "--shard", f"{part}/2", "-o", f"part{part}",
               tool=cam)
        assert seen(runner, f"part{part}") == {"tags": [8, 16, 16]}
    runner("part1", "part2", "-o", "shards", tool=cat)
    assert seen(runner, "shards") == seen(runner, "whole") == {"tags": [8, 16, 16]}
    (runner.folder / "some").write_text("".join(f"{k}\n" for k in WEAK[:5]))
    runner.train("tags", "--keys", "some", out="less", quick=CLASSIFY)
    runner("less", *words, "--stride", 4, "-o", "more", tool=cam)
    # which of them the model has seen before is not known: too high, never too low
    assert seen(runner, "more") == {"tags": [13, 26, 26]}


def test_shards_of_labels_add_up_to_the_whole(runner):
    for form in ("", ".h5", ".tar"):
        for part in (1, 2, 3):
            runner("weak", "--shard", f"{part}/3", "-o", f"part{part}{form}", tool=cat)
        parts = [f"part{part}{form}" for part in (1, 2, 3)]
        runner(*parts, "-o", f"joined{form}", tool=cat)
        ends = [open_source(str(runner.folder / p)).end for p in (*parts, f"joined{form}")
                if form != ".tar"]
        if form == ".tar":
            for part in (*parts, f"joined{form}"):
                source = open_source(str(runner.folder / part))
                list(source)
                ends.append(source.end)
        *some, whole = ends
        assert whole.given == {named(k, WEAK): (8, 16, 16) for k in ("boxes", "tags")}
        for kind in ("boxes", "tags"):
            digest = sum(int(end.labelled[kind], 16) for end in some) % 2**48
            assert f"{digest:012x}" == whole.labelled[kind]


def test_places_that_were_written_before_are_read_verified_and_added_up(runner):
    runner("weak", "--only", "boxes", "-o", "boxes", tool=cat)
    end = runner.folder / "boxes/__wsseg__/end.json"
    value = json.loads(end.read_text())
    assert value.pop("labelled").keys() == {"boxes"}
    end.write_text(json.dumps(value))
    header = runner.folder / "boxes/__wsseg__/header.json"
    assert "@" not in header.read_text()
    assert "  sound       yes" in runner("--check", "boxes", tool=info).out
    assert seen(runner, "boxes") == {"boxes": [8, 16, 16]}

    runner.train("strong", out="net")
    old = {"masks": [6, 12, 12]}
    model = runner.folder / "net/model.safetensors"
    (entry,) = card(runner, "net")
    model.write_bytes(model.read_bytes().replace(  # a card as it was before
        f'"supervision\\": {{\\"{entry}\\"'.encode(),
        f'"supervision\\": {{\\"masks\\"{" " * (len(entry) - 5)}'.encode()))
    assert read_card(model)["supervision"] == old
    runner.predict("net", "--images", "strong", "--write", "label", "--keep", "image", "-o", "out")
    assert open_source(str(runner.folder / "out")).header.supervision == {"masks": (6, 12, 12)}
    (runner.folder / "some").write_text("img000\n")
    runner.train("strong", "--keys", "some", "--weak", "out", out="more")
    assert card(runner, "more") == {"masks": (6, 12, 12),
                                    named("masks", ["img000"]): (1, 2, 2)}


@pytest.fixture
def unpacked(runner) -> list[str]:
    """Filled boxes of six and of eight images, in tars that another program unpacked."""
    for name, numbers in ("first", range(6)), ("second", range(6, 14)):
        records = [make_record(i, "image", "label") for i in numbers]
        for record in records:
            record.supervision = {"boxes": (2, 2)}
        write_place(runner.folder / f"{name}.tar", records, kinds=["image", "label"])
        with tarfile.open(runner.folder / f"{name}.tar") as tar:
            tar.extractall(runner.folder / name, filter="data")
    return ["first", "second"]


def test_labels_of_an_unpacked_tar_count_wherever_it_goes(runner, unpacked):
    """No record says there what it carries."""
    first, second = {"boxes": [6, 12, 12]}, {"boxes": [8, 16, 16]}
    assert seen(runner, "first") == first and seen(runner, "second") == second
    assert "  sound       yes" in runner("--check", "first", tool=info).out
    runner(*unpacked, "-o", "both", tool=cat)
    runner("first", "second.tar", "-o", "mixed", tool=cat)
    assert seen(runner, "both") == seen(runner, "mixed") == {"boxes": [14, 28, 28]}
    runner("second", "--only", "image", "-o", "photos", tool=cat)
    runner("photos", "--with", "second", "-o", "joined", tool=cat)
    assert seen(runner, "joined") == second
    runner.train("first", out="net")
    assert by_kind(card(runner, "net")) == {"boxes": (6, 12, 12)}


def test_labels_that_are_behind_a_place_too_count_once_in_a_row_of_places(runner):
    """As a stream leaves them: its header tells what its records will carry."""
    for name, numbers in ("first", range(6)), ("second", range(6, 14)):
        records = [make_record(i, "tags") for i in numbers]
        for record in records:
            record.supervision = {"tags": (2, 2)}
        sink = open_sink(str(runner.folder / name), header := Header(
            kinds=("tags",), classes=("background", "cat", "dog"),
            supervision={named("tags", [r.key for r in records]): (len(records),) * 3}))
        total = Total()
        for packed in (record.pack() for record in records):
            sink.write(packed, packed.digest)
            total.add(packed.key, packed.digest, packed.supervision)
        sink.finish(total.end(header))
    runner("first", "second", "-o", "both", tool=cat)
    assert seen(runner, "both")["tags"][0] == 14


def test_a_map_that_is_joined_brings_the_labels_that_it_was_made_of(runner):
    records = [make_record(i, "label") for i in range(6, 14)]
    for record in records:
        record.supervision = {"scribble": (2, 3)}
    write_place(runner.folder / "maps", records, kinds=["label"])
    runner("weak", "--only", "image", "--only", "boxes", "-o", "boxes", tool=cat)
    runner("boxes", "--method", "proposal", "--boundaries", "maps", "-o", "filled", tool=boxfill)
    assert seen(runner, "filled") == {"boxes": [8, 16, 16], "scribble": [8, 16, 24]}
