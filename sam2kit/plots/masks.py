"""Masks over photos: of one photo side by side, of many on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.plots.panels import as_array, check_counts, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show_masks(
    image: np.ndarray,
    masks: Sequence[ArrayLike] | Tensor,
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
        masks: bool [H, W] each, arrays or tensors of any device.
        titles: one per panel.
        points: clicks (x, y, label) to mark in every panel.
        box_xyxy: a box to draw in every panel.
        together: all masks in one panel, each in its own colour.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is no mask, or not a title for each panel.
    """
    arrays = [as_array(mask) for mask in masks]
    check_counts("masks", len(arrays))
    shown = [(arrays, range(len(arrays)))] if together else [([mask], [0]) for mask in arrays]
    check_counts("panels", len(shown), titles=titles)
    figure, axes = panels([image.shape] * len(shown), len(shown), width)
    for i, (axis, (drawn, numbers)) in enumerate(zip(axes, shown, strict=True)):
        axis.imshow(draw_prompts(draw_masks(image, drawn, numbers), points, box_xyxy))
        if titles:
            axis.set_title(titles[i])
    return figure


def show_sheet(
    pictures: Sequence[np.ndarray],
    masks: Sequence[Sequence[ArrayLike] | Tensor] | None = None,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 4,
    width: float = 10.0,
) -> Figure:
    """Show many pictures with their masks: a contact sheet.

    Args:
        pictures: uint8 [H, W, 3] RGB each, of any sizes.
        masks: for each picture, its masks bool [H, W], arrays or tensors; None shows the pictures alone.
        titles: one per picture.
        columns: pictures side by side, at most.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is no picture, or the counts differ.
    """
    check_counts("pictures", len(pictures), masks=masks, titles=titles)
    drawn, names = [[]] * len(pictures) if masks is None else masks, [""] * len(pictures) if titles is None else titles
    figure, axes = panels([picture.shape for picture in pictures], columns, width)
    for axis, picture, found, name in zip(axes, pictures, drawn, names, strict=True):
        axis.imshow(draw_masks(picture, map(as_array, found), range(len(found))))
        axis.set_title(name)
    return figure
