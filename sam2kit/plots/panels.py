"""What all figures share: panels for pictures in rows and columns, plots, and checks of what is to be shown."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 60
_TITLE = 0.32  # inches


def as_array(values: ArrayLike | Tensor) -> np.ndarray:
    """Numbers as an array, from whichever device and in whichever precision they come."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    return (values.detach().float() if values.is_floating_point() else values).cpu().numpy()


def check_counts(what: str, wanted: int, **given: Sized | None) -> None:
    """Raises ValueError if there is nothing to show, or there is not one of everything that was given for each."""
    if not wanted:
        raise ValueError(f"there are no {what} to show; give at least one")
    for name, values in given.items():
        if values is not None and len(values) != wanted:
            raise ValueError(f"{wanted} {what} want as many {name}, got {len(values)}")


def new_figure(size: tuple[float, float], dpi: int = 80) -> tuple[Figure, Axes]:
    """A figure with one plot.

    It is closed for pyplot: a notebook shows what a cell returns, and would draw an open one a second time.

    Args:
        size: width and height, in inches.
        dpi: dots per inch.
    """
    from matplotlib import pyplot

    figure, plot = pyplot.subplots(figsize=size, dpi=dpi, layout="constrained")
    pyplot.close(figure)
    return figure, plot


def panels(
    sizes_hw: Sequence[tuple[int, ...]], columns: int, width: float, *, below: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for every picture, in rows that are as high as their highest one; closed like `new_figure`.

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
