"""What cells and browsers hand to the widgets, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sam2kit.clicking.messages import Box, Point, PromptRequest


def checked_prompts(
    points_xy: ArrayLike | None, labels: ArrayLike | None, box_xyxy: ArrayLike | None, size_hw: tuple[int, ...]
) -> tuple[tuple[Point, ...], Box | None]:
    """Clicks and a box from a cell, by the rules for those from a browser.

    Args:
        points_xy: [N, 2] or [2].
        labels: [N]; all 1 when left out.
        box_xyxy: [4].
        size_hw: of the picture.
    Raises:
        ValueError: if shapes, labels or places cannot be used.
    """
    points = np.zeros((0, 2)) if points_xy is None else np.atleast_2d(np.asarray(points_xy, float))
    given = np.ones(len(points), int) if labels is None else np.atleast_1d(np.asarray(labels))
    if points.ndim != 2 or points.shape[1] != 2 or given.shape != points.shape[:1]:
        raise ValueError(f"clicks are [N, 2] with one label each, got {list(points.shape)} and {list(given.shape)}")
    sent = {
        "key": "", "scene": "", "sequence": 0, "number": 0,
        "points": [[x, y, label] for (x, y), label in zip(points.tolist(), given.tolist(), strict=True)],
        "box": None if box_xyxy is None else np.ravel(np.asarray(box_xyxy, float)).tolist(),
    }  # fmt: skip
    request = PromptRequest.read(sent).within(size_hw)
    return request.points, request.box_xyxy


def number_in(content: dict[str, Any], name: str = "number") -> int:
    """A whole number that a browser sent.

    Raises:
        ValueError: if it is none.
    """
    number = content.get(name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"{name} must be a whole number, got {number!r}")
    return number
