import subprocess
import sys

import pytest

from wsseg.data.names import DATASETS, THINGS, load_names
from wsseg.errors import UsageError


def test_the_tables_have_the_sizes_of_their_data_sets():
    # 20 + background; 19 train ids; 80 things + background; 80 things + 53 stuff + reserved 0
    assert {name: len(names) for name, names in DATASETS.items()} == {
        "voc": 21, "cityscapes": 19, "coco": 81, "coco-panoptic": 134}


@pytest.mark.parametrize("name", DATASETS)
def test_no_class_has_two_ids(name):
    assert len(set(DATASETS[name])) == len(DATASETS[name])


def test_well_known_ids_are_right():
    assert DATASETS["voc"].index("person") == 15
    assert DATASETS["voc"][1:] == tuple(sorted(DATASETS["voc"][1:]))
    assert DATASETS["cityscapes"].index("car") == 13
    assert DATASETS["coco"].index("toothbrush") == 80
    assert DATASETS["coco-panoptic"].index("rug-merged") == 133


def test_things_are_the_countable_classes():
    assert [DATASETS["cityscapes"][i] for i in THINGS["cityscapes"]] == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert DATASETS["coco-panoptic"][THINGS["coco-panoptic"].stop] == "banner"
    assert 0 not in THINGS["voc"]


def test_names_come_from_a_data_set_or_a_file(tree):
    path = str(tree({"my.txt": "\ufeffbackground\r\nwire\r\ninsulator\r\n"}) / "my.txt")
    assert load_names("voc") is DATASETS["voc"]
    assert load_names(path) == ("background", "wire", "insulator")


def test_an_unknown_spec_names_both_possibilities():
    with pytest.raises(UsageError, match="voc, cityscapes, coco, coco-panoptic or the path"):
        load_names("vox")


def test_a_file_that_is_no_text_is_a_usage_error(tree):
    with pytest.raises(UsageError, match="not UTF-8"):
        load_names(str(tree({"x": b"\x89PNG\xff"}) / "x"))


def test_importing_names_loads_nothing_heavy():
    code = ("import sys, wsseg.data, wsseg.data.names, wsseg.data.lists\n"
            "print(sorted({'numpy', 'PIL', 'json'} & set(sys.modules)))")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
