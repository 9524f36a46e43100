"""How SAM 2 works, in figures: feature maps in colours, attention over photos, likeness, which frames are recalled.

Colours of features come from principal components: the three mixtures of channels in which the maps vary most, shown
as red, green and blue. Places of one colour look alike to the network; the colours have no other meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.media.drawing import PALETTE
from sam2kit.model.memory_bank import SelectedMemories
from sam2kit.notebook.activations import BlockReach
from sam2kit.notebook.figures import DPI, as_array, check_counts, new_figure, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PROMPTED, _LATEST, _POINTER, _WINDOW = PALETTE[1], PALETTE[0], PALETTE[2], PALETTE[4]
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
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    arrays = [_checked(m) for m in maps]
    grounds = [over] * len(arrays) if over is None or isinstance(over, np.ndarray) else list(over)
    marks = [None] * len(arrays) if points is None else list(points)
    check_counts("maps", len(arrays), titles=titles, pictures=grounds, points=marks)
    pairs = zip(arrays, grounds, strict=True)
    below = [array if ground is None or array.ndim == 3 else ground.mean(axis=2) for array, ground in pairs]
    figure, axes = panels(below, titles, columns or len(arrays), width)
    heats = [array for array in arrays if array.ndim == 2]
    common = Normalize(min(h.min() for h in heats), max(h.max() for h in heats)) if shared and heats else None
    for axis, array, ground, mark in zip(axes, arrays, below, marks, strict=True):
        if array.ndim == 2:
            _draw_heat(axis, array, None if ground is array else ground, common or Normalize(array.min(), array.max()))
        if mark is not None:
            for colour, size, edge in (("white", 13, 4), ("black", 12, 1.5)):
                axis.plot(*mark, "+", color=colour, markersize=size, markeredgewidth=edge)
    if common is not None:
        figure.colorbar(ScalarMappable(common, "viridis"), ax=figure.axes, fraction=0.03, pad=0.01)
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


def _draw_heat(axis: Axes, values: np.ndarray, grey: np.ndarray | None, scale: Any) -> None:
    """Numbers alone, or over a grey picture [H, W]."""
    if grey is None:
        axis.imshow(values, cmap="viridis", norm=scale)
        return
    height, width = grey.shape
    whole = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
    alpha = 0.1 + 0.75 * np.ma.getdata(scale(values)).astype(np.float64)
    axis.imshow(values, cmap="viridis", norm=scale, alpha=alpha, extent=whole, interpolation="nearest")


def show_matrix(
    matrix: ArrayLike | Tensor, groups: Mapping[str, int], title: str = "", *, width: float = 5.0
) -> Figure:
    """Show how each thing of several groups relates to each other one, such as cosines between vectors.

    Args:
        matrix: [N, N] numbers.
        groups: name -> how many rows (and columns) belong to it, in their order.
        title: says what the numbers are.
    """
    values, counts = as_array(matrix), np.array(list(groups.values()))
    if values.shape != (counts.sum(), counts.sum()):
        wanted = f"groups of {counts.sum()} rows want as many rows and columns"
        raise ValueError(f"the matrix must be square and filled by its groups; {wanted}, got {list(values.shape)}")
    figure, axis = new_figure((width, 0.85 * width), DPI)
    image = axis.imshow(values, cmap="viridis")
    ends = np.cumsum(counts)
    for end in ends[:-1]:
        axis.axhline(end - 0.5, color="white", linewidth=2)
        axis.axvline(end - 0.5, color="white", linewidth=2)
    middles = ends - counts / 2 - 0.5
    axis.set_xticks(middles, list(groups))
    axis.set_yticks(middles, list(groups), rotation=90, va="center")
    axis.tick_params(length=0)
    axis.set_title(title)
    figure.colorbar(image, fraction=0.05, pad=0.02)
    return figure


def show_reach(reaches: Sequence[BlockReach], square: np.ndarray, *, width: float = 10.0) -> Figure:
    """Draw how far the blocks of the image encoder see: their windows over a picture, and a bar for each.

    Args:
        reaches: of a model, from `sam2kit.notebook.activations.block_reaches`.
        square: uint8 [S, S, 3] a picture in the model's square, at its side.
    """
    from matplotlib.ticker import MaxNLocator

    kinds = sorted({r.reach for r in reaches})
    shares = [1.0] * len(kinds) + [4.0 - len(kinds) if len(kinds) < 3 else 1.6]
    size = (width, width / sum(shares) + 0.4)
    figure, axes = new_figure(size, DPI, nrows=1, ncols=len(shares), width_ratios=shares)
    for axis, reach in zip(axes, kinds, strict=False):
        _draw_windows(axis, reach, square)
        axis.set_title("blocks " + _ranges([r.block for r in reaches if r.reach == reach]))
    bars = axes[-1]
    for stage in sorted({r.stage for r in reaches}):
        mine = [r for r in reaches if r.stage == stage]
        blocks, edges = [r.block for r in mine], [r.reach for r in mine]
        bars.bar(blocks, edges, color=PALETTE[stage - 1], edgecolor="black", label=f"stage {stage}")
    bars.axhline(square.shape[0], color="black", linestyle=":")
    bars.set(xlabel="block", title="edge of what a place sees, in pixels")
    bars.xaxis.set_major_locator(MaxNLocator(integer=True))
    bars.legend(loc="upper left")
    return figure


def _draw_windows(axis: Axes, reach: int, square: np.ndarray) -> None:
    """Windows of an edge of `reach` pixels, and the one of the middle place."""
    from matplotlib.patches import Rectangle

    side = square.shape[0]
    axis.imshow(square, extent=(0, side, side, 0))
    axis.set(xlim=(0, side), ylim=(side, 0), xticks=[], yticks=[])
    for edge in range(reach, side, reach):
        axis.axhline(edge, color="white", linewidth=1)
        axis.axvline(edge, color="white", linewidth=1)
    start = side // 2 // reach * reach
    axis.add_patch(Rectangle((start, start), reach, reach, facecolor="none", edgecolor=_WINDOW, linewidth=4))


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0–2, 5"."""
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(numbers), start=1) if b > a + 1), len(numbers)]
    runs = [numbers[a:b] for a, b in pairwise(breaks)]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def show_selected_memories(selected: Mapping[int, SelectedMemories], *, slots: int, width: float = 10.0) -> Figure:
    """Draw the memories selected for some frames: one row for each of them, time from left to right.

    A square is a spatial memory, with its distance for the latest frames and "P" for prompted ones; a dot below it is
    an object pointer.

    Args:
        selected: current frame -> its memories, from `choose_memories` or `MemoryAttentionMaps.selected`.
        slots: of the model's memory, `model.config.memory.slots`; the last one marks prompted frames.
    """
    from matplotlib.ticker import MaxNLocator

    check_counts("selected memories", len(selected))
    figure, axis = new_figure((width, 0.55 * len(selected) + 1.3), DPI)
    for row, (now, chosen) in enumerate(selected.items()):
        axis.axhline(row + 0.58, color="lightgrey", linewidth=1)
        axis.text(now, row, "now", ha="center", va="center", color="white", backgroundcolor="black", fontsize=8)
        for frame, slot in chosen.maps:
            prompted = slot == slots - 1
            axis.plot([frame], [row], "s", color=_PROMPTED if prompted else _LATEST, markersize=15)
            axis.text(frame, row, "P" if prompted else str(slot + 1), ha="center", va="center", fontsize=9)
        pointed = [frame for frame, _ in chosen.pointers]
        axis.plot(pointed, [row + 0.4] * len(pointed), "o", color=_POINTER, markersize=5)
    frames = [f for now, c in selected.items() for f in (now, *(f for f, _ in (*c.maps, *c.pointers)))]
    axis.set(xlim=(min(frames) - 1, max(frames) + 1), ylim=(len(selected) - 0.4, -0.6), xlabel="frame")
    axis.set_yticks(range(len(selected)), [f"frame {now} uses" for now in selected])
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    kinds = (("s", _PROMPTED, "memory of a prompted frame"), ("s", _LATEST, "memory of a latest frame"))
    for marker, colour, kind in (*kinds, ("o", _POINTER, "object pointer")):
        axis.plot([], [], marker, color=colour, label=kind)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure
