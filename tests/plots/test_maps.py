"""What the figures of maps show: their colours, scales, pictures and marks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2kit.plots.maps import principal_colours, show_maps, show_matrix

GREY = np.full((3, 4, 3), 90, np.uint8)


def ramps(*directions: list[float]) -> np.ndarray:
    """[C, 6, 8]: one ramp along x, one along y, and so on, each along its own mixture of channels."""
    y, x = np.mgrid[:6, :8]
    patterns = (10.0 * x, 5.0 * y, (x + y) % 2)
    return sum(np.array(d)[:, None, None] * p for d, p in zip(directions, patterns, strict=False))


def test_components_become_red_green_blue() -> None:
    colours = principal_colours(ramps([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]))
    assert colours.shape == (6, 8, 3) and colours.dtype == np.uint8
    assert (np.diff(colours[..., 0].astype(int), axis=1) > 0).all(), "the strongest ramp is red"
    assert (np.diff(colours[..., 1].astype(int), axis=0) > 0).all(), "the next is green"
    assert set(np.unique(colours[..., 2])) == {0, 255}, "the weakest is blue"
    assert colours[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("direction", "rises"), [([0.9, -0.4], True), ([-0.9, 0.4], False), ([0.4, -0.9], False)])
def test_the_largest_weight_is_positive(direction: list[float], rises: bool) -> None:
    red = principal_colours(ramps(direction))[..., 0].astype(int)
    assert ((np.diff(red, axis=1) > 0) == rises).all()


def test_colours_do_not_depend_on_scale_or_offset() -> None:
    maps = np.random.default_rng(0).normal(size=(5, 6, 8))
    moved = 3 * maps + np.arange(5)[:, None, None]
    np.testing.assert_allclose(principal_colours(moved).astype(int), principal_colours(maps), atol=1)


def test_what_does_not_vary_is_grey() -> None:
    assert (principal_colours(np.full((4, 3, 5), 7.0)) == 127).all()
    assert (principal_colours(ramps([3, 4, 1]))[..., 1:] == 127).all(), "there is only one component"
    assert (principal_colours(np.mgrid[:6, :8].astype(float))[..., 2] == 127).all(), "two channels have no third"


def test_several_maps_share_their_colours() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 5, 6, 8))
    second[:, 2, 3] = first[:, 4, 5]
    both = principal_colours(np.stack([first, second]))
    assert both.shape == (2, 6, 8, 3)
    assert (both[1, 2, 3] == both[0, 4, 5]).all()
    assert (both[0] != principal_colours(first)).any()


def test_tensors_of_any_precision_are_maps() -> None:
    maps = torch.from_numpy(ramps([1, 0], [0, 1])).bfloat16().requires_grad_()
    assert (principal_colours(maps) == principal_colours(maps.detach().float().numpy())).all()


def test_principal_colours_want_channels_first() -> None:
    with pytest.raises(ValueError, match=r"\[C, h, w\] or \[N, C, h, w\], got \[3, 4\]"):
        principal_colours(np.zeros((3, 4)))


def test_each_map_has_its_panel() -> None:
    heats = torch.arange(24.0).view(2, 3, 4)
    figure = show_maps([*heats, GREY], ["a", "b", "c"], columns=2)
    first, second, third, empty = figure.axes
    assert [a.get_title() for a in figure.axes] == ["a", "b", "c", ""]
    assert (first.images[0].get_array() == heats[0].numpy()).all()
    assert first.images[0].get_clim() == (0, 11) and second.images[0].get_clim() == (12, 23)
    assert (third.images[0].get_array() == GREY).all()
    assert not empty.images


def test_a_shared_scale_has_a_bar() -> None:
    figure = show_maps(torch.arange(24.0).view(2, 3, 4), shared=True)
    assert len(figure.axes) == 3
    assert [a.images[0].get_clim() for a in figure.axes[:2]] == [(0, 23)] * 2
    assert figure.axes[2].get_ylim() == (0, 23)
    assert len(show_maps([GREY], shared=True).axes) == 1, "pictures have no scale"


def test_heat_lies_over_a_grey_picture() -> None:
    ground = np.zeros((30, 40, 3), np.uint8)
    ground[..., 0] = 60
    heat = np.array([[0.0, 1.0], [0.5, 0.25]])
    (axis,) = show_maps([heat], over=ground).axes
    below, above = axis.images
    assert (below.get_array() == 20).all() and below.get_clim() == (0, 255)
    assert (above.get_array() == heat).all()
    assert above.get_extent() == [-0.5, 39.5, 29.5, -0.5], "stretched over the whole picture"
    alpha = above.get_alpha()
    assert alpha[0, 0] < alpha[1, 1] < alpha[1, 0] < alpha[0, 1] <= 1


def test_every_map_may_have_its_own_picture() -> None:
    figure = show_maps(np.ones((2, 3, 4)), over=[None, GREY])
    assert [len(a.images) for a in figure.axes] == [1, 2]


def test_points_are_marked_where_they_are() -> None:
    figure = show_maps(np.ones((2, 3, 4)), over=GREY, points=[None, (2, 1)])
    assert not figure.axes[0].lines
    assert [line.get_xydata().tolist() for line in figure.axes[1].lines] == [[[2, 1]]] * 2


def test_higher_maps_get_higher_panels() -> None:
    low, high = show_maps([np.ones((2, 8)), np.ones((8, 8))], columns=1).axes
    assert high.get_gridspec().get_height_ratios() == [0.25, 1]
    assert low.get_subplotspec().rowspan.start == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"maps": []}, "no maps"),
        ({"maps": np.ones((2, 3, 4)), "titles": ["one"]}, "2 maps want as many titles, got 1"),
        ({"maps": np.ones((2, 3, 4)), "over": [GREY]}, "as many pictures, got 1"),
        ({"maps": np.ones((2, 3, 4)), "points": [(0, 0)] * 3}, "as many points, got 3"),
        ({"maps": np.ones((1, 5, 3, 4))}, r"got float64 \[5, 3, 4\]; principal_colours makes pictures"),
    ],
)
def test_what_cannot_be_shown_says_why(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        show_maps(**arguments)


def test_a_matrix_has_its_groups() -> None:
    matrix = np.arange(25.0).reshape(5, 5)
    axis, bar = show_matrix(torch.from_numpy(matrix), {"cup": 2, "patch": 3}, "likeness").axes
    assert (axis.images[0].get_array() == matrix).all()
    assert axis.get_title() == "likeness"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["cup", "patch"]
    assert axis.get_xticks().tolist() == axis.get_yticks().tolist() == [0.5, 3.0]
    assert [line.get_ydata()[0] for line in axis.lines][:1] == [1.5]
    assert bar.get_ylim() == (0, 24)


@pytest.mark.parametrize("shape", [(5, 4), (4, 4), (5,)])
def test_groups_must_fill_the_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="groups of 5 rows"):
        show_matrix(np.zeros(shape), {"cup": 2, "patch": 3})


def test_figures_do_not_stay_open() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    show_maps([GREY])
    show_matrix(np.zeros((1, 1)), {"cup": 1})
    assert pyplot.get_fignums() == before
