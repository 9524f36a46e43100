"""The trunk of EdgeTAM: RepViT, a convolutional network for phones.

First part of image_encoder.py; four maps of strides 4, 8, 16, 32.

Surprises:
- Convolutions carry batch norms, which are folded into them whenever their weights have changed: they always use their
  running statistics, also in training, where a batch is one picture. So there is one path, and a checkpoint keeps its
  names.
- What mixes the places of a map has three branches, a 3x3, a 1x1 and none; folded, they are one 3x3.
- Only every other block of a stage weighs its channels.

Source: RepViT, arXiv:2307.09283; EdgeTAM, arXiv:2501.07256, section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import RepViTConfig
from sam2kit.model.layers import Derived, within_range

_ROUNDED_TO = 8  # channels of the squeezed map


class RepViT(nn.Module):
    """[B, 3, S, S] normalised pixels -> maps of strides 4, 8, 16, 32."""

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        self.body = nn.Module()  # the published model wraps its trunk
        self.body.add_module("stem", Stem(config.embed_dim))
        for i, blocks in enumerate(config.blocks_per_stage):
            self.body.add_module(f"stages_{i}", Stage(config.embed_dim << i, blocks, opens=i > 0))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The four maps, from the finest on."""
        stem, *stages = self.body.children()
        # channels lie next to each other, which convolutions of one pixel or one channel like
        x, maps = stem(pixels.contiguous(memory_format=torch.channels_last)), []
        for stage in stages:
            x = stage(x)
            maps.append(x)
        return maps


class Stem(nn.Module):
    """[B, 3, S, S] -> [B, C, S/4, S/4] in two strided convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, kernel=3, stride=2)
        self.conv2 = ConvNorm(dim // 2, dim, kernel=3, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(pixels)))


class Stage(nn.Module):
    """Blocks of one width; all but the first stage halve the map before, and double its channels."""

    def __init__(self, dim: int, blocks: int, *, opens: bool) -> None:
        super().__init__()
        if opens:
            self.downsample = Downsample(dim // 2, dim)
        self.blocks = nn.Sequential(*(RepViTBlock(dim, weighs_channels=i % 2 == 0) for i in range(blocks)))
        self.opens = opens

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x) if self.opens else x)


class Downsample(nn.Module):
    """[B, C, H, W] -> [B, 2C, H/2, W/2]."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.pre_block = RepViTBlock(dim, weighs_channels=False)
        self.spatial_downsample = ConvNorm(dim, dim, kernel=3, stride=2, groups=dim)
        self.channel_downsample = ConvNorm(dim, out_dim)
        self.ffn = ChannelMixer(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(self.channel_downsample(self.spatial_downsample(self.pre_block(x))))


class RepViTBlock(nn.Module):
    """Mix places, perhaps weigh channels, mix channels."""

    def __init__(self, dim: int, *, weighs_channels: bool) -> None:
        super().__init__()
        self.token_mixer = PlaceMixer(dim)
        self.se = SqueezeExcite(dim) if weighs_channels else nn.Identity()
        self.channel_mixer = ChannelMixer(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.se(self.token_mixer(x)))


class ConvNorm(nn.Module):
    """A convolution without bias and a batch norm with fixed statistics, computed as one convolution."""

    def __init__(self, in_dim: int, dim: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(in_dim, dim, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self._folded = Derived()

    def forward(self, x: Tensor) -> Tensor:
        c = self.c
        if type(c) is not nn.Conv2d:  # LoRA has wrapped it
            _, scale, shift, mean, variance = self.sources()
            return within_range(F.batch_norm(c(x), mean, variance, scale, shift, eps=self.bn.eps))
        weight, bias = self._folded.get(self.folded, self.sources())
        return within_range(F.conv2d(x, weight, bias, c.stride, c.padding, groups=c.groups))

    def sources(self) -> list[Tensor]:
        """What the folded weights follow from."""
        bn = self.bn
        assert bn.running_mean is not None and bn.running_var is not None, "it tracks statistics"
        return [self.c.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution; folded in float32."""
        weight, scale, shift, mean, variance = (t.float() for t in self.sources())
        factor = scale * (variance + self.bn.eps).rsqrt()
        folded = weight * factor[:, None, None, None], shift - mean * factor
        return folded[0].to(self.c.weight.dtype), folded[1].to(self.c.weight.dtype)


class PlaceMixer(nn.Module):
    """A depthwise 3x3, a depthwise 1x1 and the map itself, added up: one depthwise 3x3."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = ConvNorm(dim, dim, kernel=3, groups=dim)
        self.conv1 = ConvNorm(dim, dim, groups=dim)
        self._folded = Derived()

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._folded.get(self.folded, [*self.conv.sources(), *self.conv1.sources()])
        return within_range(F.conv2d(x, weight, bias, padding=1, groups=len(weight)))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight [C, 1, 3, 3] and bias [C]."""
        (wide, wide_bias), (narrow, narrow_bias) = self.conv.folded(), self.conv1.folded()
        return wide + F.pad(narrow + 1, (1, 1, 1, 1)), wide_bias + narrow_bias


class SqueezeExcite(nn.Module):
    """Weigh each channel by what all of the map looks like."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        squeezed = max(_ROUNDED_TO, (dim // 4 + _ROUNDED_TO // 2) // _ROUNDED_TO * _ROUNDED_TO)
        self.fc1 = nn.Conv2d(dim, squeezed, kernel_size=1)
        self.fc2 = nn.Conv2d(squeezed, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class ChannelMixer(nn.Module):
    """Two 1x1 convolutions with twice the channels between them, added to the map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 2 * dim)
        self.conv2 = ConvNorm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return within_range(x + self.conv2(F.gelu(self.conv1(x))))
