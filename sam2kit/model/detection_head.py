"""Where things are that a fine-tuned model is to find by itself: a head of its own on the image encoder's features.

Between the image encoder and the prompt encoder: what it finds becomes clicks and boxes for the mask decoder. It is no
part of SAM 2, and only models have it that were fine-tuned with it; published checkpoints have no such weights.

    stride 16 --(twice as large)--+
                                  +--> two convolutions --> depth of each class, sides of a box   (stride 8)
    stride 8 ---------------------+

Surprise: the map of a class does not show centres but how deep inside an object a place is, 1 at its innermost place
and 0 at its edge. So things that touch have a valley between them, and a crooked thing has its peak inside.

Source: normalised distances as object probability, StarDist, arXiv:1806.03535; sides of a box, FCOS, arXiv:1904.01355.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.model.layers import LayerNorm2d, within_range

STRIDE = 8
_RARE = 0.02  # depth that an untrained head shows everywhere
_SIDES = (math.log(0.002), math.log(1.5))  # least and largest distance to a side of the box, in edges of the square


class DetectionHead(nn.Module):
    """Depths and boxes.

    Args:
        dim: channels of the stride-16 features; a quarter of them at stride 8.
        classes: how many kinds of things.
        takes_detail: whether there are features of stride 8.
    """

    def __init__(self, dim: int, classes: int, *, takes_detail: bool) -> None:
        super().__init__()
        width = dim // 2
        self.coarse = nn.Sequential(LayerNorm2d(dim), nn.Conv2d(dim, width, 1))
        self.fine = nn.Sequential(LayerNorm2d(dim // 4), nn.Conv2d(dim // 4, width, 1)) if takes_detail else None
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), LayerNorm2d(width), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), LayerNorm2d(width), nn.GELU(),
        )  # fmt: skip
        self.depth = nn.Conv2d(width, classes, 1)
        self.sides = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.depth.bias, math.log(_RARE / (1 - _RARE)))  # type: ignore[arg-type]
        nn.init.constant_(self.sides.bias, math.log(0.1))  # type: ignore[arg-type]

    def forward(self, stride16: Tensor, stride8: Tensor | None) -> tuple[Tensor, Tensor]:
        """Look at B pictures.

        Args:
            stride16: [B, dim, S/16, S/16] raw features.
            stride8: [B, dim/4, S/8, S/8], or None.
        Returns:
            [B, classes, S/8, S/8] logits of the depth, and [B, 4, S/8, S/8] float32 logarithms of the distances from
            the middle of each place to the left, top, right and bottom side of the box, in edges of the square.
        """
        x = F.interpolate(self.coarse(stride16), scale_factor=2, mode="bilinear", align_corners=False)
        if self.fine is not None:
            assert stride8 is not None, "this model's features have a stride of 8"
            x = x + self.fine(stride8)
        x = self.mix(within_range(x))
        return self.depth(x).float(), self.sides(x).float().clamp(*_SIDES)


def boxes_of(sides: Tensor, places: Tensor) -> Tensor:
    """[N, 4] boxes (x0, y0, x1, y1) at N places [N, 2] (row, column) of a map [4, h, w] of sides, in 0..1."""
    height, width = sides.shape[-2:]
    rows, columns = places.unbind(dim=1)
    size = sides.new_tensor([width, height])
    middle = (places.flip(1).to(sides.dtype) + 0.5) / size
    left_top, right_bottom = sides[:, rows, columns].T.exp().split(2, dim=1)
    return torch.cat([middle - left_top, middle + right_bottom], dim=1).clamp(0, 1)
