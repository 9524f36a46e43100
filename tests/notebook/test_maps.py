"""What the figures of maps show: their colours, scales, pictures and marks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.patches import Rectangle

from sam2kit.config import PRESETS, HieraConfig, preset
from sam2kit.model.memory_bank import SelectedMemories, choose_memories
from sam2kit.notebook.activations import block_reaches
from sam2kit.notebook.maps import principal_colours, show_maps, show_matrix, show_reach, show_selected_memories

GREY = np.full((3, 4, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def _closed() -> None:
    """An open figure would be shown twice."""
    yield
    assert pyplot.get_fignums() == []


def ramps(*directions: list[float]) -> np.ndarray:
    """[C, 6, 8]: one ramp along x, one along y, and so on, each along its own mixture of channels."""
    y, x = np.mgrid[:6, :8]
    patterns = (10.0 * x, 5.0 * y, (x + y) % 2)
    return sum(np.array(d)[:, None, None] * p for d, p in zip(directions, patterns, strict=False))


def test_components_become_red_green_blue() -> None:
    maps = ramps([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1])
    colours = principal_colours(maps)
    assert colours.shape == (6, 8, 3) and colours.dtype == np.uint8
    assert (np.diff(colours[..., 0].astype(int), axis=1) > 0).all(), "the strongest ramp is red"
    assert (np.diff(colours[..., 1].astype(int), axis=0) > 0).all(), "the next is green"
    assert set(np.unique(colours[..., 2])) == {0, 255}, "the weakest is blue"
    moved = 3 * maps + np.arange(4)[:, None, None]
    np.testing.assert_allclose(principal_colours(moved).astype(int), colours, atol=1)
    tensor = torch.from_numpy(maps).bfloat16().requires_grad_()
    assert (principal_colours(tensor) == principal_colours(tensor.detach().float().numpy())).all()


@pytest.mark.parametrize(("direction", "rises"), [([0.9, -0.4], True), ([-0.9, 0.4], False), ([0.4, -0.9], False)])
def test_the_largest_weight_is_positive(direction: list[float], rises: bool) -> None:
    red = principal_colours(ramps(direction))[..., 0].astype(int)
    assert ((np.diff(red, axis=1) > 0) == rises).all()


def test_what_does_not_vary_is_grey_and_several_maps_share_their_colours() -> None:
    assert (principal_colours(np.full((4, 3, 5), 7.0)) == 127).all()
    assert (principal_colours(ramps([3, 4, 1]))[..., 1:] == 127).all(), "there is only one component"
    assert (principal_colours(np.mgrid[:6, :8].astype(float))[..., 2] == 127).all(), "two channels have no third"
    first, second = np.random.default_rng(0).normal(size=(2, 5, 6, 8))
    second[:, 2, 3] = first[:, 4, 5]
    both = principal_colours(np.stack([first, second]))
    assert (both[1, 2, 3] == both[0, 4, 5]).all() and (both[0] != principal_colours(first)).any()
    with pytest.raises(ValueError, match=r"\[C, h, w\] or \[N, C, h, w\], got \[3, 4\]"):
        principal_colours(np.zeros((3, 4)))


def test_each_map_has_its_panel_and_scale_or_all_share_one() -> None:
    heats = torch.arange(24.0).view(2, 3, 4)
    figure = show_maps([*heats, GREY], ["a", "b", "c"], columns=2)
    first, second, third, empty = figure.axes
    assert [a.get_title() for a in figure.axes] == ["a", "b", "c", ""]
    assert (first.images[0].get_array() == heats[0].numpy()).all()
    assert first.images[0].get_clim() == (0, 11) and second.images[0].get_clim() == (12, 23)
    assert (third.images[0].get_array() == GREY).all() and not empty.images
    figure = show_maps(heats, shared=True)
    assert [a.images[0].get_clim() for a in figure.axes[:2]] == [(0, 23)] * 2
    assert figure.axes[2].get_ylim() == (0, 23), "the bar"
    assert len(show_maps([GREY], shared=True).axes) == 1, "pictures have no scale"


def test_heat_lies_over_a_grey_picture_and_points_are_marked() -> None:
    ground = np.zeros((30, 40, 3), np.uint8)
    ground[..., 0] = 60
    heat = np.array([[0.0, 1.0], [0.5, 0.25]])
    axis, alone = show_maps([heat, heat], over=[ground, None], points=[(2, 1), None]).axes
    below, above = axis.images
    assert (below.get_array() == 20).all() and below.get_clim() == (0, 255)
    assert (above.get_array() == heat).all()
    assert above.get_extent() == [-0.5, 39.5, 29.5, -0.5], "stretched over the whole picture"
    alpha = above.get_alpha()
    assert alpha[0, 0] < alpha[1, 1] < alpha[1, 0] < alpha[0, 1] <= 1
    assert len(alone.images) == 1 and not alone.lines
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[2, 1]]] * 2


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
    assert (axis.images[0].get_array() == matrix).all() and axis.get_title() == "likeness"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["cup", "patch"]
    assert axis.get_xticks().tolist() == axis.get_yticks().tolist() == [0.5, 3.0]
    assert axis.lines[0].get_ydata()[0] == 1.5 and bar.get_ylim() == (0, 24)
    for shape in ((5, 4), (4, 4), (5,)):
        with pytest.raises(ValueError, match="groups of 5 rows"):
            show_matrix(np.zeros(shape), {"cup": 2, "patch": 3})


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "edgetam"])  # which has no attention there
def test_reaches_of_every_preset_are_drawn(name: str) -> None:
    config = PRESETS[name]
    reaches = block_reaches(config)
    assert [r.block for r in reaches] == list(range(config.trunk.blocks))
    everywhere = tuple(r.block for r in reaches if not r.window)
    stages = tuple(sum(r.stage == s for r in reaches) for s in (1, 2, 3, 4))
    if isinstance(config.trunk, HieraConfig):
        assert everywhere == config.trunk.global_blocks and stages == config.trunk.blocks_per_stage
    else:
        assert everywhere == (2, 5, 8, 11) and stages == (12, 0, 0, 0)
    assert all(r.reach == config.side for r in reaches if not r.window)
    figure = show_reach(reaches, np.zeros((config.side, config.side, 3), np.uint8))
    bars = [p.get_height() for p in figure.axes[-1].patches]
    assert bars == [r.reach for r in sorted(reaches, key=lambda r: r.stage)]


def test_each_reach_has_its_windows() -> None:
    reaches = block_reaches(preset("sam2.1-hiera-tiny"))
    assert [r.reach for r in reaches] == [32, 32, 32, 32, 224, 1024, 224, 1024, 224, 1024, 224, 224]
    assert [r.stride for r in reaches] == [4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 16, 32]
    narrow, windows, everything, _ = show_reach(reaches, np.zeros((1024, 1024, 3), np.uint8)).axes
    titles = [a.get_title() for a in (narrow, windows, everything)]
    assert titles == ["blocks 0–3", "blocks 4, 6, 8, 10–11", "blocks 5, 7, 9"]
    assert {line.get_ydata()[0] for line in windows.lines[::2]} == {224, 448, 672, 896} and not everything.lines
    (seen,) = (p for p in windows.patches if isinstance(p, Rectangle))
    assert (seen.get_xy(), seen.get_width(), seen.get_height()) == ((448, 448), 224, 224)


def test_selected_frames_stand_at_their_times() -> None:
    bank = {"slots": 4, "pointer_frames": 16}
    selected = {now: choose_memories(now, [0, 7], range(20), reverse=False, **bank) for now in (5, 9)}
    (axis,) = show_selected_memories({**selected, 2: SelectedMemories((), ())}, slots=4).axes
    squares, dots = (
        {
            (x, int(y)): line.get_color()
            for line in axis.lines
            if line.get_marker() == kind
            for x, y in line.get_xydata()
        }
        for kind in "so"
    )
    assert set(squares) == {(0, 0), (7, 0), (2, 0), (3, 0), (4, 0), (0, 1), (7, 1), (6, 1), (8, 1)}
    assert squares[0, 0] == squares[7, 0] == squares[7, 1] != squares[4, 0] == squares[8, 1]
    assert {x for x, row in dots if row == 0} == {0, 1, 2, 3, 4}, "no pointer from the future"
    assert {x for x, row in dots if row == 1} == {0, 1, 2, 3, 4, 5, 6, 7, 8}
    texts = {(t.get_position(), t.get_text()) for t in axis.texts}
    assert {((5, 0), "now"), ((9, 1), "now"), ((7, 0), "P"), ((4, 0), "1"), ((2, 0), "3"), ((6, 1), "3")} <= texts
    assert [t.get_text() for t in axis.get_yticklabels()] == [f"frame {n} uses" for n in (5, 9, 2)]
    with pytest.raises(ValueError, match="no selected memories"):
        show_selected_memories({}, slots=4)
