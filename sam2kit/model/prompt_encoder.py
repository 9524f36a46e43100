"""Clicks, boxes and masks as tokens and a map, in the language of the mask decoder.

A point is the Fourier encoding of its place plus a learned vector for what it means. A box is two points.
A rough mask (the low-res logits of an earlier answer) becomes a map that is added to the image embedding.

Surprise: whenever there are points, one more token "not a point" follows them. The decoder was trained
with it and its answers change without it.

Source: SAM, arXiv:2304.02643, section 3 "Prompt encoder"; SAM 2, arXiv:2408.00714, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2kit.model.layers import LayerNorm2d, module_list, resize_smoothly, within_range
from sam2kit.model.positions import FourierPositions

# meaning of a point's label
NOT_A_POINT, NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3
_MASK_CHANNELS = (4, 16)


class PromptEncoder(nn.Module):
    """Prompts -> tokens [B, N + 1, dim] and a dense map [B, dim, h, w]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pe_layer = FourierPositions(dim)
        self.point_embeddings = module_list(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        first, second = _MASK_CHANNELS
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=2, stride=2),
            LayerNorm2d(first),
            nn.GELU(),
            nn.Conv2d(first, second, kernel_size=2, stride=2),
            LayerNorm2d(second),
            nn.GELU(),
            nn.Conv2d(second, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def points(self, points_xy: Tensor, labels: Tensor, side: int) -> Tensor:
        """Encode clicks and box corners.

        Args:
            points_xy: [B, N, 2] pixels of the model's square; a pixel's centre is half a pixel further.
            labels: [B, N] ints: -1 not a point, 0 negative, 1 positive, 2 and 3 corners of a box.
            side: edge of the model's square, in pixels.
        Returns:
            [B, N + 1, dim]; the last one is "not a point".
        """
        encoded = self.pe_layer((points_xy.float() + 0.5) / side).to(self.no_mask_embed.weight.dtype)
        meaning = torch.cat([self.not_a_point_embed.weight, *[e.weight for e in self.point_embeddings]])
        tokens = encoded * (labels != NOT_A_POINT)[..., None] + meaning[labels.long() + 1]
        padding = self.not_a_point_embed.weight.expand(tokens.shape[0], 1, -1)
        return torch.cat([tokens, padding], dim=1)

    def no_points(self, batch: int) -> Tensor:
        """[batch, 0, dim]: for prompts that are only a mask."""
        weight = self.no_mask_embed.weight
        return weight.new_zeros(batch, 0, weight.shape[1])

    def mask(self, mask_logits: Tensor, embedding_side: int) -> Tensor:
        """[B, 1, h, w] mask logits, of any size -> [B, dim, embedding_side, embedding_side]."""
        wanted = (4 * embedding_side, 4 * embedding_side)
        if tuple(mask_logits.shape[-2:]) != wanted:
            mask_logits = resize_smoothly(mask_logits.float(), wanted)
        return within_range(self.mask_downscaling(within_range(mask_logits.to(self.no_mask_embed.weight.dtype))))

    def no_mask(self, embedding_side: int) -> Tensor:
        """[1, dim, embedding_side, embedding_side]: the learned map that says there is no mask, for all prompts."""
        return self.no_mask_embed.weight[:, :, None, None].expand(-1, -1, embedding_side, embedding_side)
