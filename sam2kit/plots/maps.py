"""Maps of numbers as pictures: features in colours, attention over photos, likeness as a matrix.

Colours of features come from principal components: the three mixtures of channels in which the maps vary most, shown
as red, green and blue. Places of one colour look alike to the network; the colours have no other meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.plots.panels import as_array, check_counts, new_figure, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_DPI = 60
_SPREAD = (1.0, 99.0)  # percentiles of a component that become no colour and full colour
_NOISE = 1e-12  # a component with a smaller share of the largest variance is rounding
_TINY = np.finfo(np.float64).tiny


def principal_colours(maps: ArrayLike | Tensor) -> np.ndarray:
    """Feature maps as pictures, by their three strongest principal components.

    A component has no sign of its own: of its two directions, the one is taken in which its largest weight is
    positive, so that the colours are the same on every machine.

    Args:
        maps: [C, h, w], or [N, C, h, w] for N maps in the same colours.
    Returns:
        uint8 [h, w, 3] or [N, h, w, 3].
    Raises:
        ValueError: if the shape is neither.
    """
    values = as_array(maps).astype(np.float64)
    if values.ndim not in (3, 4):
        raise ValueError(f"maps must be [C, h, w] or [N, C, h, w], got {list(values.shape)}")
    places = np.moveaxis(values, -3, -1)  # [..., h, w, C]
    cells = places.reshape(-1, places.shape[-1])
    cells = cells - cells.mean(axis=0)
    variance, directions = np.linalg.eigh(cells.T @ cells)  # the strongest comes last
    variance, directions = variance[::-1][:3], directions[:, ::-1][:, :3]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    components = cells @ (directions * np.sign(largest))
    colours = np.full((len(cells), 3), 127, np.uint8)
    for i in np.flatnonzero(variance > _NOISE * max(variance[0], _TINY)):
        low, high = np.percentile(components[:, i], _SPREAD)
        colours[:, i] = np.round(255 * ((components[:, i] - low) / max(high - low, _TINY)).clip(0, 1))
    return colours.reshape(*places.shape[:-1], 3)


def show_maps(
    maps: Sequence[ArrayLike] | Tensor,
    titles: Sequence[str] | None = None,
    *,
    over: np.ndarray | Sequence[np.ndarray | None] | None = None,
    points: Sequence[tuple[float, float] | None] | None = None,
    shared: bool = False,
    columns: int | None = None,
    width: float = 10.0,
) -> Figure:
    """Show maps side by side: numbers as heat, pictures as they are.

    Args:
        maps: [h, w] numbers or uint8 [h, w, 3] pictures.
        titles: one per map.
        over: a picture uint8 [H, W, 3], or one (or None) per map: heat is laid over it in grey, clear where it is low.
        points: one (x, y) per map to mark, or None, in pixels of the picture (where there is none, of the map).
        shared: one colour scale for all heat, with a bar; else each map goes from its own smallest to largest number.
        columns: panels per row; all in one row by default.
        width: of the figure, in inches.
    Raises:
        ValueError: if there are no maps, one is neither numbers nor a picture, or the counts differ.
    """
    arrays = [_checked(m) for m in maps]
    grounds = [over] * len(arrays) if over is None or isinstance(over, np.ndarray) else list(over)
    marks = [None] * len(arrays) if points is None else list(points)
    names = [""] * len(arrays) if titles is None else list(titles)
    check_counts("maps", len(arrays), titles=names, pictures=grounds, points=marks)
    sizes = [(a if g is None else g).shape for a, g in zip(arrays, grounds, strict=True)]
    figure, axes = panels(sizes, columns or len(arrays), width)
    scales = _scales(arrays, shared)
    for axis, array, ground, scale, mark, name in zip(axes, arrays, grounds, scales, marks, names, strict=True):
        _draw(axis, array, ground, scale)
        axis.set_title(name)
        if mark is not None:
            axis.plot(*mark, "+", color="white", markersize=13, markeredgewidth=4)
            axis.plot(*mark, "+", color="black", markersize=12, markeredgewidth=1.5)
    heat = next((s for s in scales if s is not None), None)
    if shared and heat is not None:
        _colour_bar(figure, figure.axes, heat)
    return figure


def show_matrix(
    matrix: ArrayLike | Tensor, groups: Mapping[str, int], title: str = "", *, width: float = 5.0
) -> Figure:
    """Show how each thing of several groups relates to each other one, such as cosines between vectors.

    Args:
        matrix: [N, N] numbers.
        groups: name -> how many rows (and columns) belong to it, in their order.
        title: says what the numbers are.
        width: of the figure, in inches.
    Raises:
        ValueError: if the matrix is not square, or the groups do not fill it.
    """
    values = as_array(matrix)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or sum(groups.values()) != len(values):
        wanted = f"groups of {sum(groups.values())} rows want as many rows and columns"
        raise ValueError(f"the matrix must be square and filled by its groups; {wanted}, got {list(values.shape)}")
    figure, axis = new_figure((width, 0.85 * width), _DPI)
    image = axis.imshow(values, cmap="viridis")
    ends = np.cumsum(list(groups.values()))
    for end in ends[:-1]:
        axis.axhline(end - 0.5, color="white", linewidth=2)
        axis.axvline(end - 0.5, color="white", linewidth=2)
    middles = ends - np.array(list(groups.values())) / 2 - 0.5
    axis.set_xticks(middles, list(groups))
    axis.set_yticks(middles, list(groups), rotation=90, va="center")
    axis.tick_params(length=0)
    axis.set_title(title)
    figure.colorbar(image, fraction=0.05, pad=0.02)
    return figure


def _checked(values: ArrayLike | Tensor) -> np.ndarray:
    """A map as [h, w] numbers or uint8 [h, w, 3]."""
    array = as_array(values)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8):
        raise ValueError(
            f"a map must be [h, w] numbers or a uint8 [h, w, 3] picture, got {array.dtype} {list(array.shape)}; "
            "principal_colours makes pictures of [C, h, w]"
        )
    return array


def _scales(arrays: Sequence[np.ndarray], shared: bool) -> list[Normalize | None]:
    """The colour scale of every map; None for pictures."""
    from matplotlib.colors import Normalize

    heats = [a for a in arrays if a.ndim == 2]
    if shared and heats:
        common = Normalize(min(h.min() for h in heats), max(h.max() for h in heats))
        return [common if a.ndim == 2 else None for a in arrays]
    return [Normalize(a.min(), a.max()) if a.ndim == 2 else None for a in arrays]


def _draw(axis: Axes, values: np.ndarray, ground: np.ndarray | None, scale: Normalize | None) -> None:
    if scale is None:
        axis.imshow(values)
    elif ground is None:
        axis.imshow(values, cmap="viridis", norm=scale)
    else:
        height, width = ground.shape[:2]
        whole = (-0.5, width - 0.5, height - 0.5, -0.5)
        axis.imshow(ground.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        alpha = 0.1 + 0.75 * np.ma.getdata(scale(values)).astype(np.float64)
        axis.imshow(values, cmap="viridis", norm=scale, alpha=alpha, extent=whole, interpolation="nearest")


def _colour_bar(figure: Figure, axes: Sequence[Axes], scale: Normalize) -> None:
    from matplotlib.cm import ScalarMappable

    figure.colorbar(ScalarMappable(scale, "viridis"), ax=list(axes), fraction=0.03, pad=0.01)
