"""Picture in, feature maps out: a trunk and a neck, which brings its maps to one width.

Before mask_decoder.py and memory_attention.py.

    SAM 2          Hiera (hiera.py), a pyramid      EfficientTAM   a plain transformer (vit.py), one map
    EdgeTAM        RepViT (repvit.py), a pyramid

Surprise: the pyramid adds top-down information only at stride 16. Strides 4 and 8 are plain projections, which keep the
detail that sharp mask edges need; stride 32 is used only through stride 16.

Source: FPN, arXiv:1612.03144; SAM 2, arXiv:2408.00714, section 4 "Image encoder"; EfficientTAM, arXiv:2411.18933,
section 3; EdgeTAM, arXiv:2501.07256, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import HieraConfig, TrunkConfig, ViTConfig
from sam2kit.model.hiera import Hiera
from sam2kit.model.layers import LayerNorm2d, within_range
from sam2kit.model.repvit import RepViT
from sam2kit.model.vit import ViT


class ImageEncoder(nn.Module):
    """[B, 3, S, S] normalised pixels -> maps of [B, hidden_dim, H, W]: strides 4, 8 and 16, or 16 alone."""

    def __init__(self, config: TrunkConfig, hidden_dim: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.trunk = _trunk(config, drop_path)
        neck = FeaturePyramid if len(config.channels) > 1 else PlainNeck
        self.neck = neck(config.channels, hidden_dim)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.neck(self.trunk(pixels))


def _trunk(config: TrunkConfig, drop_path: float) -> nn.Module:
    if isinstance(config, HieraConfig):
        return Hiera(config, drop_path=drop_path)
    return ViT(config, drop_path=drop_path) if isinstance(config, ViTConfig) else RepViT(config)


class FeaturePyramid(nn.Module):
    """Project the trunk's maps to one width, and add stride 32 onto stride 16."""

    def __init__(self, channels: Sequence[int], hidden_dim: int) -> None:
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


class PlainNeck(nn.Module):
    """The only map of a plain transformer at another width (in a list because the checkpoint names it `convs.0`)."""

    def __init__(self, channels: Sequence[int], hidden_dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(WideLateral(c, hidden_dim) for c in channels)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(conv(m) for conv, m in zip(self.convs, maps, strict=True))


class WideLateral(nn.Module):
    """A 1x1 and a 3x3 convolution, each with a LayerNorm and without an activation."""

    def __init__(self, channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv_1x1 = nn.Conv2d(channels, hidden_dim, kernel_size=1, bias=False)
        self.norm_0 = LayerNorm2d(hidden_dim)
        self.conv_3x3 = nn.Conv2d(hidden_dim, hidden_dim, kernel_size=3, padding=1, bias=False)
        self.norm_1 = LayerNorm2d(hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_1(self.conv_3x3(self.norm_0(self.conv_1x1(x))))
