"""COCO's ways to write a mask, read without trust: polygons, run lengths, compressed run lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.datasets.samples import BadSampleError, Note
from sam2kit.errors import ODD
from sam2kit.media.runlengths import runs_to_mask

_MOST_POINTS = 20_000  # of the outlines of one object


def mask_of_segmentation(segmentation: Any, size_hw: tuple[int, int], name: str) -> tuple[np.ndarray, list[Note]]:
    """A mask from COCO's `segmentation`.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...], or {"size", "counts"}.
        size_hw: of the picture that it is about.
        name: for messages.
    Returns:
        bool [H, W], and what is odd about it.
    Raises:
        BadSampleError: if it cannot be read, or has another size.
    """
    if isinstance(segmentation, dict):
        return _mask_of_runs(segmentation, size_hw, name), []
    if not segmentation:
        text = f"{name} has a box but no segmentation; sam2kit learns masks: outline the object, or remove it"
        raise BadSampleError(text, "box_only")
    if not isinstance(segmentation, list):
        raise BadSampleError(f"{name}: its segmentation is neither polygons nor run lengths; export it again")
    polygons = segmentation if isinstance(segmentation[0], (list, tuple)) else [segmentation]
    rings = [_ring(polygon, name) for polygon in polygons]
    notes = outside_notes(np.concatenate(rings), size_hw, name)
    return polygons_to_mask([ring for ring in rings if len(ring) > 2], size_hw), notes


def _mask_of_runs(runs: dict[str, Any], size_hw: tuple[int, int], name: str) -> np.ndarray:
    try:
        height, width = (int(n) for n in runs["size"])
        if (height, width) == size_hw:  # before decoding: a wrong size may ask for any amount of memory
            return runs_to_mask(runs)
    except ODD as error:
        told = f"it lacks {error}" if isinstance(error, KeyError) else error
        text = f"{name}: its run lengths are broken ({told}); export this mask again, or remove it"
        raise BadSampleError(text, "broken_mask") from error
    text = f"{name} is a mask of {width}x{height} for a picture of {size_hw[1]}x{size_hw[0]}"
    raise BadSampleError(f"{text}; export masks in the picture's size", "size")


def _ring(polygon: Any, name: str) -> np.ndarray:
    """float [N, 2]."""
    try:
        values = np.asarray(polygon, float).ravel()
    except ODD as error:
        raise BadSampleError(f"{name}: its polygon holds something else than numbers", "broken_mask") from error
    if len(values) % 2 or len(values) < 6 or not np.isfinite(values).all():
        text = f"{name}: its polygon has {len(values)} numbers; wanted are three or more points as x, y, x, y, ..."
        raise BadSampleError(f"{text}. Draw it again", "broken_mask")
    return values.reshape(-1, 2)


def outside_notes(
    points_xy: np.ndarray, size_hw: tuple[int, int], name: str, *, may_be_shares: bool = True
) -> list[Note]:
    """Says if points lie outside the picture, by more than rounding.

    Args:
        points_xy: float [N, 2] pixels.
        may_be_shares: whether coordinates within 0..1 are shares of the picture by mistake, and not one corner pixel.
    Raises:
        BadSampleError: if they cannot be pixels of this picture at all.
    """
    height, width = size_hw
    if not np.isfinite(points_xy).all():
        raise BadSampleError(f"{name}: a coordinate is not a finite number; draw it again", "broken_mask")
    low, high = points_xy.min(axis=0), points_xy.max(axis=0)
    if may_be_shares and high.max() <= 1 and min(size_hw) > 16:
        text = f"{name}: all its coordinates lie in 0..1, wanted are pixels; multiply them by {width} and {height}"
        raise BadSampleError(text, "outside")
    beyond = max(-low.min(), high[0] - width, high[1] - height)
    if beyond <= 1.5:
        return []
    reach = f"x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f} in a picture of {width}x{height}"
    text = f"{name} goes outside its picture ({reach}); was the picture resized or cropped after it was labelled?"
    wholly = low[0] >= width or low[1] >= height or high[0] <= 0 or high[1] <= 0
    if wholly or beyond > 10 * max(size_hw):
        raise BadSampleError(text, "outside")
    return [Note("outside", text)]


def is_rectangle(points_xy: np.ndarray) -> bool:
    """Whether an outline, float [N, 2], is a box: four upright corners, the first perhaps twice."""
    if len(points_xy) not in (4, 5) or (len(points_xy) == 5 and not np.allclose(points_xy[0], points_xy[4])):
        return False
    corners = points_xy[:4]
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = 1e-4 * (high - low)
    ends = [abs(corners - end) <= margin for end in (low, high)]
    turns = (abs(corners - np.roll(corners, 1, axis=0)) <= margin).sum(axis=1)  # each side runs along one axis
    return bool((ends[0] | ends[1]).all() and (high > low).all() and (turns == 1).all())


@dataclass
class OutlineCount:
    """How many outlines of a dataset are boxes."""

    boxes: int = 0
    others: int = 0

    def add(self, points: Any) -> None:
        """Count an outline: numbers x, y, x, y, ... or points; what is neither is no box."""
        try:
            is_box = is_rectangle(np.asarray(points, float).reshape(-1, 2))
        except ODD:
            is_box = False
        self.boxes, self.others = self.boxes + is_box, self.others + (not is_box)

    def notes(self, where: Path) -> list[Note]:
        """A warning if all of them are boxes."""
        if self.others or self.boxes < 2:
            return []
        text = f"{where}: all {self.boxes} outlines are rectangles; were boxes exported instead of outlines?"
        return [Note("rectangles", f"{text} A model learns rectangles from them; export or draw the outlines")]


def polygons_to_mask(rings: list[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: the union of polygons float [N, 2], filled as COCO does.

    Raises:
        BadSampleError: if an outline is longer than any object's; pycocotools would run out of memory, or worse.
        ValueError: if pycocotools is not installed.
    """
    if not rings:
        return np.zeros(size_hw, bool)
    check_outlines(rings, size_hw)
    coco = coco_masks()
    parts = coco.frPyObjects([ring.ravel().tolist() for ring in rings], *size_hw)
    return coco.decode(coco.merge(parts)).astype(bool)


def check_outlines(rings: list[np.ndarray], size_hw: tuple[int, int]) -> None:
    """Raise BadSampleError if drawing polygons would take for ever.

    Args:
        rings: float [N, 2] pixels each.
        size_hw: of the picture.
    """
    points = sum(len(ring) for ring in rings)
    steps = sum(np.abs(np.diff(ring, axis=0, append=ring[:1])).max(axis=1).sum() for ring in rings)
    if points > _MOST_POINTS or steps > 50 * (sum(size_hw) + 1000):
        text = f"an outline with {points} points that runs over {steps:.0f} pixels is no object's; export it as a mask"
        raise BadSampleError(text, "broken_mask")


def coco_masks() -> Any:
    """pycocotools' mask functions.

    Raises:
        ValueError: if it is not installed; says how to.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        text = "COCO polygons need pycocotools, which is not installed: pip install pycocotools"
        raise ValueError(text) from error
    return mask
