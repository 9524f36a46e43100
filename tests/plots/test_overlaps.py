"""Figures of masks against the truth: colours, counts and titles say what the masks say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sam2kit.evaluation.metrics import boundary_accuracy
from sam2kit.evaluation.side_by_side import ClickedMask, Comparison
from sam2kit.media.drawing import colour_of
from sam2kit.plots.overlaps import show_boundary, show_comparison, show_overlap

BLACK = np.zeros((60, 80, 3), np.uint8)
BLUE, YELLOW, VERMILION, DARK_BLUE = (colour_of(n) for n in (0, 4, 6, 5))


def block(x: int, y: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[y : y + height, x : x + width] = True
    return mask


TRUTH, MASK = block(10, 10, 40, 40), block(30, 10, 40, 40)  # they share the middle


def picture(axis) -> np.ndarray:  # noqa: ANN001
    return np.asarray(axis.images[0].get_array())


def has_hue(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return np.allclose(pixel / max(pixel.max(), 1), np.array(colour) / max(colour), atol=0.04)


def test_both_missed_and_extra_have_their_colours() -> None:
    (axis,) = show_overlap(BLACK, TRUTH, [MASK], ["one"]).axes
    shown = picture(axis)
    for x, colour in ((20, YELLOW), (40, BLUE), (60, VERMILION)):
        assert has_hue(shown[30, x], colour), x
    assert not shown[30, 75].any()
    assert axis.get_title() == "one"


def test_the_legend_names_the_colours() -> None:
    (legend,) = show_overlap(BLACK, TRUTH, [MASK]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["both", "missed: truth only", "extra: mask only"]


def test_panels_may_have_their_own_picture_truth_and_clicks() -> None:
    images = np.stack([BLACK, BLACK + 200])
    figure = show_overlap(images, np.stack([TRUTH, MASK]), [MASK, MASK], points=[[], [(50, 30, 1), (5, 5, 0)]])
    first, second = figure.axes
    assert picture(first)[5, 5, 0] == 0
    assert picture(second)[5, 5, 0] == 200
    assert has_hue(picture(second)[30, 60] - 80.0, BLUE), "the second truth is met"
    assert not first.lines
    assert [tuple(line.get_data()) for line in second.lines[::2]] == [(50, 30), (5, 5)]


def test_more_panels_than_columns_begin_a_row() -> None:
    figure = show_overlap(BLACK, TRUTH, [MASK] * 3, columns=2)
    assert [bool(axis.images) for axis in figure.axes] == [True, True, True, False]
    assert figure.axes[0].get_subplotspec().get_geometry()[:2] == (2, 2)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="same size, got"):
        show_overlap(BLACK, TRUTH[:30], [MASK])


def test_the_boundary_figure_says_what_f_is_made_of() -> None:
    mask = block(10, 10, 46, 40)  # one side is off by more than the tolerance
    figure = show_boundary(BLACK, TRUTH, mask)
    precision, recall = (int(re.search(r"(\d+)%", axis.get_title())[1]) / 100 for axis in figure.axes)
    assert precision < 1
    assert 2 * precision * recall / (precision + recall) == pytest.approx(boundary_accuracy(mask, TRUTH), abs=0.01)
    assert f"F = {boundary_accuracy(mask, TRUTH):.2f}" in figure.get_suptitle()


def test_near_and_far_boundaries_have_their_colours() -> None:
    shown = picture(show_boundary(BLACK, TRUTH, block(10, 10, 46, 40)).axes[0])
    colours, counts = np.unique(shown.reshape(-1, 3), axis=0, return_counts=True)
    found = {tuple(int(v) for v in colour): int(count) for colour, count in zip(colours, counts, strict=True)}
    assert found[VERMILION] == pytest.approx(40, abs=12), "the far side"
    assert found[DARK_BLUE] > 80
    assert found[YELLOW] > 100
    with pytest.raises(ValueError, match="not empty"):
        show_boundary(BLACK, TRUTH, np.zeros_like(TRUTH))


def test_a_comparison_is_a_row_of_truth_before_and_after() -> None:
    before, after = ClickedMask((30, 30), MASK, 0.33), ClickedMask((30, 30), TRUTH, 1.0)
    shown = Comparison("a.jpg", BLACK, [TRUTH], [before], [after])
    figure = show_comparison([shown, shown])
    assert len(figure.axes) == 6
    titles = [axis.get_title() for axis in figure.axes[:3]]
    assert titles == ["a.jpg: truth", "before: IoU 0.33", "after: IoU 1.00"]
    truth, old, new = (picture(axis) for axis in figure.axes[:3])
    assert np.array_equal(truth, new)
    assert old[30, 20].sum() == 0 < old[30, 60].sum()
    assert [len(axis.lines) for axis in figure.axes[:3]] == [0, 2, 2]
    with pytest.raises(ValueError, match="no comparison"):
        show_comparison([])


def test_pyplot_keeps_no_figure() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    show_overlap(BLACK, TRUTH, [MASK])
    show_boundary(BLACK, TRUTH, MASK)
    assert pyplot.get_fignums() == before
