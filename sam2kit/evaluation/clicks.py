"""Where a simulated user clicks when a model is measured: in the middle of the largest error. No chance is involved.

Source: SAM 2, arXiv:2408.00714, appendix "Zero-shot evaluation"; the centre rule of its published code.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2kit.predict.masks import mask_boxes


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


def tight_boxes(truth: Tensor) -> Tensor:
    """[N, H, W] bool -> [N, 4] float32 (x0, y0, x1, y1), inclusive pixel indices.

    An empty mask gets the whole picture.
    """
    boxes = mask_boxes(truth).float()
    empty = ~truth.flatten(1).any(dim=1)
    height, width = truth.shape[1:]
    boxes[empty] = torch.tensor([0, 0, width - 1, height - 1], dtype=torch.float32, device=truth.device)
    return boxes
