"""What the diagrams show: reach of the encoder's blocks, and recalled frames."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from sam2kit.config import PRESETS, preset
from sam2kit.model.memory_bank import Recollection, choose_memories
from sam2kit.plots.diagrams import show_reach, show_recollections
from sam2kit.predict.inside import block_reaches


def square(side: int) -> np.ndarray:
    return np.zeros((side, side, 3), np.uint8)


def test_each_reach_has_its_windows() -> None:
    narrow, windows, everything, _ = show_reach(block_reaches(preset("sam2.1-hiera-tiny")), square(1024)).axes
    assert [a.get_title() for a in (narrow, windows, everything)] == [
        "blocks 0–3",
        "blocks 4, 6, 8, 10–11",
        "blocks 5, 7, 9",
    ]
    borders = {line.get_ydata()[0] for line in windows.lines[::2]}
    assert borders == {224, 448, 672, 896}
    assert not everything.lines
    (seen,) = (p for p in windows.patches if isinstance(p, Rectangle))
    assert (seen.get_xy(), seen.get_width(), seen.get_height()) == ((448, 448), 224, 224)
    assert windows.get_xlim() == (0, 1024) and windows.get_ylim() == (1024, 0)


def test_each_block_has_its_bar() -> None:
    bars = show_reach(block_reaches(preset("nano")), square(256)).axes[-1]
    middles = {round(p.get_x() + p.get_width() / 2): p.get_height() for p in bars.patches}
    assert middles == dict(zip(range(8), [32] * 4 + [256] * 4, strict=True))
    assert len({p.get_facecolor() for p in bars.patches}) == 4, "a colour per stage"
    assert [t.get_text() for t in bars.get_legend().get_texts()] == [f"stage {i}" for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_drawn(name: str) -> None:
    config = preset(name)
    reaches = block_reaches(config)
    axes = show_reach(reaches, square(config.side)).axes
    assert len(axes) == len({r.reach for r in reaches}) + 1
    assert len(axes[-1].patches) == sum(config.trunk.blocks_per_stage)


def marks(axis, kind: str) -> dict[tuple[float, float], str]:  # noqa: ANN001
    """(x, row) -> colour of the markers of one kind; dots lie a little below their row."""
    lines = [line for line in axis.lines if line.get_marker() == kind]
    return {(x, int(y)): line.get_color() for line in lines for x, y in line.get_xydata()}


def test_recalled_frames_stand_at_their_times() -> None:
    slots = 4
    recalled = {
        now: choose_memories(now, [0, 7], range(20), slots=slots, pointer_frames=16, reverse=False) for now in (5, 9)
    }
    (axis,) = show_recollections(recalled, slots=slots).axes
    squares, dots = marks(axis, "s"), marks(axis, "o")
    assert set(squares) == {(0, 0), (7, 0), (2, 0), (3, 0), (4, 0), (0, 1), (7, 1), (6, 1), (8, 1)}
    assert squares[0, 0] == squares[7, 0] == squares[7, 1] != squares[4, 0] == squares[8, 1]
    assert {x for x, row in dots if row == 0} == {0, 1, 2, 3, 4}, "no pointer from the future"
    assert {x for x, row in dots if row == 1} == {0, 1, 2, 3, 4, 5, 6, 7, 8}
    texts = {(t.get_position(), t.get_text()) for t in axis.texts}
    assert {((5, 0), "now"), ((9, 1), "now"), ((7, 0), "P"), ((4, 0), "1"), ((2, 0), "3"), ((6, 1), "3")} <= texts
    assert [t.get_text() for t in axis.get_yticklabels()] == ["frame 5 recalls", "frame 9 recalls"]
    assert axis.get_xlim() == (-1, 10)


def test_time_may_run_backwards() -> None:
    chosen = choose_memories(3, [9], range(20), slots=7, pointer_frames=4, reverse=True)
    (axis,) = show_recollections({3: chosen}, slots=7).axes
    assert {((4, 0), "1"), ((8, 0), "5"), ((9, 0), "P")} <= {(t.get_position(), t.get_text()) for t in axis.texts}


def test_nothing_recalled_is_drawn_too() -> None:
    (axis,) = show_recollections({2: Recollection((), ())}, slots=4).axes
    assert not marks(axis, "s") and not marks(axis, "o")
    with pytest.raises(ValueError, match="no recollections"):
        show_recollections({}, slots=4)
