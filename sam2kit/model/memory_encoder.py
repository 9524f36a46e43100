"""What a frame leaves behind: its mask, laid over its features, as a small map.

After mask_decoder.py; before memory_attention.py, which later frames use to look at it.

    mask at the model's side --(4 strided convolutions)--+
    raw stride-16 features ------(1x1 convolution)-------+--> ConvNeXt blocks --> [B, memory dim, h, w]

Source: SAM 2, arXiv:2408.00714, section 4 "Memory encoder"; ConvNeXt, arXiv:2201.03545.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import MemoryConfig
from sam2kit.model.layers import LayerNorm2d, within_range


class MemoryEncoder(nn.Module):
    """Features [B, dim, h, w] and a mask [B, 1, 16h, 16w] -> memory [B, memory dim, h, w]."""

    def __init__(self, config: MemoryConfig, dim: int) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownsampler(dim)
        self.pix_feat_proj = nn.Conv2d(dim, dim, kernel_size=1)
        self.fuser = Fuser(dim, config.fuser_layers)
        self.out_proj = nn.Conv2d(dim, config.dim, kernel_size=1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Encode one frame.

        Args:
            features: raw stride-16 features, never those that memory attention has changed.
            mask: at the model's side, mapped to -10 (background) .. 10 (object).
        """
        seen, marked = within_range(self.pix_feat_proj(features)), within_range(self.mask_downsampler(mask))
        return within_range(self.out_proj(self.fuser(within_range(seen + marked))))


class MaskDownsampler(nn.Module):
    """[B, 1, 16h, 16w] -> [B, dim, h, w] in four strided convolutions, each with four times the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [1, 4, 16, 64, 256]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), LayerNorm2d(after), nn.GELU()]
        layers.append(nn.Conv2d(widths[-1], dim, kernel_size=1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, mask: Tensor) -> Tensor:
        return self.encoder(mask)


class Fuser(nn.Module):
    """A few ConvNeXt blocks."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNeXtBlock(dim) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, an MLP over channels, a learned scale, and the residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * within_range(self.pwconv2(F.gelu(within_range(self.pwconv1(y)))))
        return within_range(x + y.permute(0, 3, 1, 2))
