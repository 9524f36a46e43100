"""Figures of scores: what is drawn are the numbers that came in."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.evaluation.rows import ObjectRow, Summary, bootstrap_interval
from sam2kit.plots.curves import show_calibration, show_curves, show_intervals

CURVES = {"cup": [0.2, 0.5, 0.9], "cat": [0.4, 0.7, 0.8]}


def row(predicted: float, actual: float) -> ObjectRow:
    return ObjectRow("photo", "0", {"predicted_iou": predicted, "click1": actual})


def test_each_curve_is_a_line_with_its_name() -> None:
    (plot,) = show_curves(CURVES, ("epoch", "mIoU"), first=0, levels=(0.85,)).axes
    cup, cat, level = plot.lines
    assert list(cup.get_xdata()) == [0, 1, 2]
    assert list(cup.get_ydata()) == CURVES["cup"]
    assert list(cat.get_ydata()) == CURVES["cat"]
    assert cup.get_color() != cat.get_color()
    assert set(level.get_ydata()) == {0.85}
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["cup", "cat"]
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("epoch", "mIoU")


def test_curves_may_differ_in_length() -> None:
    (plot,) = show_curves({"a": [0.1], "b": [0.1, 0.2]}).axes
    assert [len(line.get_xdata()) for line in plot.lines] == [1, 2]


def test_the_mean_comes_with_its_interval() -> None:
    (plot,) = show_curves(CURVES, mean=True).axes
    np.testing.assert_allclose(plot.lines[-1].get_ydata(), [0.3, 0.6, 0.85])
    band = plot.collections[0].get_paths()[0].vertices
    low, high = bootstrap_interval([0.2, 0.4])
    at_first = band[band[:, 0] == 1, 1]
    np.testing.assert_allclose((at_first.min(), at_first.max()), (low, high))
    assert low < high
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["its 95 % interval", "mean of 2"]


def test_curves_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="no curve"):
        show_curves({})
    with pytest.raises(ValueError, match=r"same length, got \{'a': 1, 'b': 2\}"):
        show_curves({"a": [0.1], "b": [0.1, 0.2]}, mean=True)


def test_calibration_draws_objects_and_the_means_of_ranges() -> None:
    (plot,) = show_calibration([row(0.1, 0.3), row(0.15, 0.5), row(0.9, 0.8)], bins=5).axes
    np.testing.assert_allclose(plot.collections[0].get_offsets(), [(0.1, 0.3), (0.15, 0.5), (0.9, 0.8)])
    means = plot.lines[-1]
    np.testing.assert_allclose(means.get_xdata(), [0.125, 0.9])
    np.testing.assert_allclose(means.get_ydata(), [0.4, 0.8])
    assert [text.get_text() for text in plot.texts] == ["2", "1"]
    with pytest.raises(ValueError, match="picture_rows"):
        show_calibration([])


def test_intervals_are_drawn_from_end_to_end_the_first_on_top() -> None:
    (plot,) = show_intervals({"1 click": Summary(0.5, 0.4, 0.7, 24), "box": Summary(0.6, 0.5, 0.65, 6)}, "mIoU").axes
    assert [label.get_text() for label in plot.get_yticklabels()] == ["1 click (24)", "box (6)"]
    assert plot.yaxis_inverted()
    ends = [bars.get_segments()[0][:, 0] for container in plot.containers for bars in container[2]]
    np.testing.assert_allclose(ends, [(0.4, 0.7), (0.5, 0.65)])
    with pytest.raises(ValueError, match="no mean"):
        show_intervals({})


def test_pyplot_keeps_no_figure() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    show_curves(CURVES, mean=True)
    show_calibration([row(0.1, 0.3)])
    show_intervals({"box": Summary(0.6, 0.5, 0.65, 6)})
    assert pyplot.get_fignums() == before
