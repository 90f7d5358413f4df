import numpy as np
import pytest

from wsseg.data import open_dataset
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError


def line(tag, *points):
    return (f"<polygon><tag>{tag}</tag>"
            + "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points) + "</polygon>")


def xml(*lines, size=None):
    head = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    return f"<annotation>{head}{''.join(lines)}</annotation>"


def scribble(tree, *lines, size=(8, 10)):
    root = tree({"a.xml": xml(*lines, size=size)})
    return open_dataset("scribblesup", str(root)).get("a").get("scribble")


def test_one_polygon_is_one_line_three_pixels_wide(tree):
    want = np.full((8, 10), 255, np.uint8)
    want[2:5, 1:8] = 15  # x from 2 - 1 to 6 + 1, y 3 +- 1
    got = scribble(tree, line("person", (2, 3), (6, 3)))
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.uint8


def test_lines_are_not_closed(tree):
    canvas = scribble(tree, line("cat", (1, 1), (8, 1), (8, 6)))
    assert canvas[6, 8] == 8 and canvas[4, 4] == 255


def test_later_lines_go_over_earlier_ones_and_background_is_class_0(tree):
    canvas = scribble(tree, line("dog", (0, 4), (9, 4)), line("background", (5, 0), (5, 7)))
    assert canvas[4, 2] == 12 and canvas[4, 5] == 0 and canvas[0, 5] == 0 and canvas[0, 0] == 255


def test_points_may_lie_outside_and_lines_may_have_one_or_none(tree):
    canvas = scribble(tree, line("dog", (-5, 4), (2, 4)), line("cat", (9, 7)), line("cow"),
                      line("sofa", (90, 90)))
    assert (canvas[3:6, 0:4] == 12).all() and (canvas[6:, 8:] == 8).all()
    assert sorted(np.unique(canvas)) == [8, 12, 255]


def test_a_file_without_lines_is_a_scribble_of_nothing(tree):
    assert (scribble(tree) == 255).all()


def test_the_photo_gives_the_size_and_the_lists(tree):
    root = tree({"scribble_annotation/pascal_2012/a.xml": xml(line("dog", (1, 1))),
                 "scribble_annotation/pascal_2012/b.xml": xml(line("dog", (1, 1))),
                 "JPEGImages/a.jpg": (4, 6), "JPEGImages/b.jpg": (4, 6),
                 "ImageSets/Segmentation/val.txt": "b\n"})
    data = open_dataset("scribblesup", str(root))
    assert data.header.kinds == ("image", "scribble") and len(data.keys()) == 2
    assert data.get("a").get("scribble").shape == (4, 6)
    inner = root / "scribble_annotation/pascal_2012"
    assert list(open_dataset("scribblesup", str(inner), split="val").keys()) == ["b"]


def test_a_missing_photo_is_counted(tree):
    root = tree({"a.xml": xml(), "b.xml": xml(), "JPEGImages/a.jpg": (4, 6)})
    with pytest.raises(WssegError, match="1 of 2 records have no photo: b"):
        open_dataset("scribblesup", str(root))


def test_an_unknown_size_is_an_error_that_says_where_to_put_photos(tree):
    with pytest.raises(RecordError, match="size unknown: a.xml has no <size>, and no JPEGImages"):
        scribble(tree, size=None)


def test_two_sizes_are_a_record_error(tree):
    root = tree({"a.xml": xml(size=(6, 4)), "JPEGImages/a.jpg": (4, 6)})
    with pytest.raises(RecordError, match="6x4 pixels, but its photo a.jpg of 4x6; transposed"):
        open_dataset("scribblesup", str(root)).get("a").get("scribble")


@pytest.mark.parametrize("bad, message", [
    (line("tv monitor", (1, 1)), "unknown class 'tv monitor'; did you mean 'tvmonitor'"),
    ("<polygon><point><X>1</X><Y>1</Y></point></polygon>", r"polygon\[0\] has no <tag>"),
    (line("dog", (1, "nan")), "<Y> is 'nan', not a finite number"),
    (line("dog", (1, "1e12")), "more than 1048576 pixels away"),
    ("<polygon><tag>dog</tag><point><X>1</X></point></polygon>", r"point\[0\] has no <Y>"),
])
def test_malformed_lines_are_record_errors(tree, bad, message):
    with pytest.raises(RecordError, match=message):
        scribble(tree, bad)


def test_an_absurd_size_is_refused_before_anything_is_drawn(tree):
    with pytest.raises(UnsafeError, match="refused before decoding"):
        scribble(tree, size=(10 ** 6, 10 ** 6))


def test_a_folder_without_scribbles_is_a_usage_error(tree):
    with pytest.raises(UsageError, match=r"looked for \*.xml in it and in scribble_annotation"):
        open_dataset("scribblesup", str(tree({"JPEGImages/a.jpg": (4, 6)})))
