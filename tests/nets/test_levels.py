"""A backbone's five levels: their sizes, and that the last is what the backbone gives."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.backbones import build_backbone  # noqa: E402
from wsseg.nets.levels import STRIDES, levels, stages  # noqa: E402
from wsseg.nets.model import _Undrawn  # noqa: E402
from wsseg.nets.spec import BACKBONES  # noqa: E402


@pytest.mark.parametrize("name", BACKBONES)
def test_levels_lie_at_their_strides(name):
    """Without numbers: on the device ``meta`` shapes alone are computed."""
    with torch.device("meta"), _Undrawn():
        net = build_backbone(name, 32).eval()
        images = torch.empty(1, 3, 65, 97)
        found, last = levels(net, images), net(images)[1]
    _, channels = stages(net)
    assert [tuple(f.shape) for f in found] == [(1, c, 64 // s + 1, 96 // s + 1)
                                               for c, s in zip(channels, STRIDES)]
    assert found[-1].shape == last.shape


def test_stages_one_after_the_other_are_the_backbone():
    torch.manual_seed(0)
    net = build_backbone("efficientnet-lite0", 32, True).eval()
    images = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        found, (low, high) = levels(net, images), net(images)
    assert torch.equal(found[1], low) and torch.equal(found[-1], high)


def test_a_backbone_without_five_levels_is_refused():
    with torch.device("meta"), _Undrawn(), pytest.raises(WssegError, match="stride 32, not 16"):
        stages(build_backbone("efficientnet-lite0", 16))
    with pytest.raises(WssegError, match="Linear has no five levels"):
        stages(torch.nn.Linear(1, 1))
