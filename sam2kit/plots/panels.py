"""Panels for pictures: axes without frames, in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 60
_TITLE = 0.32  # inches


def panels(
    sizes_hw: Sequence[tuple[int, ...]], columns: int, width: float, *, below: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for every picture, in rows that are as high as their highest one.

    The figure is closed for pyplot: a notebook shows what a cell returns, and would draw an open one a second time.

    Args:
        sizes_hw: height and width of each picture; more than these two are ignored.
        columns: panels side by side, at most.
        width: of the figure, in inches.
        below: inches to leave free below, for a legend.
    """
    from matplotlib import pyplot

    columns = min(columns, len(sizes_hw))
    slopes = [height / width for height, width, *_ in sizes_hw]
    highest = [max(slopes[i : i + columns]) for i in range(0, len(slopes), columns)]
    height = sum(width / columns * slope + _TITLE for slope in highest) + below
    figure, axes = pyplot.subplots(
        len(highest),
        columns,
        figsize=(width, height),
        dpi=_DPI,
        squeeze=False,
        layout="constrained",
        height_ratios=highest,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    pyplot.close(figure)
    return figure, list(axes.flat)[: len(sizes_hw)]
