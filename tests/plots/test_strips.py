"""A session as frames with masks, and as lanes of presence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from sam2kit.media.drawing import PALETTE, colour_of
from sam2kit.model.sam2 import SAM2
from sam2kit.plots.strips import show_presence, show_strip
from sam2kit.predict.health import HealthLimits
from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import VideoPredictor


@pytest.fixture
def session(nano: SAM2) -> VideoSession:
    """Six grey frames with a bright square; two objects are given as masks, one of them on frame 2."""
    frames = np.full((6, 64, 96, 3), 60, np.uint8)
    frames[:, 20:44, 10:34] = 230
    predictor = VideoPredictor(nano)
    found = predictor.open(frames)
    mask = np.zeros((64, 96), bool)
    mask[20:44, 10:34] = True
    predictor.add_mask(found, 0, "square", mask)
    predictor.add_mask(found, 2, 7, np.roll(mask, 50, axis=1))
    return found


def test_frames_have_their_masks(session: VideoSession) -> None:
    figure = show_strip(session, [0, 2, 5])
    first, second, last = (axis.images[0].get_array() for axis in figure.axes)
    assert [axis.get_title() for axis in figure.axes] == ["frame 0", "frame 2", "frame 5"]
    assert np.allclose(first[30, 20], (230 + np.array(colour_of(0))) // 2, atol=1)
    assert np.allclose(second[30, 70], (60 + np.array(colour_of(1))) // 2, atol=1)
    assert (second[30, 20] == 230).all(), "the first object has no answer there"
    assert (last == session.clip.frame(5)).all(), "nothing is known of it, nothing is tracked"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["square", "7"]


def test_clicks_and_boxes_are_drawn(session: VideoSession, nano: SAM2) -> None:
    VideoPredictor(nano).add_points(session, 4, "square", [[80, 10], [10, 55]], [1, 0])
    VideoPredictor(nano).add_box(session, 4, "square", [40, 20, 70, 50])
    shown = show_strip(session, [4]).axes[0].images[0].get_array()
    assert (shown[10, 80] == 255).all() and (shown[55, 10] == 255).all(), "their signs are white"
    assert (shown[10 + 3, 80 + 2] == [0, 170, 80]).all() and (shown[55 + 3, 10 + 2] == [220, 40, 40]).all()
    assert (shown[20, 40:70] > 200).all()


def test_lanes_say_where_an_object_is(session: VideoSession) -> None:
    figure = show_presence(session)
    lanes = figure.axes[0]
    bars = [(round(bar.get_x() + 0.5), bar.get_y()) for bar in lanes.patches]
    assert bars == [(0, 0), (2, 1)], "frames that are prompted, in their lanes"
    assert [line.get_xdata().tolist() for line in lanes.lines[:2]] == [[0], [2]]
    assert [tick.get_text() for tick in lanes.get_yticklabels()] == ["square", "7"]
    assert lanes.get_ylim()[0] > lanes.get_ylim()[1], "the first object is on top"
    assert lanes.get_xlim() == (-0.5, 5.5)


def heights_of(bars: list[Rectangle]) -> dict[int, float]:
    return {round(bar.get_x() + 0.5): round(bar.get_height(), 3) for bar in bars}


def test_height_and_colour_of_a_bar_say_the_state(session: VideoSession, nano: SAM2) -> None:
    session.remove_object(7)
    for _ in VideoPredictor(nano).propagate(session):
        pass
    heights = [
        bar.get_height() for bar in show_presence(session, HealthLimits(min_iou=0, max_change=99)).axes[0].patches
    ]
    assert heights == [0.7] * 6
    doubtful = show_presence(session, HealthLimits(min_iou=1.1)).axes[0].patches
    assert heights_of(doubtful) == {0: 0.7} | dict.fromkeys(range(1, 6), 0.35)
    track = session.tracks["square"]
    track.tracked = {f: replace(result, object_score=-3.0, prompted=False) for f, result in track.tracked.items()}
    lost = show_presence(session).axes[0].patches
    assert heights_of(lost) == {0: 0.7} | dict.fromkeys(range(1, 6), 0.1)
    assert lost[0].get_facecolor() != lost[1].get_facecolor()


def test_many_objects_begin_the_colours_again(session: VideoSession, nano: SAM2) -> None:
    for number in range(8, 8 + len(PALETTE)):
        VideoPredictor(nano).add_points(session, 0, number, [[5, 5]])
    handles = show_strip(session, [0]).legends[0].get_patches()
    assert handles[0].get_facecolor() == handles[len(PALETTE)].get_facecolor()
    assert len(show_presence(session).axes[0].get_yticks()) == len(session.tracks)


def test_what_cannot_be_shown_says_why(session: VideoSession) -> None:
    with pytest.raises(IndexError, match="frames are 0 to 5"):
        show_strip(session, [6])
    with pytest.raises(ValueError, match="no frames to show"):
        show_strip(session, [])
    session.reset()
    with pytest.raises(ValueError, match="no object"):
        show_presence(session)
