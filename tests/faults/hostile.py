"""What the tests of hostile input are made from."""

from __future__ import annotations

import os
import subprocess
import tarfile

import numpy as np

from tests.conftest import ROOT
from tests.faults.helpers import full_record, make_header, real
from wsseg.io.header import End
from wsseg.io.png import encode_labels
from wsseg.io.stream import tar_end, tar_member, tar_record

HEADER = make_header("boxes")
LABEL = encode_labels(np.eye(8, dtype=np.uint8))


def member(name: str | bytes, data: bytes = LABEL, **fields) -> bytes:
    """A tar member with any name and type."""
    info = tarfile.TarInfo("x")
    info.name = os.fsdecode(name)
    info.size = len(data)
    form = fields.pop("format", tarfile.GNU_FORMAT)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(form, "utf-8", "surrogateescape") \
        + data + bytes(-len(data) % 512)


FIRST = full_record(0, extra=False).pack()
GOOD = tar_record(FIRST, FIRST.digest)
HEAD = tar_member("__wsseg__/header.json", HEADER.dump())
TAIL = tar_end(End(2, 0, "sha256sum:" + "0" * 64, HEADER.digest))


def limited(words: list[str], stdin: bytes = b"", megabytes: int = 1500):
    """Run a tool with bounded address space: what it needs without data is about 500 MB."""
    line = ["bash", "-c", f"ulimit -v {megabytes * 1024}; exec \"$@\"", "bash", *real(*words)]
    return subprocess.run(line, input=stdin, capture_output=True, timeout=60, env={
        **os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"})
