"""The health strip: which column shows which frames, and what the page gets."""

from __future__ import annotations

import numpy as np

from sam2kit.predict.health import DOUBTFUL, LOST, PRESENT, UNTRACKED
from sam2kit.ui.health_strip import column_states, frame_at_share, health_html, row_picture


def test_the_worst_of_a_column_is_shown() -> None:
    states = np.full(6000, PRESENT, np.uint8)
    states[3507] = LOST
    columns = column_states(states)
    assert len(columns) == 600
    assert np.flatnonzero(columns == LOST).tolist() == [350]
    assert column_states(states[:10]) is not states
    assert len(column_states(states[:601])) == 600


def test_the_height_of_a_bar_says_the_state() -> None:
    picture = row_picture(np.array([UNTRACKED, PRESENT, DOUBTFUL, LOST], np.uint8), (1, 2, 3))
    heights = (picture[..., 3] > 0).sum(axis=0)
    assert heights[0] == 0
    assert heights[1] > heights[2] > heights[3] > 0


def test_clicks_reach_every_frame() -> None:
    assert [frame_at_share(share, 4) for share in (-0.1, 0, 0.26, 0.999, 1.2)] == [0, 0, 1, 3, 3]


def test_names_are_text_not_html() -> None:
    page = health_html({0: np.zeros(3, np.uint8)}, {0: [1]}, {0: "<script>alert(1)</script>"}, 2)
    assert "<script" not in page
    assert "◆" in page
