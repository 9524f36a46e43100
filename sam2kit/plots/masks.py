"""Masks over photos, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.media.drawing import draw_masks, draw_prompts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show_masks(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    points: Sequence[tuple[float, float, int]] = (),
    box_xyxy: Sequence[float] | None = None,
    together: bool = False,
    width: float = 10.0,
) -> Figure:
    """Show masks over a picture, one panel each.

    Args:
        image: uint8 [H, W, 3] RGB.
        masks: bool [H, W] each.
        titles: one per panel.
        points: clicks (x, y, label) to mark in every panel.
        box_xyxy: a box to draw in every panel.
        together: all masks in one panel, each in its own colour.
        width: of the figure, in inches.
    """
    from matplotlib import pyplot

    panels = [(list(masks), range(len(masks)))] if together else [([mask], [0]) for mask in masks]
    height = width * image.shape[0] / image.shape[1] / len(panels)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(width, height + 0.4), dpi=60, squeeze=False, layout="constrained"
    )
    for i, (axis, (shown, numbers)) in enumerate(zip(axes[0], panels, strict=True)):
        axis.imshow(draw_prompts(draw_masks(image, shown, list(numbers)), points, box_xyxy))
        axis.set_axis_off()
        if titles:
            axis.set_title(titles[i])
    pyplot.close(figure)  # a notebook shows what a cell returns; a second copy would be drawn otherwise
    return figure
