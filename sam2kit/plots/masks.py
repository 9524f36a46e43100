"""Masks over photos: of one photo side by side, of many on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.plots.panels import panels

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
    shown = [(list(masks), range(len(masks)))] if together else [([mask], [0]) for mask in masks]
    figure, axes = panels([image.shape] * len(shown), len(shown), width)
    for i, (axis, (drawn, numbers)) in enumerate(zip(axes, shown, strict=True)):
        axis.imshow(draw_prompts(draw_masks(image, drawn, numbers), points, box_xyxy))
        if titles:
            axis.set_title(titles[i])
    return figure


def show_sheet(
    pictures: Sequence[np.ndarray],
    masks: Sequence[Sequence[np.ndarray]] | None = None,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 4,
    width: float = 10.0,
) -> Figure:
    """Show many pictures with their masks: a contact sheet.

    Args:
        pictures: uint8 [H, W, 3] RGB each, of any sizes.
        masks: for each picture, its masks bool [H, W]; None shows the pictures alone.
        titles: one per picture.
        columns: pictures side by side, at most.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is no picture, or the counts differ.
    """
    drawn, names = [[]] * len(pictures) if masks is None else masks, [""] * len(pictures) if titles is None else titles
    if not len(pictures) == len(drawn) == len(names) > 0:
        counts = f"{len(pictures)} pictures, masks for {len(drawn)} and {len(names)} titles"
        raise ValueError(f"a sheet needs a picture or more, with masks and a title for each; got {counts}")
    figure, axes = panels([picture.shape for picture in pictures], columns, width)
    for axis, picture, found, name in zip(axes, pictures, drawn, names, strict=True):
        axis.imshow(draw_masks(picture, found, range(len(found))))
        axis.set_title(name)
    return figure
