import pytest

from wsseg.data.lists import entry_key, list_entry, read_list, split_keys
from wsseg.errors import UnsafeError, UsageError


def keys(tree, content):
    return read_list(str(tree({"list.txt": content}) / "list.txt"))


def test_bare_stems_are_keys(tree):
    assert keys(tree, "2007_000032\n2007_000039\n") == ["2007_000032", "2007_000039"]


def test_pairs_of_paths_stand_for_the_first_path(tree):
    rloss = "JPEGImages/2007_000032.jpg pascal_2012_scribble/2007_000032.png\n"
    seam = "/JPEGImages/2007_000039.jpg /SegmentationClassAug/2007_000039.png\n"
    assert keys(tree, rloss + seam) == ["2007_000032", "2007_000039"]


def test_integer_keys_stay_text(tree):
    assert keys(tree, "2007000032\n0007\n") == ["2007000032", "0007"]


def test_order_of_the_list_is_kept(tree):
    assert keys(tree, "c\na\nb\n") == ["c", "a", "b"]


def test_windows_files_with_comments_and_blank_lines_are_read(tree):
    assert keys(tree, b"\xef\xbb\xbf# my list\r\n a \t\r\n\r\n  # more\r\nb") == ["a", "b"]


def test_entries_without_an_image_extension_keep_their_folders(tree):
    assert keys(tree, "berlin/000001\n/zurich/7\n./ulm//8\n") == ["berlin/000001", "zurich/7",
                                                                  "ulm/8"]


def test_only_the_last_extension_of_an_image_is_cut():
    assert entry_key("photos/a.v2.JPG") == "a.v2"
    assert entry_key("a.v2") == "a.v2"


def test_names_may_hold_blanks():
    assert entry_key("my photo 1") == "my photo 1"
    assert entry_key("in/my photo.jpg out/my photo.png") == "my photo"


ODD = ["\ufeffb", "#1", "a.png", "#a.JPG", " a", "b/c ", "b/#1", "a.png b", "\ufeffa", "a b/c"]


def test_lists_are_written_so_that_their_keys_come_back(tree):
    assert keys(tree, "".join(f"{list_entry(key)}\n" for key in ODD)) == ODD
    assert list_entry("berlin/000001") == "berlin/000001"


@pytest.mark.parametrize("key", ["b/a.png", "a.png b.png"])
def test_a_key_that_no_line_stands_for_is_refused(key):
    with pytest.raises(UsageError, match="would not be read back"):
        list_entry(key)


@pytest.mark.parametrize("line", ["../x", "a/../../b.jpg", "JPEGImages/a.jpg ../b.png", "a\\b"])
def test_unsafe_entries_are_refused_with_their_line(tree, line):
    with pytest.raises(UnsafeError, match=r"list\.txt:2: "):
        keys(tree, f"good\n{line}\n")


def test_duplicates_are_refused_with_their_lines(tree):
    with pytest.raises(UsageError, match=r"a \(lines 1 and 4\)"):
        keys(tree, "a\n\nb\nphotos/a.jpg\n")


@pytest.mark.parametrize("content", ["", "\n \n# nothing\n", "\ufeff\r\n"])
def test_a_list_without_keys_is_a_usage_error(tree, content):
    with pytest.raises(UsageError, match="no keys"):
        keys(tree, content)


def test_a_list_that_is_not_utf8_names_the_line(tree):
    with pytest.raises(UsageError, match=r"list\.txt:2: not UTF-8"):
        keys(tree, b"a\n\xff\xfe\n")


def test_a_missing_list_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_list(str(tmp_path / "none.txt"))


def test_a_split_is_a_name_or_the_path_of_a_list(tree):
    root = tree({"sets/val.txt": "a\n", "mine.lst": "b\n"})
    assert split_keys(None, str(root / "sets")) is None
    assert split_keys("val", str(root / "sets")) == ["a"]
    assert split_keys(str(root / "mine.lst"), str(root / "sets")) == ["b"]


def test_an_unknown_split_names_those_there_are(tree):
    root = tree({"sets/val.txt": "a\n", "sets/train.txt": "b\n"})
    with pytest.raises(UsageError, match=r"no split 'vall': .*which has train, val"):
        split_keys("vall", str(root / "sets"))
