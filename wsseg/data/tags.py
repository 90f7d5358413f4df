"""Image tags: cls_labels.npy in both dialects, TSV, and VOC's ImageSets/Main."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, choose, doubles, few, make_header
from wsseg.data.files import read_small
from wsseg.data.lists import entry_key, split_keys, text_lines
from wsseg.data.names import DATASETS
from wsseg.data.pickled import MAX_BYTES, read_pickled_dict, vector
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError
from wsseg.io.jsons import class_id


def open_tags(root: str, *, split: str | None = None,
              classes: tuple[str, ...] | None = None) -> Dataset:
    """Open image tags.

    root: a pickled cls_labels.npy; a text file of lines ``key TAB class,class`` (names or
    ids); or a VOC tree, or its ImageSets/Main folder, with CLASS_SPLIT.txt. split: the path of
    a list, or for VOC the SPLIT. classes: VOC's by default (COCO's for vectors of 80). Raises
    UsageError for a root without tags, WssegError for a bad file, UnsafeError for a pickle
    that holds more than arrays.
    """
    if os.path.isdir(root):
        return _open_main(root, split, classes or DATASETS["voc"])
    entries: dict[str, Any]
    make: Callable[[Any, tuple[str, ...]], tuple[int, ...]]
    if root.lower().endswith(".npy"):
        make, entries = _vector_tags, _read_npy(root)
        if classes is None and entries:
            classes = DATASETS["coco" if _length(next(iter(entries.values()))) == 80 else "voc"]
    else:
        make, entries = _line_tags, _read_tsv(root)
    names = classes or DATASETS["voc"]
    keys = (choose(entries, split_keys(split), root) if split is not None else list(entries))

    def read(key: str) -> LazyRecord:
        record = LazyRecord(key, {}, names)
        record.defer(partial(make, entries[key], names), "tags")
        return record

    return Dataset(root, make_header(["tags"], names, keys), keys, read)


def _read_npy(path: str) -> dict[str, Any]:
    try:
        content = read_pickled_dict(read_small(path, MAX_BYTES), path)
    except RecordError as error:
        raise WssegError(str(error)) from None
    keys = [_npy_key(key, path) for key in content]
    again = doubles(keys)
    if again:
        raise WssegError(f"{path}: the same key twice: {few(again)}")
    return dict(zip(keys, content.values()))


def _npy_key(key: Any, path: str) -> str:
    """Return a text key as it is; ten digits were VOC's YYYY_NNNNNN before an int() ate the
    underscore."""
    if isinstance(key, str):
        return key
    if type(key) is not int:
        raise WssegError(f"{path}: a key is {key!r:.40}, neither text nor a whole number")
    return re.sub(r"^(\d{4})(\d{6})$", r"\1_\2", str(key))


def _length(value: Any) -> int:
    try:
        return len(vector(value))
    except ValueError:
        return 0


def _vector_tags(value: Any, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the classes of a vector of 0 and 1; its place i is class i + 1."""
    try:
        numbers = vector(value)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if len(numbers) != len(names) - 1:
        raise RecordError(f"a vector of {len(numbers)} classes, but there are {len(names) - 1} "
                          "without the background: give the names with --classes")
    odd = [n for n in numbers.tolist() if n not in (0, 1)]
    if odd:
        raise RecordError(f"a vector with the value {odd[0]!r}, not 0 or 1")
    return tuple((np.flatnonzero(numbers) + 1).tolist())


def _read_tsv(path: str) -> dict[str, tuple[int, str]]:
    """Return key -> (line number, its classes as text)."""
    entries: dict[str, tuple[int, str]] = {}
    for number, line in text_lines(path):
        name, tab, text = line.partition("\t")
        if not tab:
            raise UsageError(f"{path}:{number}: no tags (looked for a key, a tab, and classes "
                             "with commas between)")
        try:
            key = entry_key(name.strip())
        except UnsafeError as error:
            raise UnsafeError(f"{path}:{number}: {error}") from None
        if key in entries:
            raise UsageError(f"{path}: {key} is listed twice (lines {entries[key][0]} and "
                             f"{number})")
        entries[key] = number, text
    if not entries:
        raise UsageError(f"{path}: no tags found (looked for lines of key, tab, class,class)")
    return entries


def _line_tags(entry: tuple[int, str], names: tuple[str, ...]) -> tuple[int, ...]:
    number, text = entry
    try:
        ids = {class_id(int(name) if name.isdecimal() and name.isascii() else name, names)
               for name in (part.strip() for part in text.split(",")) if name}
    except (RecordError, ValueError) as error:
        raise RecordError(f"line {number}: {error}") from None
    if ids and max(ids) >= len(names):
        raise RecordError(f"line {number}: class {max(ids)} of {len(names)}")
    return tuple(sorted(ids))


def _open_main(root: str, split: str | None, names: tuple[str, ...]) -> Dataset:
    """Open VOC's image sets, a file a class: -1 absent, 1 present, and 0, which says that all
    its objects are difficult, present too."""
    folder = next((f for f in (os.path.join(root, "ImageSets", "Main"), os.path.join(root, "Main"),
                               root) if os.path.isdir(f)), root)
    ending = f"{names[1]}_" if len(names) > 1 else "_"
    splits = sorted(name[len(ending):-4] for name in os.listdir(folder)
                    if name.startswith(ending) and name.endswith(".txt"))
    chosen = split if split is not None else splits[0] if len(splits) == 1 else None
    if chosen is None or chosen not in splits:
        raise UsageError(f"{folder}: {f'no split {split!r}' if split else 'no split chosen'}: "
                         f"looked for {ending}SPLIT.txt and found {', '.join(splits) or 'none'}")
    paths = [os.path.join(folder, f"{name}_{chosen}.txt") for name in names[1:]]
    gone = [os.path.basename(path) for path in paths if not os.path.isfile(path)]
    if gone:
        raise UsageError(f"{folder}: {len(gone)} of {len(paths)} class files are missing: "
                         f"{few(gone)}")
    tags: dict[str, list[int]] = {}
    for cls, path in enumerate(paths, 1):
        values = _read_main(path)
        if cls > 1 and values.keys() != tags.keys():
            odd = sorted(values.keys() ^ tags.keys())
            raise WssegError(f"{path}: {len(odd)} keys are not in every class file: {few(odd)}")
        for key, value in values.items():
            tags.setdefault(key, []).extend([cls] if value >= 0 else [])

    def read(key: str) -> LazyRecord:
        record = LazyRecord(key, {}, names)
        record.set("tags", tuple(tags[key]))
        return record

    return Dataset(f"{folder} ({chosen})", make_header(["tags"], names, list(tags)), list(tags),
                   read)


def _read_main(path: str) -> dict[str, int]:
    values: dict[str, int] = {}
    for number, line in text_lines(path):
        parts = line.split()
        if len(parts) != 2 or parts[1] not in ("-1", "0", "1") or parts[0] in values:
            raise WssegError(f"{path}:{number}: not a new key and -1, 0 or 1")
        values[parts[0]] = int(parts[1])
    return values
