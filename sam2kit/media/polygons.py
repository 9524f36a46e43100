"""A mask as one closed line, for formats that know nothing else.

Parts and holes are joined by bridges that go out and back over the same pixels, so that filling the line gives the
mask again.
"""

from __future__ import annotations

import cv2
import numpy as np

_MOST_RINGS = 100  # parts and holes; to join more would take minutes, and the smallest are noise


def mask_to_polygon(mask: np.ndarray) -> np.ndarray:
    """One polygon around all parts of a mask, with its holes.

    Args:
        mask: bool [H, W].
    Returns:
        int32 [N, 2] pixels (x, y) on the edge of the mask; [0, 2] if it is empty.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = sorted((contour[:, 0] for contour in contours), key=cv2.contourArea, reverse=True)[:_MOST_RINGS]
    if not rings:
        return np.zeros((0, 2), np.int32)
    line = rings.pop(0)
    while rings:
        gaps = [_nearest(line, ring) for ring in rings]
        best = min(range(len(rings)), key=lambda i: gaps[i][0])
        _, at, begin = gaps[best]
        ring = np.roll(rings.pop(best), -begin, axis=0)
        line = np.concatenate([line[: at + 1], ring, ring[:1], line[at:]])
    return line


def polygon_to_mask(polygon_xy: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The inverse, up to the bridges between parts: bool [H, W] from [N, 2] pixels."""
    mask = np.zeros(size_hw, np.uint8)
    if len(polygon_xy):
        cv2.fillPoly(mask, [np.rint(polygon_xy).astype(np.int32)], 1)
    return mask > 0


def _nearest(line: np.ndarray, ring: np.ndarray) -> tuple[float, int, int]:
    """Squared distance, and the numbers of the two points that are nearest to each other."""
    gaps = ((line[:, None].astype(np.int64) - ring[None]) ** 2).sum(axis=2)
    at, begin = np.unravel_index(gaps.argmin(), gaps.shape)
    return float(gaps[at, begin]), int(at), int(begin)
