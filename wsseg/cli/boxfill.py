"""ws-boxfill: boxes to masks."""

from __future__ import annotations

from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import RecordError, UsageError


@tool("ws-boxfill")
@click.option("--method", type=click.Choice(["rect", "grabcut"]), default="grabcut",
              show_default=True, help="rect: the whole box. grabcut: colour models of box and "
              "surroundings, cut with a graph.")
@click.option("--iterations", type=click.IntRange(1), default=5, show_default=True,
              help="Most iterations of grabcut; it stops when the mask stays the same.")
@click.option("--margin", type=click.FloatRange(0), default=0.5, show_default=True,
              help="Surroundings that grabcut learns the background from, as a share of the "
              "box's longer side.")
@click.option("--min-fill", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="If grabcut finds less of the box than this, the whole box is taken.")
@click.option("--outside", type=click.Choice(["background", "ignore"]),
              help="What lies outside all boxes [default: background, or ignore where the "
              "classes have no background].")
@click.option("--instances", is_flag=True, help="Also write instance maps, one id for each box.")
@_options.flow(images=True)
def main(flow, method, iterations, margin, min_fill, outside, instances):
    """Turn boxes into masks.

    INPUT holds boxes, and with --images the photos. Every box is filled by itself, then all
    are painted from the largest to the smallest, so the smallest box wins where they overlap.
    GrabCut falls back to the whole box where it finds nothing, where it finds less than
    --min-fill of it, or where a box leaves no surroundings to learn the background from.

    \b
    Examples:
      ws-boxfill boxes/ --images JPEGImages -o masks/
      ws-boxfill boxes/ --method rect -o rect/
      ws-weaken masks/ --boxes | ws-boxfill --images JPEGImages | ws-eval - masks/
    """
    source = flow.open()
    if method != "rect" and flow.images is None and source.header.kinds and \
            "image" not in source.header.kinds:
        raise UsageError(f"--method {method} needs the photos: name their folder with --images")
    flow.join_images()
    step = partial(fill, method=method, iterations=iterations, margin=margin, min_fill=min_fill,
                   outside=outside, instances=instances)
    return flow.run(step, source, reads=("boxes", "image"),
                    writes=("label", "instance") if instances else ("label",))


def fill(record, *, method, iterations, margin, min_fill, outside, instances):
    """Fill the boxes of one record."""
    from wsseg.annotate.rect import fill_box, paint_boxes, pixel_boxes
    from wsseg.io.kinds import background_id
    from wsseg.io.values import InstanceMap, Segment

    boxes = record.get("boxes")
    image = record.get("image") if method != "rect" else None
    size = _size(record, boxes.size, image)
    one = fill_box
    if method == "grabcut":
        from wsseg.annotate.grabcut import grabcut_box

        one = partial(grabcut_box, image, iterations=iterations, margin=margin,
                      min_fill=min_fill)
    if outside is None:
        outside = "ignore" if background_id(record.names) is None else "background"
    try:
        label, ids = paint_boxes(pixel_boxes(boxes.xyxy, size), boxes.classes, size, one,
                                 outside=255 if outside == "ignore" else 0)
    except ValueError as error:
        raise RecordError(str(error)) from None
    record.set("label", label)
    if instances:
        seen = set(ids.ravel().tolist()) - {0}
        record.set("instance", InstanceMap(ids, tuple(
            Segment(i, int(boxes.classes[i - 1])) for i in sorted(seen))))
    return record


def _size(record, size, image):
    if image is None:
        if size is None and "image" in record:
            return record.get("image").shape[:2]
        if size is None:
            raise RecordError("its boxes do not say the image's size: add it or give --images")
        return size
    if size is not None and tuple(size) != image.shape[:2]:
        turned = " (transposed: an EXIF rotation?)" if size == image.shape[1::-1] else ""
        raise RecordError(f"boxes are for a {size[0]}x{size[1]} image, but the photo is "
                          f"{image.shape[0]}x{image.shape[1]}{turned}")
    return image.shape[:2]


if __name__ == "__main__":
    main()
