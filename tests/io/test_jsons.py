"""The JSON kinds: what is written is read again, and each fault is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.conftest import make_value, same
from wsseg.errors import RecordError, UsageError
from wsseg.io import jsons
from wsseg.io.codec import decode, encode

NAMES = ("background", "cat", "dog", "potted plant")
JSON_KINDS = ("tags", "counts", "boxes", "points", "masks")
READ = {kind: getattr(jsons, f"read_{kind}") for kind in (*JSON_KINDS, "segments")}


@given(st.sampled_from(JSON_KINDS), st.integers(0, 1 << 30))
def test_a_value_survives_and_its_bytes_are_canonical(kind, seed):
    value = make_value(kind, np.random.default_rng(seed))
    members = encode(kind, value)
    again = decode(kind, members)
    assert same(again, value)
    assert encode(kind, again) == members
    (name, data), = members.items()
    assert name == f"{kind}.json"
    assert data.endswith(b"\n") and data.count(b"\n") == 1
    expected = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")) + "\n"
    assert data.decode() == expected


def test_files_read_as_the_documentation_shows_them():
    assert jsons.dump(jsons.write_tags([1, 15])) == b'{"classes":[1,15]}\n'
    assert jsons.dump(jsons.write_counts({15: 2})) == b'{"counts":{"15":2}}\n'
    boxes = jsons.read_boxes({"size": [4, 5], "boxes": [{"class": 1, "box": [0, 1, 2.5, 3]}]}, None)
    assert jsons.dump(jsons.write_boxes(boxes)) == \
        b'{"boxes":[{"box":[0,1,2.5,3],"class":1}],"size":[4,5]}\n'


@pytest.mark.parametrize("kind, value, ids", [
    ("tags", {"classes": ["dog", "cat", 3, "dog"]}, [1, 2, 3]),
    ("counts", {"counts": {"dog": 2, "1": 1}}, [1, 2]),
    ("boxes", {"boxes": [{"class": "dog", "box": [0, 0, 1, 1]}]}, [2]),
    ("points", {"points": [{"class": "cat", "at": [0, 0]}]}, [1]),
    ("masks", {"size": [1, 2], "masks": [{"class": "cat", "counts": [2]}]}, [1]),
    ("segments", {"segments": [{"id": 4, "class": "potted plant"}]}, [3])])
def test_names_are_understood_where_the_class_names_are_known(kind, value, ids):
    found = READ[kind](value, NAMES)
    if kind in ("tags", "counts"):
        assert list(found) == ids
    elif kind == "segments":
        assert [s.cls for s in found] == ids
    else:
        assert found.classes.tolist() == ids and found.classes.dtype == np.int64


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(RecordError, match="'Pottedplant'; did you mean 'potted plant'"):
        jsons.class_id("Pottedplant", NAMES)
    with pytest.raises(RecordError, match="^unknown class 'zebra'$"):
        jsons.class_id("zebra", NAMES)
    with pytest.raises(RecordError, match="is a name, but the class names are unknown.*--classes"):
        jsons.class_id("cat", None)


@pytest.mark.parametrize("value", [True, False, -1, 255, 65535, 1 << 40, 1.0, None, [1], {}])
def test_what_is_no_class_id_is_refused(value):
    with pytest.raises(RecordError, match="is not a class id"):
        jsons.class_id(value, NAMES)


@pytest.mark.parametrize("value", [0, 254, 256, 65534])
def test_any_other_16_bit_number_is_a_class_id(value):
    assert jsons.class_id(value, None) == value


@pytest.mark.parametrize("text, what", [
    ('{"a": NaN}', "NaN is not JSON"), ('{"a": -Infinity}', "-Infinity is not JSON"),
    ('{"a": 1, "a": 2}', "the same key twice"), ('[{"b": {"a": 1, "a": 1}}]', "same key twice"),
    ("[" * 100_000 + "]" * 100_000, "recursion"), ("", "bad JSON"), ("{", "bad JSON"),
    ("{} x", "Extra data"), ("{'a': 1}", "bad JSON"), ('{"a": 01}', "bad JSON"),
    ('{"a": "\t"}', "bad JSON"), ('{"a": ' + "1" * 5000 + "}", "bad JSON")])
def test_what_is_not_strict_json_is_refused(text, what):
    with pytest.raises(RecordError, match="(?i)" + what) as caught:
        jsons.parse(text.encode())
    assert str(caught.value).startswith("bad JSON: ")


def test_json_is_utf_8_with_or_without_a_byte_order_mark():
    assert jsons.parse('{"ä": "日"}'.encode("utf-8-sig")) == {"ä": "日"}
    assert jsons.dump({"ä": "日"}) == '{"ä":"日"}\n'.encode()
    for coding in ("utf-16", "latin-1"):
        with pytest.raises(RecordError, match="bad JSON"):
            jsons.parse('{"ä": 1}'.encode(coding))


def test_json_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(jsons, "MAX_BYTES", 10)
    with pytest.raises(RecordError, match="JSON of 12 bytes: more than 10"):
        jsons.parse(b'{"abcdef":1}')


BOX = {"class": 1, "box": [0, 0, 1, 1]}


@pytest.mark.parametrize("kind, value, message", [
    ("tags", [], "tags: no 'classes' of type list"),
    ("tags", {"classes": {"cat": 1}}, "tags: no 'classes' of type list"),
    ("tags", {"classes": [True]}, "class True is not a class id"),
    ("tags", {"classes": [255]}, "class 255 is not a class id"),
    ("counts", {"count": {}}, "counts: no 'counts' of type dict"),
    ("counts", {"counts": {"1": -1}}, "counts['1'] is -1, not a number of objects"),
    ("counts", {"counts": {"1": True}}, "counts['1'] is True, not a number of objects"),
    ("counts", {"counts": {"1": 1.5}}, "counts['1'] is 1.5, not a number of objects"),
    ("counts", {"counts": {"255": 1}}, "class 255 is not a class id"),
    ("counts", {"counts": {"dgo": 1}}, "unknown class 'dgo'; did you mean 'dog'?"),
    ("boxes", {"boxes": 1}, "boxes: no 'boxes' of type list"),
    ("boxes", {"boxes": [1]}, "boxes[0]: no 'box' of type list"),
    ("boxes", {"boxes": [{"box": [0, 0, 1, 1]}]}, "class None is not a class id"),
    ("boxes", {"boxes": [{"class": 1, "box": [0, 0, 1]}]}, "boxes[0].box has 3 numbers, not 4"),
    ("boxes", {"boxes": [BOX, {"class": 1, "box": [0, 0, "1", 1]}]},
     "boxes[1].box[2] is '1', not a finite number"),
    ("boxes", {"boxes": [{"class": 1, "box": [0, 0, True, 1]}]},
     "boxes[0].box[2] is True, not a finite number"),
    ("boxes", {"boxes": [{"class": 1, "box": [0, 0, 1e999, 1]}]},
     "boxes[0].box[2] is inf, not a finite number"),
    ("boxes", {"boxes": [{"class": 1, "box": [3, 0, 3, 1]}]}, "boxes[0] is empty: [3, 0, 3, 1]"),
    ("boxes", {"boxes": [{"class": 1, "box": [0, 4, 3, 1]}]}, "boxes[0] is empty: [0, 4, 3, 1]"),
    ("boxes", {"boxes": [{**BOX, "score": 1}, BOX]}, "boxes[1].score is None, not a finite"),
    ("boxes", {"boxes": [], "size": [0, 4]}, "size is [0, 4], not [height, width]"),
    ("boxes", {"boxes": [], "size": [True, 4]}, "size is [True, 4], not [height, width]"),
    ("boxes", {"boxes": [], "size": 4}, "size is 4, not [height, width]"),
    ("points", {"points": [{"class": 1, "at": [1]}]}, "points[0].at has 1 numbers, not 2"),
    ("points", {"points": [{"class": "dgo", "at": [1, 1]}]}, "unknown class 'dgo'"),
    ("masks", {"masks": []}, "masks: no 'size'"),
    ("masks", {"size": [1, 2], "masks": [{"class": 1, "counts": [2], "crowd": 1}]},
     "masks[0].crowd is 1, not true or false"),
    ("masks", {"size": [1, 2], "masks": [{"class": 1, "counts": [2], "area": -1}]},
     "masks[0].area is below 0"),
    ("masks", {"size": [1, 2], "masks": [{"class": 1, "counts": [2], "area": 1},
                                         {"class": 1, "counts": [2]}]},
     "masks[1].area is None, not a finite number"),
    ("masks", {"size": [2, 2], "masks": [{"class": 1, "counts": [3]}]},
     "masks[0].counts does not cover 2x2 pixels"),
    ("masks", {"size": [2, 2], "masks": [{"class": 1, "counts": [5, -1]}]},
     "masks[0].counts does not cover 2x2 pixels"),
    ("masks", {"size": [2, 2], "masks": [{"class": 1, "counts": [True, 3]}]},
     "masks[0].counts does not cover 2x2 pixels"),
    ("masks", {"size": [2, 2], "masks": [{"class": 1, "counts": "04"}]},
     "masks[0]: no 'counts' of type list"),
    ("segments", {"segments": [{"id": 0, "class": 1}]}, "segments[0].id is 0, not in 1..65535"),
    ("segments", {"segments": [{"id": 65536, "class": 1}]}, "segments[0].id is 65536, not in"),
    ("segments", {"segments": [{"id": "1", "class": 1}]}, "segments[0]: no 'id' of type int"),
    ("segments", {"segments": [{"id": 1, "class": 1}, {"id": 1, "class": 2}]}, "the same id twice"),
    ("segments", {"segments": [{"id": 1, "class": 1, "score": "x"}]},
     "segments[0].score is 'x', not a finite number")])
def test_each_fault_is_named(kind, value, message):
    with pytest.raises(RecordError) as caught:
        READ[kind](value, NAMES)
    assert message in str(caught.value)


def test_a_class_counted_twice_is_refused():
    """{"cat": 3, "1": 2} says two things about one class; neither may be dropped in silence."""
    for counts in ({"cat": 3, "1": 2}, {"1": 2, "01": 3}):
        with pytest.raises(RecordError, match="twice"):
            jsons.read_counts({"counts": counts}, NAMES)


def test_a_boolean_is_no_segment_id():
    with pytest.raises(RecordError, match="id"):
        jsons.read_segments({"segments": [{"id": True, "class": 1}]}, None)


@pytest.mark.parametrize("thing", [1, 0, "yes", None])
def test_thing_is_true_or_false(thing):
    """1 would be taken for False."""
    with pytest.raises(RecordError, match="thing"):
        jsons.read_segments({"segments": [{"id": 1, "class": 1, "thing": thing}]}, None)


def test_a_number_beyond_floating_point_is_refused_as_a_fault_of_the_record():
    value = jsons.parse(b'{"boxes": [{"class": 1, "box": [0, 0, 1' + b"0" * 400 + b", 1]}]}")
    with pytest.raises(RecordError, match="not a finite number"):
        jsons.read_boxes(value, None)


def test_empty_lists_are_values():
    assert READ["tags"]({"classes": []}, None) == ()
    assert READ["counts"]({"counts": {}}, None) == {}
    boxes = READ["boxes"]({"boxes": []}, None)
    assert boxes.xyxy.shape == (0, 4) and boxes.classes.shape == (0,) and boxes.scores is None
    assert READ["points"]({"points": []}, None).xy.shape == (0, 2)
    assert READ["masks"]({"size": [1, 1], "masks": []}, None).runs == ()
    assert READ["segments"]({"segments": []}, None) == ()


def test_boxes_may_leave_the_image_and_lie_between_pixels():
    boxes = READ["boxes"]({"size": [4, 4], "boxes": [{"class": 1, "box": [-2.5, 0, 9, 1e3]}]}, None)
    assert boxes.xyxy.tolist() == [[-2.5, 0, 9, 1000]] and boxes.size == (4, 4)


def test_segments_come_by_ascending_id():
    found = READ["segments"]({"segments": [{"id": 9, "class": 1}, {"id": 2, "class": 3,
                                                                  "thing": False}]}, None)
    assert [(s.id, s.cls, s.score, s.thing) for s in found] == [(2, 3, 1.0, False),
                                                               (9, 1, 1.0, True)]


def test_class_names_are_one_a_line():
    assert jsons.parse_names("\ufeffbackground\r\n cat \n\n\n", "f") == ("background", "cat")


@pytest.mark.parametrize("text", ["", "\n\n", "a\n\nb", "a\nb\na\n"])
def test_a_bad_list_of_class_names_is_refused(text):
    with pytest.raises(UsageError, match="names.txt: class names are one a line"):
        jsons.parse_names(text, "names.txt")


ODD = ("1", "0", "65535", "65536", "255", "65534", "-1", "1.5", "1e400", "true", "null", "NaN",
       '"cat"', '"id"', '":"', "[]", "{}", "9" * 5000)


@st.composite
def lists_of_segments(draw):
    """The bytes of a list of segments as we write it, often with something odd in it."""
    segments = [{"id": draw(st.integers(1, 9)), "class": draw(st.integers(0, 3)),
                 "score": draw(st.sampled_from([0.0, 0.25, 1.0, 1e308])),
                 "thing": draw(st.booleans())} for _ in range(draw(st.integers(0, 4)))]
    data = jsons.dump({"segments": segments}).decode()
    for _ in range(draw(st.integers(0, 2))):
        at = [i for i, letter in enumerate(data) if letter in ',:{}[]"0123456789']
        if not at:
            break
        spot, word = draw(st.sampled_from(at)), draw(st.sampled_from(
            ['"id":2,', '"id":1,"class":1,', ",", ":", " ", "", "\ufeff", *ODD]))
        data = data[:spot] + word + data[spot + draw(st.integers(0, 1)):]
    if draw(st.booleans()):
        old, new = draw(st.tuples(st.sampled_from(['"score":', '"id":', '"class":', '"thing":']),
                                  st.sampled_from(ODD)))
        data = data.replace(old, f"{old}{new},\"more\":", draw(st.integers(0, 2)))
    return data.encode()


def outcome(work):
    try:
        return work()
    except RecordError as error:
        return str(error)


@settings(max_examples=300)
@given(lists_of_segments(), st.sampled_from([None, NAMES]))
def test_segments_are_parsed_in_fewer_steps_but_alike(data, names):
    expected = outcome(lambda: jsons.read_segments(jsons.parse(data), names))
    assert outcome(lambda: jsons.parse_segments(data, names)) == expected


@pytest.mark.parametrize("data", [
    b'{"segments":[{"class":1,"id":1,"id":2,"score":1.0,"thing":true}]}',
    b'{"segments":[{"class":1,"id":1,"score":NaN,"thing":true}]}',
    b'{"segments":[{"class":1,"id":1,"score":1e400,"thing":true}]}',
    b'{"segments":[{"class":1,"id":1,"score":1.0,"thing":true},'
    b'{"class":1,"id":1,"score":1.0,"thing":true}]}',
    b'{"segments":[{"class":true,"id":1,"score":1.0,"thing":true}]}',
    b'{"segments":[{"class":255,"id":1,"score":1.0,"thing":true}]}',
    b'{"segments":[],"segments":[{"class":1,"id":1,"score":1.0,"thing":true}]}',
    b"[" * 100_000, b'{"segments":"abcd"}', b"\xff"], ids=range(10))
def test_what_is_wrong_with_a_list_of_segments_is_said_alike(data):
    with pytest.raises(RecordError) as expected:
        jsons.read_segments(jsons.parse(data), None)
    with pytest.raises(RecordError) as caught:
        jsons.parse_segments(data, None)
    assert str(caught.value) == str(expected.value)


def test_lists_that_we_write_take_the_short_way():
    data = jsons.dump({"segments": [{"id": 7, "class": 3, "score": 0.5, "thing": False},
                                    {"id": 2, "class": 1, "score": 1.0, "thing": True}]})
    found = jsons._plain_segments(data)
    assert found == jsons.read_segments(jsons.parse(data), None) and found[0].id == 2
