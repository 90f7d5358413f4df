"""What ws-cam refuses, each in one line."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from tests.cli.test_cam import model, runner  # noqa: E402, F401
from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.cli import cam  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.nets import segmenter  # noqa: E402
from wsseg.nets.model import model_bytes  # noqa: E402


@pytest.mark.parametrize("words, said", [
    ([], "name a model, or activation maps with --cams"),
    (["none", "weak"], "none: no such model"),
    (["segmenter.safetensors", "weak"], "is a model of ws-train --task segment"),
    (["model.safetensors"], "no photos: name their folder with --images"),
    (["model.safetensors", "val"], "val has no tags (it holds image, label): name their place"),
    (["model.safetensors", "plain"], "plain has no tags"),
    (["model.safetensors", "lacking"], "img001: has no tags"),
    (["model.safetensors", "tags", "--images", "few"], "without counterpart in few"),
    (["model.safetensors", "many", "--tags", "tags"], "without counterpart in tags"),
    (["model.safetensors", "other"], "unknown class 'dgo'; did you mean 'dog'?"),
    (["model.safetensors", "turned"], "numbers its classes in another way than the model"),
    (["model.safetensors", "high"], "tag 7 is none of the model's 3 classes"),
    (["model.safetensors", "weak", "--all-classes", "--tags", "tags"], "do without them"),
    (["model.safetensors", "weak", "--all-classes", "--min-prob", ".5"], "exclude each other"),
    (["model.safetensors", "weak", "--background", ".1"], "is about labels: add --label"),
    (["model.safetensors", "weak", "--label", "--background", ".3"], "is above the threshold"),
    (["model.safetensors", "weak", "--label", "--threshold", "0"], "shares are above 0"),
    (["model.safetensors", "weak", "--label", "--threshold", "nofile"], "neither a number nor"),
    (["model.safetensors", "weak", "--label", "--threshold", "two"], "must hold one number for"),
    (["model.safetensors", "weak", "--label", "--threshold", "typo"], "did you mean 'cat'"),
    (["model.safetensors", "weak", "--label", "--threshold", "empty"], "empty is empty"),
    (["model.safetensors", "weak", "--label", "--saliency", "tags"], "tags has no conf maps"),
    (["model.safetensors", "weak", "--tags", "tags"], "weak has tags of its own: leave out --tags"),
    (["model.safetensors", "untold.tar", "--tags", "tags"], "img000: has tags of its own besides"),
    (["model.safetensors", "weak", "--threshold", ".15"], "--threshold is about labels"),
    (["model.safetensors", "weak", "--overlap", "smaller"], "--overlap is about labels"),
    (["model.safetensors", "weak", "--salient", ".06"], "--salient is about labels"),
    (["model.safetensors", "weak", "--label", "--salient", ".1"], "about the maps of --saliency"),
    (["model.safetensors", "weak", "--full", "--stride", "8"], "--stride and --full exclude"),
    *((["--cams", "val", "--label", *more], f"{more[0]} is for making maps: --cams has them")
      for more in map(str.split, ("--method cam", "--scales 1", "--flip", "--stride 4", "--full",
                                  "--batch 2", "--images few"))),
    (["model.safetensors", "weak", "--label", "--saliency", "wide"], "the saliency map is 3x3"),
    (["model.safetensors", "weak", "--scales", "0"], "--scales 0 is not numbers"),
    (["--cams", "val", "--label"], "val has no cam (it holds image, label)"),
    (["--cams", "val"], "what is to be made of them? Add --label"),
    (["model.safetensors", "--cams", "val", "--label"], "there is no MODEL and no INPUT"),
    (["--cams", "val", "--label", "--tags", "tags"], "--tags is for making maps"),
])
def test_what_cannot_be_is_one_line(runner, model, words, said):  # noqa: F811
    folder, photo = runner.folder, [make_record(i, "image") for i in range(6)]
    (folder / "segmenter.safetensors").write_bytes(model_bytes(segmenter.build(
        segmenter.NetSpec("tiny", "largefov", 3, width=8)), {"classes": None}))
    (folder / "plain").mkdir()
    Image.fromarray(photo[0].get("image")).save(folder / "plain/img000.png")
    lacking = [make_record(0, "image", "tags"), make_record(1, "image")]
    write_place(folder / "lacking", lacking, kinds=("image", "tags"))
    write_place(folder / "tags", [make_record(i, "tags") for i in range(3)], kinds=["tags"])
    write_place(folder / "few", photo[:2], kinds=["image"])
    write_place(folder / "many", photo, kinds=["image"])
    for name, classes in (("other", ("background", "cat", "dgo")),
                          ("turned", ("background", "dog", "cat"))):
        write_place(folder / name, [make_record(0, "image", "tags")], kinds=("image", "tags"),
                    classes=classes)
    high = make_record(0, "image")
    high.set("tags", (7,))
    write_place(folder / "high", [high], kinds=("image", "tags"), classes=None)
    wide = [Record(f"img{i:03d}") for i in range(6, 14)]
    for record in wide:
        record.set("conf", np.zeros((3, 3), np.uint8))
    write_place(folder / "wide", wide, kinds=["conf"])
    write_place(folder / "untold.tar", lacking[:1])
    for name, text in {"empty": "\n", "two": ".1\n.2\n", "typo": "cta .2\n"}.items():
        (folder / name).write_text(text)
    told = runner(*words, "-o", "out", tool=cam, code=None)
    assert said in told.err and told.err.count("\n") == 1 and told.err.startswith("ws-cam: ")
