"""ws-cat: any form in, any form out."""
from wsseg.cli import _options
from wsseg.cli._command import tool
from functools import partial
import click


def _step(record, **kw):
    return record


@tool("ws-cat")
@_options.flow(many=True, images=True)
def main(flow):
    """Tmp."""
    source = flow.open()
    flow.join_images()
    return flow.run(_step, source, history=False)

if __name__ == "__main__":
    main()
