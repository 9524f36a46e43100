"""Masks over one photo, and over many."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.media.drawing import colour_of
from sam2kit.plots.masks import show_masks, show_sheet

GREY = np.full((40, 60, 3), 90, np.uint8)
LEFT, RIGHT = np.zeros((2, 40, 60), bool)
LEFT[10:30, 5:25] = RIGHT[10:30, 35:55] = True


def half(number: int) -> np.ndarray:
    return (90 + np.array(colour_of(number))) // 2


def test_one_panel_for_each_mask() -> None:
    figure = show_masks(GREY, [LEFT, RIGHT], ["left", "right"], points=[(40, 35, 1)])
    left, right = (axis.images[0].get_array() for axis in figure.axes)
    assert [axis.get_title() for axis in figure.axes] == ["left", "right"]
    assert (left[20, 15] == half(0)).all() and (left[20, 45] == 90).all()
    assert (right[20, 45] == half(0)).all() and (right[20, 15] == 90).all()
    assert (left[35, 40] == 255).all() and (right[35, 40] == 255).all(), "the click's sign"


def test_all_masks_together() -> None:
    (axis,) = show_masks(GREY, [LEFT, RIGHT], together=True, box_xyxy=[30, 5, 58, 36]).axes
    shown = axis.images[0].get_array()
    assert (shown[20, 15] == half(0)).all() and (shown[20, 45] == half(1)).all()
    assert (shown[5, 35:55] > 200).all(), "the box"


def test_a_sheet_of_pictures_of_any_size() -> None:
    tall = np.full((80, 30, 3), 20, np.uint8)
    figure = show_sheet([GREY, tall, GREY], [[LEFT, RIGHT], [], [RIGHT]], ["a", "b", "c"], columns=2)
    first, second, third = (axis.images[0].get_array() for axis in figure.axes[:3])
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", ""]
    assert (first[20, 45] == half(1)).all() and (second == tall).all() and (third[20, 45] == half(0)).all()
    assert len(show_sheet([GREY]).axes) == 1


def test_a_sheet_counts() -> None:
    with pytest.raises(ValueError, match="1 pictures want as many masks, got 2"):
        show_sheet([GREY], [[], []])
    with pytest.raises(ValueError, match="no pictures to show"):
        show_sheet([])


def test_figures_do_not_stay_open() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    show_masks(GREY, [LEFT])
    show_sheet([GREY])
    assert pyplot.get_fignums() == before
