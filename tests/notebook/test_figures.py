"""Figures of masks on pictures and of sessions: colours, titles and bars say what the masks say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import supervision as sv
from matplotlib import pyplot

from sam2kit.media.drawing import PALETTE, colour_of
from sam2kit.model.sam2 import SAM2
from sam2kit.notebook.figures import annotate, show_masks, show_presence, show_sheet, show_strip
from sam2kit.predict.session import Session
from sam2kit.predict.tracking_quality import QualityLimits
from sam2kit.predict.video import VideoPredictor

GREY = np.full((40, 60, 3), 90, np.uint8)
LEFT, RIGHT = np.zeros((2, 40, 60), bool)
LEFT[10:30, 5:25] = RIGHT[10:30, 35:55] = True


@pytest.fixture(autouse=True)
def _closed() -> None:
    """An open figure would be shown twice."""
    yield
    assert pyplot.get_fignums() == []


def half(number: int, ground: int = 90) -> np.ndarray:
    return (ground + np.array(colour_of(number))) // 2


def test_masks_one_by_one_and_together() -> None:
    figure = show_masks(GREY, [LEFT, RIGHT], ["left", "right"], points=[(40, 35, 1)])
    left, right = (axis.images[0].get_array() for axis in figure.axes)
    assert [axis.get_title() for axis in figure.axes] == ["left", "right"]
    assert (left[20, 15] == half(0)).all() and (left[20, 45] == 90).all()
    assert (right[20, 45] == half(0)).all() and (right[20, 15] == 90).all()
    assert (left[35, 40] == 255).all() and (right[35, 40] == 255).all(), "the click's sign"
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
    assert figure.axes[0].get_gridspec().get_height_ratios() == [80 / 30, 40 / 60], "a row is as high as its highest"
    with pytest.raises(ValueError, match="1 pictures want as many masks, got 2"):
        show_sheet([GREY], [[], []])
    with pytest.raises(ValueError, match="no pictures to show"):
        show_sheet([])


PAPER = np.full((120, 160, 3), 90, np.uint8)
BOXES = np.array([[10, 40, 50, 100], [80, 40, 140, 100]], np.float32)


@pytest.mark.parametrize(("ids", "colours"), [(None, (0, 1)), (np.array([3, 1]), (2, 0))])
def test_detections_have_our_colours_and_labels(ids: np.ndarray | None, colours: tuple[int, int]) -> None:
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 50:90, 20:40] = masks[1, 50:90, 90:130] = True
    found = sv.Detections(BOXES, masks, tracker_id=ids)
    scene = annotate(PAPER, found)
    assert scene.dtype == np.uint8 and (PAPER == 90).all(), "the picture is left alone"
    assert np.allclose(scene[70, 30], half(colours[0]), atol=2) and np.allclose(
        scene[70, 110], half(colours[1]), atol=2
    )
    assert np.allclose(scene[70, 80], colour_of(colours[1]), atol=2) and (scene[110:] == 90).all()
    changed = (scene != annotate(PAPER, found, ["cup", "spoon"])).any(axis=2)
    assert changed[20:40, 10:50].mean() > 0.3 and not changed[45:].any(), "labels are above"
    with pytest.raises(ValueError, match="2 detections want as many labels, got 1"):
        annotate(PAPER, found, ["cup"])


def test_boxes_alone_nothing_at_all_and_a_label_in_the_corner() -> None:
    scene = annotate(PAPER, sv.Detections(BOXES))
    assert (scene[70, 30] == 90).all() and np.allclose(scene[70, 80], colour_of(1), atol=2)
    assert (annotate(PAPER, sv.Detections.empty(), []) == PAPER).all()
    corner = sv.Detections(np.array([[130, 0, 159, 60]], np.float32))
    rows, columns = (annotate(PAPER, corner) != annotate(PAPER, corner, ["a long name"])).any(axis=2).nonzero()
    assert np.ptp(columns) > 50 and np.ptp(rows) > 10, "it stays in the picture"


@pytest.fixture
def session(nano: SAM2) -> Session:
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


def test_frames_have_their_masks_and_prompts(session: Session, nano: SAM2) -> None:
    VideoPredictor(nano).add_points(session, 4, "square", [[80, 10], [10, 55]], [1, 0])
    VideoPredictor(nano).add_box(session, 4, "square", [40, 20, 70, 50])
    figure = show_strip(session, [0, 2, 5, 4])
    first, second, last, prompted = (axis.images[0].get_array() for axis in figure.axes)
    assert [axis.get_title() for axis in figure.axes] == ["frame 0", "frame 2", "frame 5", "frame 4"]
    assert np.allclose(first[30, 20], half(0, 230), atol=1)
    assert np.allclose(second[30, 70], half(1, 60), atol=1)
    assert (second[30, 20] == 230).all(), "the first object has no answer there"
    assert (last == session.clip.frame(5)).all(), "nothing is known of it, nothing is tracked"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["square", "7"]
    assert (prompted[10, 80] == 255).all() and (prompted[55, 10] == 255).all(), "their signs are white"
    assert (prompted[13, 82] == [0, 170, 80]).all() and (prompted[58, 12] == [220, 40, 40]).all()
    assert (prompted[20, 40:70] > 200).all(), "the box"


def test_lanes_say_where_an_object_is(session: Session) -> None:
    lanes = show_presence(session).axes[0]
    bars = [(round(bar.get_x() + 0.5), bar.get_y()) for bar in lanes.patches]
    assert bars == [(0, 0), (2, 1)], "frames that are prompted, in their lanes"
    assert [line.get_xdata().tolist() for line in lanes.lines[:2]] == [[0], [2]]
    assert [tick.get_text() for tick in lanes.get_yticklabels()] == ["square", "7"]
    assert lanes.get_ylim()[0] > lanes.get_ylim()[1], "the first object is on top"
    assert lanes.get_xlim() == (-0.5, 5.5)


def test_height_and_colour_of_a_bar_say_the_state(session: Session, nano: SAM2) -> None:
    session.remove_object(7)
    assert len(list(VideoPredictor(nano).propagate(session))) == 6
    track = session.objects["square"]
    absent = {f: replace(r, object_score=-3.0, prompted=False) for f, r in track.tracked.items()}
    for limits, tracked, height in (
        (QualityLimits(min_iou=0, max_change=99), track.tracked, 0.7),
        (QualityLimits(min_iou=1.1), track.tracked, 0.35),
        (QualityLimits(), absent, 0.1),
    ):
        track.tracked = tracked
        bars = show_presence(session, limits).axes[0].patches
        heights = {round(bar.get_x() + 0.5): round(bar.get_height(), 3) for bar in bars}
        assert heights == {0: 0.7} | dict.fromkeys(range(1, 6), height)
        assert (bars[0].get_facecolor() == bars[1].get_facecolor()) == (height != 0.1)


def test_many_objects_and_none(session: Session, nano: SAM2) -> None:
    for number in range(8, 8 + len(PALETTE)):
        VideoPredictor(nano).add_points(session, 0, number, [[5, 5]])
    handles = show_strip(session, [0]).legends[0].get_patches()
    assert handles[0].get_facecolor() == handles[len(PALETTE)].get_facecolor(), "the colours begin again"
    with pytest.raises(IndexError, match="frames are 0 to 5"):
        show_strip(session, [6])
    with pytest.raises(ValueError, match="no frames to show"):
        show_strip(session, [])
    session.reset()
    with pytest.raises(ValueError, match="no object"):
        show_presence(session)
