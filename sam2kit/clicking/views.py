"""The size at which the browser shows pictures and frames."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

VIEW_SIDES = (960, 1280)  # the longer side of what the browser shows lies between these, in pixels


def view_size(size_hw: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the view; small pictures grow, because the browser would not enlarge them."""
    longest = max(size_hw[:2])
    wanted = min(max(longest, VIEW_SIDES[0]), VIEW_SIDES[1])
    height, width = (max(1, round(n * wanted / longest)) for n in size_hw[:2])
    return height, width


def view_of(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] at the size of the view; the argument itself if it has that size."""
    height, width = view_size(image.shape)
    if image.shape[:2] == (height, width):
        return image
    shrinks = max(height, width) < max(image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def scaled(image: np.ndarray, longest: int) -> np.ndarray:
    """uint8 [h, w, 3] whose longer side has so many pixels; for small pictures beside the view."""
    scale = longest / max(image.shape[:2])
    size_wh = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)


def to_original(view_xy: tuple[float, ...], size_hw: tuple[int, ...]) -> tuple[float, float]:
    """The pixel of the original under the middle of a pixel of the view."""
    shown_hw = view_size(size_hw)
    x, y = ((v + 0.5) * size_hw[axis] / shown_hw[axis] - 0.5 for v, axis in zip(view_xy, (1, 0), strict=True))
    return min(max(x, 0.0), size_hw[1] - 1.0), min(max(y, 0.0), size_hw[0] - 1.0)


def to_view(xy: Iterable[float], size_hw: tuple[int, ...]) -> tuple[float, float]:
    """The inverse of `to_original`."""
    shown_hw = view_size(size_hw)
    x, y = ((float(v) + 0.5) * shown_hw[axis] / size_hw[axis] - 0.5 for v, axis in zip(xy, (1, 0), strict=True))
    return x, y
