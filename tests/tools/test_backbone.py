"""The backbone's weights: batch norms folded, other files refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.errors import CheckpointError
from napari_sam.models.nano.encoder import STAGES
from tools.nano.backbone import load_backbone

if TYPE_CHECKING:
    from pathlib import Path


class _WithNorms(nn.Module):
    """EfficientNet-Lite0 as its paper draws it: convolution, batch norm, ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        c_in = 32
        for c_out, n, stride, k, grow in STAGES:
            for i in range(n):
                block = nn.Module()
                c = c_in * grow
                if grow > 1:
                    block._expand_conv = nn.Conv2d(c_in, c, 1, bias=False)
                    block._bn0 = _norm(c)
                block._depthwise_conv = nn.Conv2d(
                    c, c, k, stride if i == 0 else 1, groups=c, bias=False
                )
                block._bn1 = _norm(c)
                block._project_conv = nn.Conv2d(c, c_out, 1, bias=False)
                block._bn2 = _norm(c_out)
                self._blocks.append(block)
                c_in = c_out

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(_same(x, self._conv_stem)))
        maps = []
        for block in self._blocks:
            y = x
            if hasattr(block, "_expand_conv"):
                y = F.relu6(block._bn0(block._expand_conv(y)))
            y = F.relu6(block._bn1(_same(y, block._depthwise_conv)))
            y = block._bn2(block._project_conv(y))
            x = x + y if x.shape == y.shape else y
            maps.append(x)
        return [maps[i] for i in (2, 4, 10, 15)]


def _norm(c: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(c, eps=1e-3)
    for value in (norm.weight, norm.running_var):
        assert value is not None
        nn.init.uniform_(value, 0.5, 1.5)
    for value in (norm.bias, norm.running_mean):
        assert value is not None
        nn.init.normal_(value, std=0.3)
    return norm


def _same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """TensorFlow's "SAME": as many cells as strides fit, the odd pixel behind."""
    pads = []
    for n in (x.shape[3], x.shape[2]):
        k, s = conv.kernel_size[0], conv.stride[0]
        pad = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [pad // 2, pad - pad // 2]
    y: Tensor = conv(F.pad(x, pads))
    return y


@pytest.fixture(scope="module")
def reference() -> _WithNorms:
    torch.manual_seed(0)
    return _WithNorms().eval()


def test_folded_norms_give_the_same_maps(reference: _WithNorms, tmp_path: Path) -> None:
    torch.save(reference.state_dict(), tmp_path / "lite0.pth")
    backbone = load_backbone(tmp_path / "lite0.pth")
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(backbone(x), reference(x), strict=True):
            assert ours.shape == theirs.shape
            assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no EfficientNet-Lite0"):
        load_backbone(tmp_path / "other.pth")
