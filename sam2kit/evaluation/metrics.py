"""How well masks agree: region similarity J, boundary accuracy F, and their mean J&F.

Two masks in, a number in 0..1 out; which frames of a video count is decided in vos.py.

Surprise: F looks only at the rectangle around both masks. All boundary pixels lie in it, and only there is asked
whether the other boundary is near, so the numbers are those of the whole picture, many times faster.

Source: DAVIS, Perazzi et al., CVPR 2016, in the form of the SA-V evaluator (SA-V data set, SAM 2, arXiv:2408.00714).
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
    window = _around(mask | truth)
    ours, theirs = boundary(mask[window]), boundary(truth[window])
    count, true_count = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not count or not true_count:
        return float(count == true_count)
    near = _disk(boundary_reach(truth.shape))
    precision = np.count_nonzero(ours & _dilated(theirs, near)) / count
    recall = np.count_nonzero(theirs & _dilated(ours, near)) / true_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def frame_scores(masks: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J and F of all objects of a frame.

    Args:
        masks: bool [N, H, W], what was predicted.
        truths: bool [N, H, W], the same objects in the same order.
    Returns:
        float64 [N] J and [N] F, 0..1.
    Raises:
        ValueError: if the shapes differ.
    """
    if masks.shape != truths.shape or masks.ndim != 3:
        raise ValueError(f"masks and truths must both be [N, H, W], got {list(masks.shape)} and {list(truths.shape)}")
    either = np.count_nonzero(masks | truths, axis=(1, 2))
    both = np.count_nonzero(masks & truths, axis=(1, 2))
    region = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    outline = np.array([boundary_accuracy(m, t) for m, t in zip(masks, truths, strict=True)], np.float64)
    return region, outline


def boundary(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels that differ from their right, lower or lower right neighbour (which the border copies)."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def boundary_reach(size_hw: tuple[int, ...]) -> int:
    """How many pixels a boundary may be off in a picture of this size."""
    return math.ceil(_REACH * math.hypot(*size_hw))


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """The rectangle of a mask and one pixel more, because the pixel left of and above it is boundary too."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _dilated(lines: np.ndarray, disk: np.ndarray) -> np.ndarray:
    return cv2.dilate(lines.astype(np.uint8), disk).astype(bool)
