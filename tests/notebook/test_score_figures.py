"""Figures of scores: what is drawn are the masks and numbers that came in."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib import pyplot

from sam2kit.evaluation.clicks import Click
from sam2kit.evaluation.metrics import boundary_accuracy
from sam2kit.evaluation.reports import ObjectRow, Summary, bootstrap_interval
from sam2kit.evaluation.semi_supervised import Comparison
from sam2kit.media.drawing import colour_of
from sam2kit.notebook.score_figures import (
    show_boundary,
    show_calibration,
    show_comparison,
    show_curves,
    show_intervals,
    show_overlap,
)

BLACK = np.zeros((60, 80, 3), np.uint8)
BLUE, YELLOW, VERMILION, DARK_BLUE = (colour_of(n) for n in (0, 4, 6, 5))


@pytest.fixture(autouse=True)
def _closed() -> None:
    """An open figure would be shown twice."""
    yield
    assert pyplot.get_fignums() == []


def block(x: int, y: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[y : y + height, x : x + width] = True
    return mask


TRUTH, MASK = block(10, 10, 40, 40), block(30, 10, 40, 40)  # they share the middle


def picture(axis) -> np.ndarray:  # noqa: ANN001
    return np.asarray(axis.images[0].get_array())


def has_hue(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return np.allclose(pixel / max(pixel.max(), 1), np.array(colour) / max(colour), atol=0.04)


def test_both_missed_and_extra_have_their_colours_and_names() -> None:
    images, truths = np.stack([BLACK, BLACK + 200, BLACK]), np.stack([TRUTH, MASK, TRUTH])
    figure = show_overlap(images, truths, [MASK] * 3, ["one"] * 3, points=[[], [(50, 30, 1), (5, 5, 0)], []], columns=2)
    first, second, _, empty = figure.axes
    for x, colour in ((20, YELLOW), (40, BLUE), (60, VERMILION)):
        assert has_hue(picture(first)[30, x], colour), x
    assert not picture(first)[30, 75].any() and first.get_title() == "one" and not empty.images
    assert has_hue(picture(second)[30, 60] - 80.0, BLUE), "the second truth is met"
    assert not first.lines and [line.get_xydata()[0].tolist() for line in second.lines[::2]] == [[50, 30], [5, 5]]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["both", "missed: truth only", "extra: mask only"]
    assert (picture(show_overlap(BLACK, TRUTH, [MASK]).axes[0]) == picture(first)).all(), "one picture for all"
    with pytest.raises(ValueError, match="same size, got"):
        show_overlap(BLACK, TRUTH[:30], [MASK])


def test_the_boundary_figure_says_what_f_is_made_of() -> None:
    mask = block(10, 10, 46, 40)  # one side is off by more than the tolerance
    figure = show_boundary(BLACK, TRUTH, mask)
    precision, recall = (int(re.search(r"(\d+)%", axis.get_title())[1]) / 100 for axis in figure.axes)
    assert precision < 1
    assert 2 * precision * recall / (precision + recall) == pytest.approx(boundary_accuracy(mask, TRUTH), abs=0.01)
    assert f"F = {boundary_accuracy(mask, TRUTH):.2f}" in figure.get_suptitle()
    colours, counts = np.unique(picture(figure.axes[0]).reshape(-1, 3), axis=0, return_counts=True)
    found = {tuple(map(int, colour)): int(count) for colour, count in zip(colours, counts, strict=True)}
    assert found[VERMILION] == pytest.approx(40, abs=12), "the far side"
    assert found[DARK_BLUE] > 80 and found[YELLOW] > 100
    with pytest.raises(ValueError, match="not empty"):
        show_boundary(BLACK, TRUTH, np.zeros_like(TRUTH))


def test_a_comparison_is_a_row_of_truth_before_and_after() -> None:
    before, after = Click((30, 30), 1, MASK, 0.33), Click((30, 30), 1, TRUTH, 1.0)
    shown = Comparison("a.jpg", BLACK, [TRUTH], [before], [after])
    figure = show_comparison([shown, shown])
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ["a.jpg: truth", "before: IoU 0.33", "after: IoU 1.00"]
    truth, old, new = (picture(axis) for axis in figure.axes[:3])
    assert np.array_equal(truth, new) and old[30, 20].sum() == 0 < old[30, 60].sum()
    assert [len(axis.lines) for axis in figure.axes[:3]] == [0, 2, 2]


CURVES = {"cup": [0.2, 0.5, 0.9], "cat": [0.4, 0.7, 0.8]}


def row(predicted: float, actual: float) -> ObjectRow:
    return ObjectRow("photo", "0", {"predicted_iou": predicted, "click1": actual})


def test_each_curve_is_a_line_with_its_name() -> None:
    (plot,) = show_curves(CURVES | {"short": [0.1]}, ("epoch", "mIoU"), first=0, levels=(0.85,)).axes
    cup, cat, short, level = plot.lines
    assert [list(cup.get_xdata()), list(cup.get_ydata())] == [[0, 1, 2], CURVES["cup"]]
    assert list(short.get_xdata()) == [0] and cup.get_color() != cat.get_color()
    assert set(level.get_ydata()) == {0.85}
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["cup", "cat", "short"]
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("epoch", "mIoU")


def test_the_mean_comes_with_its_interval() -> None:
    (plot,) = show_curves(CURVES, mean=True).axes
    np.testing.assert_allclose(plot.lines[-1].get_ydata(), [0.3, 0.6, 0.85])
    band = plot.collections[0].get_paths()[0].vertices
    at_first = band[band[:, 0] == 1, 1]
    np.testing.assert_allclose((at_first.min(), at_first.max()), bootstrap_interval([0.2, 0.4]))
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["its 95 % interval", "mean of 2"]
    with pytest.raises(ValueError, match=r"same length, got \{'a': 1, 'b': 2\}"):
        show_curves({"a": [0.1], "b": [0.1, 0.2]}, mean=True)


def test_calibration_draws_objects_and_the_means_of_ranges() -> None:
    (plot,) = show_calibration([row(0.1, 0.3), row(0.15, 0.5), row(0.9, 0.8)], bins=5).axes
    np.testing.assert_allclose(plot.collections[0].get_offsets(), [(0.1, 0.3), (0.15, 0.5), (0.9, 0.8)])
    np.testing.assert_allclose(plot.lines[-1].get_xydata(), [(0.125, 0.4), (0.9, 0.8)])
    assert [text.get_text() for text in plot.texts] == ["2", "1"]


def test_intervals_are_drawn_from_end_to_end_the_first_on_top() -> None:
    (plot,) = show_intervals({"1 click": Summary(0.5, 0.4, 0.7, 24), "box": Summary(0.6, 0.5, 0.65, 6)}, "mIoU").axes
    assert [label.get_text() for label in plot.get_yticklabels()] == ["1 click (24)", "box (6)"]
    assert plot.yaxis_inverted()
    ends = [bars.get_segments()[0][:, 0] for container in plot.containers for bars in container[2]]
    np.testing.assert_allclose(ends, [(0.4, 0.7), (0.5, 0.65)])


@pytest.mark.parametrize("show", [show_comparison, show_curves, show_calibration, show_intervals])
def test_nothing_is_no_figure(show) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=r"there are no .* to show; give at least one"):
        show({})
