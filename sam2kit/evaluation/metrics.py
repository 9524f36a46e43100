"""How well masks agree through a video: region similarity J, boundary accuracy F, and their mean J&F.

Source: DAVIS, Perazzi et al., CVPR 2016, in the form of the SA-V evaluator (SAM 2, arXiv:2408.00714).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

_REACH = 0.008  # of the picture's diagonal: how far a boundary may be off


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """J of two bool [H, W] masks: intersection over union, 0..1; 1 where both are empty."""
    either = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / either if either else 1.0


def boundary_accuracy(mask: np.ndarray, truth: np.ndarray) -> float:
    """F of two bool [H, W] masks: how much of each boundary lies near the other, 0..1; 1 where both have none."""
    ours, theirs = boundary(mask), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    near = _disk(math.ceil(_REACH * math.hypot(*truth.shape)))
    precision = np.count_nonzero(ours & _dilated(theirs, near)) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & _dilated(ours, near)) / np.count_nonzero(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels that differ from their right, lower or lower right neighbour (which the border copies)."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _dilated(lines: np.ndarray, disk: np.ndarray) -> np.ndarray:
    return cv2.dilate(lines.astype(np.uint8), disk).astype(bool)
