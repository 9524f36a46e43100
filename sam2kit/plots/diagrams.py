"""Diagrams of how SAM 2 is wired: how far the encoder's blocks see, and which frames a frame recalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.media.drawing import PALETTE
from sam2kit.model.memory_bank import Recollection
from sam2kit.plots.panels import new_figure
from sam2kit.predict.inside import BlockReach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 60
_PROMPTED, _LATEST, _POINTER, _WINDOW = PALETTE[1], PALETTE[0], PALETTE[2], PALETTE[4]


def show_reach(reaches: Sequence[BlockReach], square: np.ndarray, *, width: float = 10.0) -> Figure:
    """Draw how far the blocks of the image encoder see: their windows over a picture, and a bar for each.

    Args:
        reaches: of a model, from `sam2kit.predict.inside.block_reaches`.
        square: uint8 [S, S, 3] a picture in the model's square, at its side.
        width: of the figure, in inches.
    """
    from matplotlib import pyplot

    kinds = sorted({r.reach for r in reaches})
    shares = [1.0] * len(kinds) + [4.0 - len(kinds) if len(kinds) < 3 else 1.6]
    height = width / sum(shares) + 0.4
    figure, axes = pyplot.subplots(
        1, len(shares), figsize=(width, height), dpi=_DPI, width_ratios=shares, layout="constrained"
    )
    for axis, reach in zip(axes, kinds, strict=False):
        _draw_windows(axis, reach, square)
        axis.set_title("blocks " + _ranges([r.block for r in reaches if r.reach == reach]))
    _draw_bars(axes[-1], reaches, square.shape[0])
    pyplot.close(figure)  # a notebook shows what a cell returns; a second copy would be drawn otherwise
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


def _draw_bars(axis: Axes, reaches: Sequence[BlockReach], side: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for stage in sorted({r.stage for r in reaches}):
        mine = [r for r in reaches if r.stage == stage]
        blocks, edges = [r.block for r in mine], [r.reach for r in mine]
        axis.bar(blocks, edges, color=PALETTE[stage - 1], edgecolor="black", label=f"stage {stage}")
    axis.axhline(side, color="black", linestyle=":")
    axis.set(xlabel="block", title="edge of what a place sees, in pixels")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="upper left")


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0–2, 5"."""
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(numbers), start=1) if b > a + 1), len(numbers)]
    runs = [numbers[a:b] for a, b in pairwise(breaks)]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def show_recollections(recalled: Mapping[int, Recollection], *, slots: int, width: float = 10.0) -> Figure:
    """Draw which frames some frames recall: one row for each of them, time from left to right.

    A square is a spatial memory, with its distance for the latest frames and "P" for prompted ones; a dot below it is
    an object pointer.

    Args:
        recalled: current frame -> what it recalls, from `choose_memories` or a `RecallLook`.
        slots: of the model's memory, `model.config.memory.slots`; the last one marks prompted frames.
        width: of the figure, in inches.
    Raises:
        ValueError: if nothing is to be drawn.
    """
    from matplotlib.ticker import MaxNLocator

    if not recalled:
        raise ValueError("no recollections were given")
    figure, axis = new_figure((width, 0.55 * len(recalled) + 1.3), _DPI)
    for row, (now, chosen) in enumerate(recalled.items()):
        _draw_row(axis, row, now, chosen, slots)
    frames = [f for now, c in recalled.items() for f in (now, *(f for f, _ in (*c.maps, *c.pointers)))]
    axis.set(xlim=(min(frames) - 1, max(frames) + 1), ylim=(len(recalled) - 0.4, -0.6), xlabel="frame")
    axis.set_yticks(range(len(recalled)), [f"frame {now} recalls" for now in recalled])
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    kinds = (("s", _PROMPTED, "memory of a prompted frame"), ("s", _LATEST, "memory of a latest frame"))
    for marker, colour, kind in (*kinds, ("o", _POINTER, "object pointer")):
        axis.plot([], [], marker, color=colour, label=kind)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_row(axis: Axes, row: int, now: int, chosen: Recollection, slots: int) -> None:
    axis.axhline(row + 0.58, color="lightgrey", linewidth=1)
    axis.text(now, row, "now", ha="center", va="center", color="white", backgroundcolor="black", fontsize=8)
    for frame, slot in chosen.maps:
        prompted = slot == slots - 1
        axis.plot([frame], [row], "s", color=_PROMPTED if prompted else _LATEST, markersize=15)
        axis.text(frame, row, "P" if prompted else str(slot + 1), ha="center", va="center", fontsize=9)
    pointed = [frame for frame, _ in chosen.pointers]
    axis.plot(pointed, [row + 0.4] * len(pointed), "o", color=_POINTER, markersize=5)
