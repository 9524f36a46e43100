"""Picture in, three feature maps out: the Hiera trunk and a feature pyramid.

After hiera.py; before mask_decoder.py and memory_attention.py.

Surprise: the pyramid adds top-down information only at stride 16. Strides 4 and 8 are plain projections,
which keep the detail that sharp mask edges need; stride 32 is used only through stride 16.

Source: SAM 2, arXiv:2408.00714, section 4 "Image encoder"; FPN, arXiv:1612.03144.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import TrunkConfig
from sam2kit.model.hiera import Hiera
from sam2kit.model.layers import within_range


class ImageEncoder(nn.Module):
    """[B, 3, S, S] normalised pixels -> maps of strides 4, 8 and 16, each [B, hidden_dim, H, W]."""

    def __init__(self, config: TrunkConfig, hidden_dim: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.trunk = Hiera(config, drop_path=drop_path)
        self.neck = FeaturePyramid([config.embed_dim << stage for stage in range(4)], hidden_dim)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.neck(self.trunk(pixels))


class FeaturePyramid(nn.Module):
    """Project the trunk's maps to one width, and add stride 32 onto stride 16."""

    def __init__(self, channels: list[int], hidden_dim: int) -> None:
        super().__init__()
        # the checkpoint counts from the deepest map to the finest
        self.convs = nn.ModuleList(Lateral(c, hidden_dim) for c in reversed(channels))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        stride32, stride16, stride8, stride4 = (conv(m) for conv, m in zip(self.convs, reversed(maps), strict=True))
        deep = F.interpolate(stride32.float(), scale_factor=2.0, mode="nearest").to(stride16.dtype)
        return stride4, stride8, within_range(stride16 + deep)


class Lateral(nn.Module):
    """A 1x1 convolution (a module of its own because the checkpoint names it `conv`)."""

    def __init__(self, channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return within_range(self.conv(x))
