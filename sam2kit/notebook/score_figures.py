"""Figures of scores: masks against the truth, two models side by side, curves, calibration, means with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam2kit.evaluation.clicks import calibration
from sam2kit.evaluation.metrics import boundary, boundary_accuracy, boundary_reach, rectangle_around
from sam2kit.evaluation.reports import ObjectRow, Summary, bootstrap_interval
from sam2kit.evaluation.semi_supervised import Comparison
from sam2kit.media.drawing import NEGATIVE, PALETTE, POSITIVE, colour_of, draw_masks
from sam2kit.notebook.figures import check_counts, new_figure, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HIT, _MISSED, _EXTRA = 0, 4, 6  # blue, yellow and vermilion of the palette
_LEGEND = {"both": PALETTE[_HIT], "missed: truth only": PALETTE[_MISSED], "extra: mask only": PALETTE[_EXTRA]}
_MARGIN = 6  # pixels around what a boundary is shown of
_BLUE, _ORANGE, _GREY = PALETTE[5], PALETTE[1], "#666666"

Points = Sequence[tuple[float, float, int]]  # x, y, label


def show_overlap(
    images: np.ndarray,
    truths: np.ndarray,
    masks: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    points: Sequence[Points] | None = None,
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
    """
    found, truths = np.asarray(masks, bool), np.asarray(truths, bool)
    if found.ndim != 3 or truths.shape not in (found.shape, found.shape[1:]):
        raise ValueError(f"masks must be [N, H, W] with truths of the same size, got {found.shape} and {truths.shape}")
    check_counts("masks", len(found), titles=titles, points=points)
    scenes = []
    for image, truth, mask in zip(
        np.broadcast_to(images, (*found.shape, 3)), np.broadcast_to(truths, found.shape), found, strict=True
    ):
        parts = (truth & mask, truth & ~mask, mask & ~truth)
        scenes.append(draw_masks(image, parts, (_HIT, _MISSED, _EXTRA), opacity=0.6))
    figure, axes = panels(scenes, titles, columns, width, _LEGEND)
    for axis, clicks in zip(axes, points or (), strict=False):
        _mark(axis, clicks)
    return figure


def show_boundary(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, *, width: float = 10.0) -> Figure:
    """Show what the boundary accuracy F counts: pixels of one boundary that are near the other, and those that are not.

    Left, the mask's boundary over the band around the true one; right, the true boundary over the band around the
    mask's. The bands are as wide as the tolerance.

    Args:
        image: uint8 [H, W, 3] RGB.
        truth: bool [H, W].
        mask: bool [H, W].
    """
    if not (truth.any() and mask.any()):
        raise ValueError("a boundary is shown of masks that are not empty; choose another frame")
    ours, theirs, reach = boundary(mask), boundary(truth), boundary_reach(truth.shape)
    window = rectangle_around(mask | truth, reach + _MARGIN)
    scenes, titles = [], []
    for line, other, name, share in (
        (ours, theirs, "mask's boundary", "precision"),
        (theirs, ours, "true boundary", "recall"),
    ):
        band = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach + 1e-3
        scenes.append(_lines_over(image, line, band)[window])
        titles.append(f"{name}: {(line & band).sum() / line.sum():.0%} is near ({share})")
    figure, _ = panels(scenes, titles, 2, width)
    figure.suptitle(f"F = {boundary_accuracy(mask, truth):.2f}; near is within {reach} pixels")
    return figure


def show_comparison(comparisons: Sequence[Comparison], *, width: float = 9.0) -> Figure:
    """Show what two models make of the same clicks: truth, before and after, a row for each picture.

    Args:
        comparisons: of `sam2kit.evaluation.semi_supervised.compare`.
    """
    check_counts("comparisons", len(comparisons))
    titles, scenes, points = zip(*(panel for shown in comparisons for panel in shown.panels()), strict=True)
    figure, axes = panels(scenes, titles, 3, width)
    for axis, clicked in zip(axes, points, strict=True):
        _mark(axis, [(*point, 1) for point in clicked])
    return figure


def show_curves(
    curves: Mapping[str, Sequence[float]],
    axes: tuple[str, str] = ("clicks", "IoU"),
    *,
    first: int = 1,
    levels: Sequence[float] = (),
    mean: bool = False,
    width: float = 8.0,
) -> Figure:
    """Draw how scores go: click by click, frame by frame, epoch by epoch.

    Args:
        curves: name -> scores, 0..1.
        axes: what runs along, and what is measured.
        first: number of the first score along the axis.
        levels: scores to mark, 0..1.
        mean: the curves go thin and grey behind their mean, with the 95 % interval of that.
    """
    lengths = {name: len(scores) for name, scores in curves.items()}
    check_counts("curves", len(curves))
    if mean and len(set(lengths.values())) > 1:
        raise ValueError(f"a mean needs curves of the same length, got {lengths}; cut them, or draw them without mean")
    figure, plot = new_figure((width, width / 2))
    for number, (name, scores) in enumerate(curves.items()):
        style = {"color": _GREY, "alpha": 0.35, "linewidth": 1} if mean else {"color": PALETTE[number % len(PALETTE)]}
        steps = range(first, first + len(scores))
        plot.plot(steps, scores, marker="." if len(scores) < 20 else None, label=None if mean else name, **style)
    if mean:
        stack = np.array(list(curves.values()), np.float64)
        steps = range(first, first + stack.shape[1])
        low, high = np.array([bootstrap_interval(column) for column in stack.T]).T
        plot.fill_between(steps, low, high, color=_BLUE, alpha=0.2, linewidth=0, label="its 95 % interval")
        plot.plot(steps, stack.mean(axis=0), color=_BLUE, linewidth=2.5, marker="o", label=f"mean of {len(stack)}")
    for level in levels:
        plot.axhline(level, color=_GREY, linestyle=":", linewidth=1)
        plot.annotate(f"{level:g}", (1, level), (-4, 2), ("axes fraction", "data"), "offset points", ha="right")
    plot.set(xlabel=axes[0], ylabel=axes[1], ylim=(0, 1.02))
    plot.locator_params(axis="x", integer=True)
    plot.grid(alpha=0.25)
    plot.legend(loc="lower right", fontsize="small")
    return figure


def show_calibration(rows: Sequence[ObjectRow], bins: int = 5, *, width: float = 5.0) -> Figure:
    """Draw the IoU that the model predicts for its first masks against the IoU that they have.

    Args:
        rows: of `sam2kit.evaluation.clicks.picture_rows`.
        bins: equal ranges of the prediction, each with its mean.
    """
    check_counts("rows of picture_rows", len(rows))
    figure, plot = new_figure((width, width))
    plot.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="predicted = actual")
    predicted, actual = zip(*((r.scores["predicted_iou"], r.scores["click1"]) for r in rows), strict=True)
    plot.scatter(predicted, actual, color=_BLUE, alpha=0.5, linewidths=0, label="one object")
    ranges = calibration(rows, bins)
    means = [r.predicted for r in ranges], [r.actual for r in ranges]
    plot.plot(*means, color=_ORANGE, marker="s", markersize=8, linewidth=2, label="mean of a range")
    for found in ranges:
        place = (found.predicted, found.actual)
        plot.annotate(str(found.objects), place, (7, -11), textcoords="offset points", fontsize="small", color=_GREY)
    plot.set(xlabel="predicted IoU", ylabel="actual IoU", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    plot.grid(alpha=0.25)
    plot.legend(loc="upper left", fontsize="small")
    return figure


def show_intervals(summaries: Mapping[str, Summary], label: str = "IoU", *, width: float = 8.0) -> Figure:
    """Draw means with their 95 % intervals below each other.

    Args:
        summaries: name -> what `sam2kit.evaluation.reports.summarise` says of a measure.
        label: what is measured.
    """
    check_counts("means", len(summaries))
    figure, plot = new_figure((width, 0.35 * len(summaries) + 0.8))
    for place, summary in enumerate(summaries.values()):
        around = [[summary.mean - summary.low], [summary.high - summary.mean]]
        plot.errorbar(summary.mean, place, xerr=around, color=_BLUE, marker="o", capsize=4, linewidth=2)
    names = [f"{name} ({summary.objects})" for name, summary in summaries.items()]
    plot.set_yticks(range(len(names)), names)
    plot.set(xlabel=label, xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))  # the first on top
    plot.grid(alpha=0.25, axis="x")
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
