"""XML from strangers: no entities, no DTD, bounded size and depth."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING

from wsseg.data.files import read_small
from wsseg.errors import RecordError, UnsafeError
from wsseg.io.png import sniff

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 1 << 24
MAX_DEPTH = 64
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def parse_xml(data: bytes, root: str) -> Element:
    """Parse an XML file whose outermost element is ``root``.

    Raises UnsafeError for a DTD or an entity, which such files never need, and RecordError for
    anything malformed, more than MAX_BYTES or deeper than MAX_DEPTH.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    if len(data) > MAX_BYTES:
        raise RecordError(f"XML of {len(data)} bytes: more than {MAX_BYTES}")
    depth, top = 0, None
    try:
        # Parsed piece by piece, so that a deep file is left before its tree is built.
        for event, element in iterparse(io.BytesIO(data), ("start", "end"), forbid_dtd=True):
            top = element if top is None else top
            depth += 1 if event == "start" else -1
            if depth > MAX_DEPTH:
                raise RecordError(f"XML nested deeper than {MAX_DEPTH}")
    except DefusedXmlException as error:
        raise UnsafeError(f"XML with a DTD or an entity refused ({type(error).__name__})"
                          ) from None
    except (ParseError, ValueError, LookupError) as error:
        what = sniff(data[:16].lstrip())
        raise RecordError(f"bad XML: {error}" if "XML" in what else f"not XML but {what}"
                          ) from None
    if top is None or top.tag != root:
        raise RecordError(f"XML of <{'' if top is None else top.tag}>, not of <{root}>")
    return top


def read_xml(path: str, root: str) -> Element:
    """Parse an XML file of at most MAX_BYTES, as ``parse_xml`` does."""
    return parse_xml(read_small(path, MAX_BYTES), root)


def child_text(element: Element, name: str, what: str) -> str:
    """Return the stripped text of the only direct child ``name``; RecordError otherwise.

    Direct, because a VOC object's parts have names and boxes of their own.
    """
    found = element.findall(name)
    if len(found) != 1:
        raise RecordError(f"{what} has {len(found) or 'no'} <{name}>")
    text = (found[0].text or "").strip()
    if not text:
        raise RecordError(f"{what} has an empty <{name}>")
    return text


def child_number(element: Element, name: str, what: str) -> float:
    """Return a direct child's text as a finite number; RecordError otherwise."""
    text = child_text(element, name, what)
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise RecordError(f"{what}: <{name}> is {text!r:.40}, not a finite number")
    return value


def image_size(annotation: Element) -> tuple[int, int] | None:
    """Return (H, W) of ``<size>``; None when it is absent or 0, as some tools write it."""
    size = annotation.find("size")
    if size is None:
        return None
    height, width = (child_number(size, name, "size") for name in ("height", "width"))
    if height < 0 or width < 0 or height % 1 or width % 1:
        raise RecordError(f"size is {height:g}x{width:g}, not whole pixels")
    return (int(height), int(width)) if height and width else None
