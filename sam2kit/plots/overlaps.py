"""Masks against the truth: what was hit, missed or added, how near the boundaries are, and two models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam2kit.evaluation.metrics import boundary, boundary_accuracy, boundary_reach
from sam2kit.evaluation.side_by_side import Comparison
from sam2kit.media.drawing import NEGATIVE, PALETTE, POSITIVE, colour_of, draw_masks
from sam2kit.plots.panels import check_counts, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HIT, _MISSED, _EXTRA = 0, 4, 6  # blue, yellow and vermilion of the palette
_NAMES = {_HIT: "both", _MISSED: "missed: truth only", _EXTRA: "extra: mask only"}
_MARGIN = 6  # pixels around what a boundary is shown of

Points = Sequence[tuple[float, float, int]]  # x, y, label


def show_overlap(
    images: np.ndarray,
    truths: np.ndarray,
    masks: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    points: Sequence[Points] = (),
    columns: int = 4,
    width: float = 10.0,
) -> Figure:
    """Show masks against the truth, one panel each: what both have, what is missed, what is extra.

    Args:
        images: uint8 [H, W, 3] RGB for all panels, or [N, H, W, 3].
        truths: bool [H, W] for all panels, or [N, H, W].
        masks: bool [H, W] each.
        titles: one per panel.
        points: clicks (x, y, label) of each panel.
        columns: panels side by side, at most.
        width: of the figure, in inches.
    Raises:
        ValueError: if the sizes or numbers do not go together.
    """
    from matplotlib.patches import Patch

    found, truths = np.asarray(masks, bool), np.asarray(truths, bool)
    if found.ndim != 3 or truths.shape not in (found.shape, found.shape[1:]):
        raise ValueError(f"masks must be [N, H, W] with truths of the same size, got {found.shape} and {truths.shape}")
    check_counts("masks", len(found), titles=titles or None, points=points or None)
    shown = np.broadcast_to(images, (*found.shape, 3))
    figure, axes = panels([mask.shape for mask in found], columns, width, below=0.35)
    for i, (axis, truth) in enumerate(zip(axes, np.broadcast_to(truths, found.shape), strict=True)):
        parts = (truth & found[i], truth & ~found[i], found[i] & ~truth)
        axis.imshow(draw_masks(shown[i], parts, _NAMES, opacity=0.6))
        _mark(axis, points[i] if points else ())
        axis.set_title(titles[i] if titles else "")
    handles = [Patch(color=PALETTE[number], label=name) for number, name in _NAMES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def show_boundary(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, *, width: float = 10.0) -> Figure:
    """Show what the boundary accuracy F counts: pixels of one boundary that are near the other, and those that are not.

    Left, the mask's boundary over the band around the true one; right, the true boundary over the band around the
    mask's. The bands are as wide as the tolerance.

    Args:
        image: uint8 [H, W, 3] RGB.
        truth: bool [H, W].
        mask: bool [H, W].
        width: of the figure, in inches.
    Raises:
        ValueError: if one of them is empty, so that it has no boundary.
    """
    if not (truth.any() and mask.any()):
        raise ValueError("a boundary is shown of masks that are not empty; choose another frame")
    ours, theirs, reach = boundary(mask), boundary(truth), boundary_reach(truth.shape)
    window = _around(mask | truth, reach + _MARGIN)
    figure, axes = panels([image[window].shape] * 2, 2, width, below=0.35)
    for axis, line, other, name, share in (
        (axes[0], ours, theirs, "mask's boundary", "precision"),
        (axes[1], theirs, ours, "true boundary", "recall"),
    ):
        band = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach + 1e-3
        axis.imshow(_lines_over(image, line, band)[window], interpolation="nearest")
        axis.set_title(f"{name}: {(line & band).sum() / line.sum():.0%} is near ({share})")
    figure.suptitle(f"F = {boundary_accuracy(mask, truth):.2f}; near is within {reach} pixels")
    return figure


def show_comparison(comparisons: Sequence[Comparison], *, width: float = 9.0) -> Figure:
    """Show what two models make of the same clicks: truth, before and after, a row for each picture.

    Args:
        comparisons: of `sam2kit.evaluation.side_by_side.compare`.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is none.
    """
    if not comparisons:
        raise ValueError("there is no comparison to show; give at least one")
    figure, axes = panels([c.image.shape for c in comparisons for _ in range(3)], 3, width)
    for row, shown in enumerate(comparisons):
        truth, before, after = axes[3 * row : 3 * row + 3]
        truth.imshow(draw_masks(shown.image, shown.truths, range(len(shown.truths))))
        truth.set_title(f"{shown.name}: truth")
        for axis, clicked, name, iou in (
            (before, shown.before, "before", shown.mean_before),
            (after, shown.after, "after", shown.mean_after),
        ):
            axis.imshow(draw_masks(shown.image, [c.mask for c in clicked], range(len(clicked))))
            _mark(axis, [(*c.point_xy, 1) for c in clicked if shown.clicked_here])
            axis.set_title(f"{name}: IoU {iou:.2f}")
    return figure


def _mark(axis: Axes, points: Points) -> None:
    """Clicks as dots: green with a plus, or red with a minus."""
    for x, y, label in points:
        axis.plot(x, y, "o", color=POSITIVE if label else NEGATIVE, markeredgecolor="white", markersize=11)
        axis.plot(x, y, "+" if label else "_", color="white", markersize=6, markeredgewidth=1.5)


def _lines_over(image: np.ndarray, line: np.ndarray, band: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the picture in pale grey, the band yellow, and the line blue within and vermilion outside it."""
    grey = np.repeat(160 + image.mean(axis=2, keepdims=True) / 3, 3, axis=2).clip(0, 255).astype(np.uint8)
    for pixels, number in ((band, _MISSED), (line & band, 5), (line & ~band, _EXTRA)):
        grey[pixels] = colour_of(number)
    return grey


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rectangle of a mask and a margin, within the picture."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.s_[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]
