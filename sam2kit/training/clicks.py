"""Where a simulated user clicks in training: anywhere in the error; the middle of it is evaluation/clicks.py.

Source: SAM 2, arXiv:2408.00714, appendix "Training" (interactive simulation).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2kit.evaluation.clicks import tight_boxes

_BOX_NOISE, _BOX_NOISE_MAX = 0.1, 20.0  # of the box's side; pixels


# one CPU generator for each object, so that what is drawn for it does not depend on its company; or one for all
Randomness = torch.Generator | Sequence[torch.Generator]


def uniforms(generator: Randomness, count: int, *shape: int) -> Tensor:
    """[count, *shape] float32 in 0..1, on the CPU: a seed gives the same on any device."""
    if isinstance(generator, torch.Generator):
        return torch.rand(count, *shape, generator=generator)
    return torch.stack([torch.rand(shape, generator=g) for g in generator])


def uniform_clicks(
    truth: Tensor, prediction: Tensor, generator: Randomness, *, from_truth: float = 0.1
) -> tuple[Tensor, Tensor]:
    """One click per object, uniformly in its error.

    Args:
        truth: [N, H, W] bool.
        prediction: [N, H, W] bool; all False for first clicks.
        generator: see Randomness.
        from_truth: chance that a click ignores the prediction and falls anywhere on the object.
    Returns:
        [N, 2] float32 pixel indices (x, y), and [N] int64 labels, 1 where the object was missed. A perfect
        prediction gets a negative click in the background.
    """
    n, height, width = truth.shape
    random = uniforms(generator, n).to(truth.device)
    prediction = prediction & (random >= from_truth)[:, None, None]
    error = truth ^ prediction
    nothing = ~error.flatten(1).any(dim=1)
    where = torch.where(nothing[:, None, None], ~truth, error)
    draw = uniforms(generator, n, height * width).to(truth.device)
    index = torch.where(where.flatten(1), draw, -1.0).argmax(dim=1)
    labels = truth.flatten(1).gather(1, index[:, None]).squeeze(1).long()
    return torch.stack([index % width, index // width], dim=1).float(), labels


def noisy_boxes(truth: Tensor, generator: Randomness) -> Tensor:
    """`tight_boxes` whose corners each move by up to a tenth of the side, at most 20 pixels, inside the picture."""
    return move_corners(tight_boxes(truth), truth.shape[1:], uniforms(generator, len(truth), 4))


def move_corners(boxes: Tensor, size_hw: tuple[int, int] | torch.Size, uniforms: Tensor) -> Tensor:
    """Boxes [N, 4] moved by uniforms [N, 4] in 0..1, where 0.5 is no movement."""
    height, width = size_hw
    reach = (_BOX_NOISE * (boxes[:, 2:] - boxes[:, :2])).clamp(max=_BOX_NOISE_MAX).repeat(1, 2)
    limit = torch.tensor([width - 1, height - 1] * 2, dtype=torch.float32, device=boxes.device)
    moved = boxes + (2 * uniforms.to(boxes.device) - 1) * reach
    return torch.minimum(moved.clamp(min=0), limit)


def spoiled_masks(truth: Tensor, generator: Randomness) -> Tensor:
    """True masks [N, S, S] at low resolution with a wavy error at the edge, as logits: [N, 1, S/4, S/4]."""
    soft = F.avg_pool2d(truth[:, None].float(), 4)
    soft = F.avg_pool2d(soft, 5, stride=1, padding=2)
    waves = uniforms(generator, len(truth), 1, 6, 6).to(truth.device) - 0.5
    waves = F.interpolate(waves, size=soft.shape[-2:], mode="bicubic", align_corners=False)
    return (20 * (soft - 0.5 + 0.7 * waves)).clamp(-10, 10)
