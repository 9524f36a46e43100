"""Outlines and run lengths from other people's files, read without trust; COCO's ways to write a mask."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from sam2kit.data.stored import BadSampleError, Note
from sam2kit.files import MALFORMED
from sam2kit.media.mask_files import runs_to_mask

_MOST_POINTS = 20_000  # of the outlines of one object


def mask_of_segmentation(segmentation: Any, size_hw: tuple[int, int], name: str, notes: list[Note]) -> np.ndarray:
    """A mask from COCO's `segmentation`.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...], or {"size", "counts"}.
        size_hw: of the picture that it is about.
        name: for messages.
        notes: takes what is odd about it.
    Returns:
        bool [H, W].
    Raises:
        BadSampleError: if it cannot be read, or has another size.
    """
    if isinstance(segmentation, dict):
        return _mask_of_runs(segmentation, size_hw, name)
    if not segmentation:
        text = f"{name} has a box but no segmentation; sam2kit learns masks: outline the object, or remove it"
        raise BadSampleError(text, "box_only")
    if not isinstance(segmentation, list):
        raise BadSampleError(f"{name}: its segmentation is neither polygons nor run lengths; export it again")
    rings = [_ring(polygon, name) for polygon in rings_of(segmentation)]
    check_outlines(rings, size_hw, name, notes)
    parts = coco_masks.frPyObjects([ring.ravel().tolist() for ring in rings], *size_hw)
    return coco_masks.decode(coco_masks.merge(parts)).astype(bool)


def rings_of(segmentation: Any) -> list[Any]:
    """The outlines of a segmentation; one that is no polygon counts as an outline, too."""
    if not segmentation:
        return []
    is_nested = isinstance(segmentation, list) and isinstance(segmentation[0], (list, tuple))
    return segmentation if is_nested else [segmentation]


def _mask_of_runs(runs: dict[str, Any], size_hw: tuple[int, int], name: str) -> np.ndarray:
    try:
        height, width = (int(n) for n in runs["size"])
        if (height, width) == size_hw:  # before decoding: a wrong size may ask for any amount of memory
            return runs_to_mask(runs)
    except MALFORMED as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        text = f"{name}: its run lengths are broken ({reason}); export this mask again, or remove it"
        raise BadSampleError(text, "broken_mask") from error
    text = f"{name} is a mask of {width}x{height} for a picture of {size_hw[1]}x{size_hw[0]}"
    raise BadSampleError(f"{text}; export masks in the picture's size", "size")


def _ring(polygon: Any, name: str) -> np.ndarray:
    """float [N, 2]."""
    try:
        values = np.asarray(polygon, float).ravel()
    except MALFORMED as error:
        raise BadSampleError(f"{name}: its polygon holds something else than numbers", "broken_mask") from error
    if len(values) % 2 or len(values) < 6 or not np.isfinite(values).all():
        text = f"{name}: its polygon has {len(values)} numbers; wanted are three or more points as x, y, x, y, ..."
        raise BadSampleError(f"{text}. Draw it again", "broken_mask")
    return values.reshape(-1, 2)


def check_outlines(rings: list[np.ndarray], size_hw: tuple[int, int], name: str, notes: list[Note]) -> None:
    """Like `check_points`, for the outlines of one object, float [N, 2] pixels each.

    Raises:
        BadSampleError: also if drawing them would take for ever, or more memory than there is.
    """
    points_xy = np.concatenate(rings)
    check_points(points_xy, size_hw, name, notes)
    steps = sum(np.abs(np.diff(ring, axis=0, append=ring[:1])).max(axis=1).sum() for ring in rings)
    if len(points_xy) > _MOST_POINTS or steps > 50 * (sum(size_hw) + 1000):
        text = f"{len(points_xy)} points that runs over {steps:.0f} pixels is no object's; export it as a mask"
        raise BadSampleError(f"an outline with {text}", "broken_mask")


def check_points(
    points_xy: np.ndarray, size_hw: tuple[int, int], name: str, notes: list[Note], *, may_be_shares: bool = True
) -> None:
    """See whether points lie in their picture.

    Args:
        points_xy: float [N, 2] pixels.
        size_hw: of the picture.
        name: for messages.
        notes: takes a sentence if points lie outside, by more than rounding.
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
        return
    reach = f"x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f} in a picture of {width}x{height}"
    text = f"{name} goes outside its picture ({reach}); was the picture resized or cropped after it was labelled?"
    wholly = low[0] >= width or low[1] >= height or high[0] <= 0 or high[1] <= 0
    if wholly or beyond > 10 * max(size_hw):
        raise BadSampleError(text, "outside")
    notes.append(Note("outside", text))


def boxes_note(outlines: Iterable[Any], where: Path) -> list[Note]:
    """A warning if there are several outlines and all are boxes; the first that is none is the last that is read.

    Args:
        outlines: numbers x, y, x, y, ... or points each; what is neither is no box.
        where: they were found.
    """
    count = 0
    for count, points in enumerate(outlines, start=1):  # noqa: B007 - the last one counts
        if not _is_box(points):
            return []
    if count < 2:
        return []
    text = f"{where}: all {count} outlines are rectangles; were boxes exported instead of outlines?"
    return [Note("rectangles", f"{text} A model learns rectangles from them; export or draw the outlines")]


def _is_box(points: Any) -> bool:
    """Whether an outline has four corners, the first perhaps twice, and fills what they span."""
    try:
        points_xy = np.asarray(points, float).reshape(-1, 2)
    except MALFORMED:
        return False
    if len(points_xy) not in (4, 5):
        return False
    x, y = (points_xy - points_xy[0]).T
    area, spanned = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2, np.ptp(x) * np.ptp(y)
    return bool(spanned > 0 and area >= (1 - 1e-4) * spanned)
