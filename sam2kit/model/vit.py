"""The trunk of EfficientTAM: a plain vision transformer, which keeps one map of stride 16 from its patches on.

First part of image_encoder.py. Two of three blocks look at windows, the third at the whole picture; blocks, windows
and their zeros at the border are those of Hiera.

Source: EfficientTAM, arXiv:2411.18933, section 3; ViTDet, arXiv:2203.16527.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from sam2kit.config import ViTConfig
from sam2kit.model.hiera import Block, PatchEmbed
from sam2kit.model.layers import Derived, module_list, within_range

_PATCH = 16  # pixels


class ViT(nn.Module):
    """Patches, a learned map of positions, and blocks.

    Args:
        config: sizes of the trunk.
        drop_path: stochastic depth of the last block, in training; it grows linearly from 0.
    """

    def __init__(self, config: ViTConfig, *, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, last = config.embed_dim, max(config.blocks - 1, 1)
        self._grid = config.position_grid
        self.patch_embed = PatchEmbed(dim, kernel=_PATCH, stride=_PATCH, padding=0)
        # the first place is that of a class token, which was there when the trunk was pre-trained
        self.pos_embed = nn.Parameter(trunc_normal_(torch.empty(1, 1 + self._grid**2, dim), std=0.02))
        self.blocks = module_list(
            Block(
                in_dim=dim, dim=dim, heads=config.heads, pool=False, drop_path=drop_path * i / last,
                window=config.window_of(i),
            )
            for i in range(config.blocks)
        )  # fmt: skip
        self._places = Derived()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised pixels -> one [B, C, S/16, S/16] map."""
        x = self.patch_embed(pixels)
        size_hw = x.shape[1], x.shape[2]
        places = self._places.get(lambda: self._made_positions(*size_hw), [self.pos_embed], size_hw)
        x = within_range(x + places.to(x.dtype))
        for block in self.blocks:
            x = block(x)
        return [x.permute(0, 3, 1, 2)]

    def _made_positions(self, height: int, width: int) -> Tensor:
        grid = self.pos_embed[:, 1:].float().unflatten(1, (self._grid, self._grid)).permute(0, 3, 1, 2)
        return F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
