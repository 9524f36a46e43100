"""Maps of numbers as pictures: feature maps in colours, attention over photos, and what a frame recalls.

Colours of features come from principal components: three mixtures of channels in which the map varies most, shown as
red, green and blue. Places with the same colour look alike to the network; the colours have no other meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.media.drawing import PALETTE
from sam2kit.model.memory_bank import Recollection
from sam2kit.predict.inside import BlockReach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_DPI = 60
_SPREAD = (1.0, 99.0)  # percentiles of a component that become black and full colour
_FLAT = 1e-6  # a component with a smaller share of the largest deviation is noise


def principal_colours(maps: ArrayLike | Tensor) -> np.ndarray:
    """Feature maps as pictures, by their three strongest principal components.

    Args:
        maps: [C, h, w], or [N, C, h, w] for N maps in the same colours.
    Returns:
        uint8 [h, w, 3] or [N, h, w, 3]. The same on every machine: of the two directions that a component has, the one
        is taken in which its largest weight is positive.
    Raises:
        ValueError: if the shape is neither.
    """
    values = _array(maps).astype(np.float64)
    if values.ndim not in (3, 4):
        raise ValueError(f"maps must be [C, h, w] or [N, C, h, w], got {list(values.shape)}")
    places = np.moveaxis(values, -3, -1)  # [..., h, w, C]
    cells = places.reshape(-1, places.shape[-1])
    cells = cells - cells.mean(axis=0)
    strength, directions = np.linalg.eigh(cells.T @ cells)  # ascending
    strength, directions = strength[::-1][:3], directions[:, ::-1][:, :3]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    components = cells @ (directions * np.sign(largest))
    colours = np.full((len(cells), 3), 127, np.uint8)
    for i in np.flatnonzero(strength > _FLAT**2 * max(strength[0], np.finfo(float).tiny)):
        low, high = np.percentile(components[:, i], _SPREAD)
        unit = (components[:, i] - low) / max(high - low, np.finfo(float).tiny)
        colours[:, i] = np.round(255 * unit.clip(0, 1))
    return colours.reshape(*places.shape[:-1], 3)


def show_maps(
    maps: Sequence[ArrayLike | Tensor],
    titles: Sequence[str] | None = None,
    *,
    over: np.ndarray | Sequence[np.ndarray] | None = None,
    points: Sequence[tuple[float, float] | None] = (),
    shared: bool = False,
    columns: int | None = None,
    width: float = 10.0,
) -> Figure:
    """Show maps side by side: numbers as heat, pictures as they are.

    Args:
        maps: [h, w] numbers or uint8 [h, w, 3] pictures.
        titles: one per map.
        over: a picture uint8 [H, W, 3], or one per map: heat is laid over it, and is clear where it is low.
        points: one (x, y) per map to mark, or None, in pixels of the picture (without one, of the map).
        shared: one colour scale for all heat maps, with a bar; else each goes from its own smallest to largest number.
        columns: panels per row; all in one row by default.
        width: of the figure, in inches.
    Raises:
        ValueError: if the numbers of maps, titles, pictures and points differ.
    """
    from matplotlib import pyplot

    arrays = [_array(m) for m in maps]
    grounds = list(over) if isinstance(over, Sequence) else [over] * len(arrays)
    for name, given in (("titles", titles), ("pictures", grounds), ("points", points)):
        if given and len(given) != len(arrays):
            raise ValueError(f"{len(arrays)} maps need as many {name}, got {len(given)}")
    columns = min(columns or len(arrays), len(arrays))
    rows = -(-len(arrays) // columns)
    shown = [m if g is None else g for m, g in zip(arrays, grounds, strict=True)]
    panel = width / columns * max(s.shape[0] / s.shape[1] for s in shown)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width, rows * (panel + 0.3)), dpi=_DPI, squeeze=False, layout="constrained"
    )
    scales = _scales(arrays, shared)
    for i, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if i < len(arrays):
            _draw_map(axis, arrays[i], grounds[i], scales[i])
            axis.set_title(titles[i] if titles else "")
            if points and points[i] is not None:
                axis.plot(*points[i], "+", color="white", markersize=15, markeredgewidth=5)
                axis.plot(*points[i], "+", color="black", markersize=14, markeredgewidth=2)
    heat = next((s for s in scales if s is not None), None)
    if shared and heat is not None:
        from matplotlib.cm import ScalarMappable

        figure.colorbar(ScalarMappable(heat, "viridis"), ax=list(axes.flat), fraction=0.02, pad=0.01)
    pyplot.close(figure)  # a notebook shows what a cell returns; a second copy would be drawn otherwise
    return figure


def _scales(arrays: Sequence[np.ndarray], shared: bool) -> list[Normalize | None]:
    """The colour scale of every map; None for pictures."""
    from matplotlib.colors import Normalize

    heats = [a for a in arrays if a.ndim == 2]
    if shared and heats:
        one = Normalize(min(h.min() for h in heats), max(h.max() for h in heats))
        return [one if a.ndim == 2 else None for a in arrays]
    return [Normalize(a.min(), a.max()) if a.ndim == 2 else None for a in arrays]


def _draw_map(axis: Axes, values: np.ndarray, ground: np.ndarray | None, scale: Normalize | None) -> None:
    if scale is None:
        axis.imshow(values)
        return
    if ground is None:
        axis.imshow(values, cmap="viridis", norm=scale)
        return
    height, width = ground.shape[:2]
    grey = ground.mean(axis=2) if ground.ndim == 3 else ground
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axis.imshow(
        values,
        cmap="viridis",
        norm=scale,
        alpha=0.25 + 0.6 * np.asarray(scale(values), float),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )


def show_reach(reaches: Sequence[BlockReach], square: np.ndarray, *, width: float = 10.0) -> Figure:
    """Draw how far every block of the image encoder sees: windows over the picture, and one bar per block.

    Args:
        reaches: of a model, from `block_reaches`.
        square: uint8 [S, S, 3] the picture in the model's square.
    """
    from matplotlib import pyplot

    kinds = list({(r.stride, r.reach, r.is_global): r for r in reaches}.values())
    figure = pyplot.figure(figsize=(width, width / len(kinds) + 3.0), dpi=_DPI, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(width / len(kinds) + 0.3, 2.7))
    for axis, kind in zip(np.atleast_1d(above.subplots(1, len(kinds))), kinds, strict=True):
        alike = [r.block for r in reaches if (r.stride, r.reach, r.is_global) == (kind.stride, kind.reach, kind.is_global)]
        axis.set_title("block" + "s" * (len(alike) > 1) + " " + ", ".join(map(str, alike)))
        _draw_windows(axis, kind, square)
    axis = below.subplots()
    colours = [PALETTE[r.stage - 1] for r in reaches]
    axis.bar([r.block for r in reaches], [r.reach for r in reaches], color=colours, edgecolor="black")
    axis.axhline(square.shape[0], color="black", linestyle=":")
    axis.set(xlabel="block", ylabel="edge of what it sees, pixels", xticks=[r.block for r in reaches])
    for stage in sorted({r.stage for r in reaches}):
        axis.bar([0], [0], color=PALETTE[stage - 1], label=f"stage {stage}")
    axis.legend()
    pyplot.close(figure)
    return figure


def _draw_windows(axis: Axes, kind: BlockReach, square: np.ndarray) -> None:
    """The windows of a block over the picture, and what the middle place sees."""
    from matplotlib.patches import Rectangle

    side = square.shape[0]
    axis.imshow(square, extent=(0, side, side, 0))
    axis.set(xlim=(0, side), ylim=(side, 0), xticks=[], yticks=[])
    for edge in range(kind.reach, side, kind.reach):
        axis.axhline(edge, color="white", linewidth=1)
        axis.axvline(edge, color="white", linewidth=1)
    start = (side // 2) // kind.reach * kind.reach
    axis.add_patch(
        Rectangle((start, start), kind.reach, kind.reach, facecolor="none", edgecolor=PALETTE[4], linewidth=4)
    )


def _array(values: ArrayLike | Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
