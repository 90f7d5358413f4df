"""ws-cat: any form in, any form out."""

from __future__ import annotations

from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool

FORMATS = ("voc", "sbd", "cityscapes", "coco", "coco-panoptic", "scribblesup", "labelme", "tags")


@tool("ws-cat")
@click.option("--from", "form", type=click.Choice(FORMATS),
              help="Read INPUT as this foreign data set.")
@click.option("--split", help="Split of a foreign data set: train, val, or a list file.")
@click.option("--as", "as_kind", type=click.Choice(["image", "label", "scribble"]),
              help="What the pictures of a foreign folder are (default: .jpg is a photo, .png a "
              "label map).")
@click.option("--only", multiple=True, metavar="KIND",
              help="Write only this kind; may be repeated.")
@click.option("--with", "extra", multiple=True, metavar="PLACE",
              help="Add the kinds of another place to the records of the same key.")
@click.option("--remap", metavar="FROM=TO,...", help="Change class ids of label maps, such as "
              "38=255,254=0.")
@click.option("--colours", type=click.Choice(["voc", "cityscapes"]),
              help="Turn masks in these colours into class ids.")
@click.option("--instances", is_flag=True, help="Add instances: the connected components, of 16 "
              "pixels or more, of each class of the label map.")
@click.option("--labels", is_flag=True, help="Add label maps: the masks, or else instances, "
              "painted from the largest to the smallest, over crowds.")
@click.option("--rename", metavar="OLD=NEW,...", help="Change names of classes, so that those "
              "which two data sets share have one name.")
@click.option("--truth", is_flag=True, help="People drew these label maps: count them as strong "
              "labels, as those of a foreign data set are.")
@click.option("--exif", type=click.Choice(["apply", "ignore"]),
              help="What to do with rotated photos; they are refused otherwise.")
@click.option("--edited", is_flag=True, help="Take records of a wsseg directory that were changed "
              "by hand as they are.")
@click.option("--to", type=click.Choice(["coco", "coco-panoptic", "cityscapes",
                                        "cityscapes-results"]),
              help="Write instances in this foreign form, under the folder of -o.")
@click.option("--like", type=click.Path(exists=True, dir_okay=False), metavar="JSON",
              help="With --to coco or coco-panoptic: a COCO file whose ids of images and "
              "categories are used.")
@_options.flow(many=True, images=True)
def main(flow, form, split, as_kind, only, extra, remap, colours, instances, labels, rename, truth,
         exif, edited, to, like):
    """Convert records from any form into any form, and choose among them.

    INPUT is a directory, a .h5 or .tar file, a folder of photos or masks, or - for standard
    input; several inputs follow one another. What is written depends on the output's name:
    a directory, NAME.h5, NAME.tar, or a tar stream on standard output. Nothing is changed
    unless an option says so, and the forms are interchangeable byte for byte.

    \b
    Examples:
      ws-cat SegmentationClass --classes voc --truth -o masks.h5
      ws-cat --from voc VOCdevkit/VOC2012 --split val --only label -o val/
      ws-cat --from sbd benchmark_RELEASE --only label -o SBD/
      ws-cat part1.tar part2.tar part3.tar -o all/
      ws-cat boxes/ --keys train.txt --shard 2/8 | ws-boxfill --images JPEGImages -o part2.tar
      ws-cat --from coco COCO --split train2017 --labels --only label -o coco.h5
      ws-cat panoptic/ --to coco-panoptic --like panoptic_val.json -o predictions/
    """
    from wsseg.cli import _convert

    _convert.check_kinds(only)
    source = _convert.open_all(flow, form, split, as_kind)
    flow.join_images()
    for place in extra:
        flow.join(place, "extra")
    step = partial(_convert.step, truth=truth or form is not None, only=frozenset(only), exif=exif,
                   remap=_convert.parse_remap(remap), colours=colours, edited=edited,
                   instances=instances, labels=labels)
    names = _convert.renamed(source.header.classes or flow.classes, rename)
    if to or like:
        return _convert.export(flow, source, step, to, like)
    changes = bool(form or remap or colours or exif or instances or labels or rename or truth)
    kinds = {*source.header.kinds, *(["instance"] if instances else []),
             *(["label"] if labels else [])}
    return flow.run(step, source, writes=only or sorted(kinds), only=bool(only), classes=names,
                    history=changes)


if __name__ == "__main__":
    main()
