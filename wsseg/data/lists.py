"""Lists of keys, in the dialects that published code uses."""

from __future__ import annotations

import os
import re

from wsseg.errors import UnsafeError, UsageError
from wsseg.io.kinds import check_key

MAX_BYTES = 1 << 28
_IMAGE = r"\.(?:jpe?g|png|bmp|tiff?|webp|p[pgn]m|gif)"
_PAIR = re.compile(rf"(.+?{_IMAGE})[ \t]+(\S.*{_IMAGE})", re.IGNORECASE)
_PATH = re.compile(rf"(.+){_IMAGE}", re.IGNORECASE)


def entry_key(entry: str) -> str:
    """Return the key that one entry of a list stands for.

    ``2007_000032`` and ``berlin/000001`` are keys as they are; the path of an image, alone or
    before the path of its mask, gives the image's base name without its last extension. A
    leading slash does not make a path absolute. Raises UnsafeError for ``..`` and for what
    cannot be a key.
    """
    pair = _PAIR.fullmatch(entry)
    paths = pair.groups() if pair else (entry,)
    for path in paths:
        if ".." in path.split("/"):
            raise UnsafeError(f"unsafe name {path!r}: '..' is not followed")
    parts = [part for part in paths[0].split("/") if part not in ("", ".")]
    image = _PATH.fullmatch(parts[-1]) if parts else None
    return check_key(image[1] if image else "/".join(parts))


def list_entry(key: str, *, strict: bool = True) -> str:
    """Return the line of a list that is read back as ``key``: mostly the key itself, ``./#a`` for
    ``#a``, and ``a.png.png`` for ``a.png``, which alone would be the path of ``a``.

    No line stands for a key such as ``b/a.png``: strict raises UsageError, otherwise that is the
    line.
    """
    for line in (f"{front}{key}{end}" for end in ("", "/", ".png") for front in ("", "./")):
        plain = not line.startswith(("#", "\ufeff")) and line.strip(" \t") == line
        if plain and entry_key(line) == key:
            return line
    if not strict:
        return key
    raise UsageError(f"{key}: a list of keys would not be read back with that key")


def text_lines(path: str) -> list[tuple[int, str]]:
    """Return (line number from 1, text) of a text file's lines.

    A byte order mark, CR and LF, blank lines and ``#`` lines are dropped. Raises UsageError
    when the file cannot be read, is too large or not UTF-8.
    """
    try:
        with open(path, "rb") as file:  # may be a pipe: --keys <(...)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: more than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text; save it as UTF-8") from None
    lines = re.split(r"\r\n|\r|\n", text)
    return [(number, line) for number, line in enumerate(lines, 1)
            if line.strip(" \t") and not line.lstrip(" \t").startswith("#")]


def read_list(path: str) -> list[str]:
    """Return the keys of a list file, in its order.

    One entry a line, as ``entry_key`` understands it. Raises UsageError for a list without
    entries or with the same key twice (naming the lines), UnsafeError for an unsafe entry.
    """
    lines: dict[str, int] = {}
    doubles = []
    for number, line in text_lines(path):
        try:
            key = entry_key(line.strip(" \t"))
        except UnsafeError as error:
            raise UnsafeError(f"{path}:{number}: {error}") from None
        first = lines.setdefault(key, number)
        if first != number:
            doubles.append(f"{key} (lines {first} and {number})")
    if doubles:
        raise UsageError(f"{path}: {len(doubles)} keys are listed again: {', '.join(doubles[:5])}"
                         f"{' ...' if len(doubles) > 5 else ''}")
    if not lines:
        raise UsageError(f"{path}: no keys in the list (looked for one a line)")
    return list(lines)


def split_keys(split: str | None, *folders: str) -> list[str] | None:
    """Return the keys of a split: of ``SPLIT.txt`` in the first of ``folders`` that has it, or
    of the list file whose path ``split`` is. None stays None.

    Raises UsageError that names the splits there are when it is neither.
    """
    if split is None:
        return None
    for folder in folders:
        path = os.path.join(folder, f"{split}.txt")
        if os.path.isfile(path):
            return read_list(path)
    if os.path.exists(split) and not os.path.isdir(split):
        return read_list(split)
    known = sorted({name[:-4] for folder in folders if os.path.isdir(folder)
                    for name in os.listdir(folder) if name.endswith(".txt")})
    looked = f"{split}.txt in {' or '.join(folders)} (which has {', '.join(known) or 'none'}) and "
    raise UsageError(f"no split {split!r}: looked for {looked if folders else ''}a list file of "
                     "that name")
