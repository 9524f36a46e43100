"""Scores as figures: curves over clicks, frames or epochs; predicted against actual IoU; means with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.evaluation.pictures import calibration
from sam2kit.evaluation.rows import ObjectRow, Summary, bootstrap_interval
from sam2kit.media.drawing import PALETTE
from sam2kit.plots.panels import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE = PALETTE[5], PALETTE[1]
_GREY = "#666666"
_DPI = 80


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
        width: of the figure, in inches.
    Raises:
        ValueError: if there is no curve, or there is no mean because the curves differ in length.
    """
    lengths = {name: len(scores) for name, scores in curves.items()}
    if not lengths:
        raise ValueError("there is no curve to draw; give at least one name with its scores")
    if mean and len(set(lengths.values())) > 1:
        raise ValueError(f"a mean needs curves of the same length, got {lengths}; cut them, or draw them without mean")
    figure, plot = new_figure((width, width / 2), _DPI)
    for number, (name, scores) in enumerate(curves.items()):
        style = {"color": _GREY, "alpha": 0.35, "linewidth": 1} if mean else {"color": PALETTE[number % len(PALETTE)]}
        steps = range(first, first + len(scores))
        plot.plot(steps, scores, marker="." if len(scores) < 20 else None, label=None if mean else name, **style)
    if mean:
        _draw_mean(plot, np.array(list(curves.values()), np.float64), first)
    for level in levels:
        plot.axhline(level, color=_GREY, linestyle=":", linewidth=1)
        plot.annotate(f"{level:g}", (1, level), (-4, 2), ("axes fraction", "data"), "offset points", ha="right")
    plot.set(xlabel=axes[0], ylabel=axes[1], ylim=(0, 1.02))
    plot.locator_params(axis="x", integer=True)
    plot.grid(alpha=0.25)
    plot.legend(loc="lower right", fontsize="small")
    return figure


def _draw_mean(plot: Axes, scores: np.ndarray, first: int) -> None:
    """The mean of [N, L] curves, and where it would lie if other objects had been drawn."""
    steps = np.arange(first, first + scores.shape[1])
    low, high = np.array([bootstrap_interval(column) for column in scores.T]).T
    plot.fill_between(steps, low, high, color=_BLUE, alpha=0.2, linewidth=0, label="its 95 % interval")
    plot.plot(steps, scores.mean(axis=0), color=_BLUE, linewidth=2.5, marker="o", label=f"mean of {len(scores)}")


def show_calibration(rows: Sequence[ObjectRow], bins: int = 5, *, width: float = 5.0) -> Figure:
    """Draw the IoU that the model predicts for its first masks against the IoU that they have.

    Args:
        rows: of `sam2kit.evaluation.pictures.picture_rows`.
        bins: equal ranges of the prediction, each with its mean.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("there is no object whose predicted IoU could be drawn; give rows of picture_rows")
    figure, plot = new_figure((width, width), _DPI)
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
        summaries: name -> what `sam2kit.evaluation.rows.summarise` says of a measure.
        label: what is measured.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is none.
    """
    if not summaries:
        raise ValueError("there is no mean to draw; give at least one summary")
    height = 0.35 * len(summaries) + 0.8
    figure, plot = new_figure((width, height), _DPI)
    for place, summary in enumerate(summaries.values()):
        around = [[summary.mean - summary.low], [summary.high - summary.mean]]
        plot.errorbar(summary.mean, place, xerr=around, color=_BLUE, marker="o", capsize=4, linewidth=2)
    names = [f"{name} ({summary.objects})" for name, summary in summaries.items()]
    plot.set_yticks(range(len(names)), names)
    plot.set(xlabel=label, xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))  # the first on top
    plot.grid(alpha=0.25, axis="x")
    return figure
