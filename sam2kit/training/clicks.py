"""Where a simulated user clicks: uniformly in the error for training, in its middle for evaluation.

Source: SAM 2, arXiv:2408.00714, appendix "Training" (interactive simulation) and "Zero-shot evaluation".
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2kit.predict.masks import mask_boxes

_BOX_NOISE, _BOX_NOISE_MAX = 0.1, 20.0  # of the box's side; pixels


def centre_click(truth: np.ndarray, prediction: np.ndarray | None = None) -> tuple[tuple[int, int], int]:
    """The most interior pixel of the error.

    Args:
        truth: bool [H, W].
        prediction: bool [H, W]; None before the first click, when everything is missing.
    Returns:
        (x, y) in pixels, and the label: 1 in a missed region, 0 in a falsely covered one. A tie is negative; the
        first of several equally deep pixels wins, row by row. Without any error: (0, 0) and 0.
    """
    if prediction is None:
        prediction = np.zeros_like(truth)
    missed, extra = _depth(truth & ~prediction), _depth(prediction & ~truth)
    positive = bool(missed.max() > extra.max())
    y, x = np.unravel_index(np.argmax(missed if positive else extra), truth.shape)
    return (int(x), int(y)), int(positive)


def _depth(region: np.ndarray) -> np.ndarray:
    """Squared distance to the region's edge; the picture's border is an edge. Integers, the same on any machine."""
    padded = np.pad(region.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.rint(distance.astype(np.float64) ** 2).astype(np.int64)


def uniform_clicks(
    truth: Tensor, prediction: Tensor, generator: torch.Generator, *, from_truth: float = 0.1
) -> tuple[Tensor, Tensor]:
    """One click per object, uniformly in its error.

    Args:
        truth: [N, H, W] bool.
        prediction: [N, H, W] bool; all False for first clicks.
        generator: a CPU generator, so that a seed gives the same clicks on any device.
        from_truth: chance that a click ignores the prediction and falls anywhere on the object.
    Returns:
        [N, 2] float32 pixel indices (x, y), and [N] int64 labels, 1 where the object was missed. A perfect
        prediction gets a negative click in the background.
    """
    n, height, width = truth.shape
    random = torch.rand(n, generator=generator).to(truth.device)
    prediction = prediction & (random >= from_truth)[:, None, None]
    error = truth ^ prediction
    nothing = ~error.flatten(1).any(dim=1)
    where = torch.where(nothing[:, None, None], ~truth, error)
    draw = torch.rand(n, height * width, generator=generator).to(truth.device)
    index = torch.where(where.flatten(1), draw, -1.0).argmax(dim=1)
    labels = truth.flatten(1).gather(1, index[:, None]).squeeze(1).long()
    return torch.stack([index % width, index // width], dim=1).float(), labels


def tight_boxes(truth: Tensor) -> Tensor:
    """[N, H, W] bool -> [N, 4] float32 (x0, y0, x1, y1), inclusive pixel indices.

    An empty mask gets the whole picture.
    """
    boxes = mask_boxes(truth).float()
    empty = ~truth.flatten(1).any(dim=1)
    height, width = truth.shape[1:]
    boxes[empty] = torch.tensor([0, 0, width - 1, height - 1], dtype=torch.float32, device=truth.device)
    return boxes


def noisy_boxes(truth: Tensor, generator: torch.Generator) -> Tensor:
    """`tight_boxes` whose corners each move by up to a tenth of the side, at most 20 pixels, inside the picture."""
    return move_corners(tight_boxes(truth), truth.shape[1:], torch.rand(len(truth), 4, generator=generator))


def move_corners(boxes: Tensor, size_hw: tuple[int, int] | torch.Size, uniforms: Tensor) -> Tensor:
    """Boxes [N, 4] moved by uniforms [N, 4] in 0..1, where 0.5 is no movement."""
    height, width = size_hw
    reach = (_BOX_NOISE * (boxes[:, 2:] - boxes[:, :2])).clamp(max=_BOX_NOISE_MAX).repeat(1, 2)
    limit = torch.tensor([width - 1, height - 1] * 2, dtype=torch.float32, device=boxes.device)
    moved = boxes + (2 * uniforms.to(boxes.device) - 1) * reach
    return torch.minimum(moved.clamp(min=0), limit)
