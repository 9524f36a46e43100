"""supervision's annotators in our colours, on RGB pictures."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv

from sam2kit.media.drawing import colour_of
from sam2kit.plots.annotating import annotate

GREY = np.full((120, 160, 3), 90, np.uint8)
BOXES = np.array([[10, 40, 50, 100], [80, 40, 140, 100]], np.float32)


def found(**fields: np.ndarray) -> sv.Detections:
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 50:90, 20:40] = masks[1, 50:90, 90:130] = True
    return sv.Detections(BOXES, masks, **fields)


def half(number: int) -> np.ndarray:
    return (90 + np.array(colour_of(number))) / 2


def test_masks_and_boxes_are_in_our_colours() -> None:
    scene = annotate(GREY, found())
    assert scene.dtype == np.uint8 and (GREY == 90).all(), "the picture is left alone"
    assert np.allclose(scene[70, 30], half(0), atol=2) and np.allclose(scene[70, 110], half(1), atol=2)
    assert np.allclose(scene[70, 80], colour_of(1), atol=2)
    assert (scene[110:] == 90).all()


def test_an_object_keeps_its_colour() -> None:
    scene = annotate(GREY, found(tracker_id=np.array([3, 1])))
    assert np.allclose(scene[70, 30], half(2), atol=2) and np.allclose(scene[70, 110], half(0), atol=2)


def test_labels_are_written_above() -> None:
    plain, labelled = annotate(GREY, found()), annotate(GREY, found(), ["cup", "spoon"])
    changed = (plain != labelled).any(axis=2)
    assert changed[20:40, 10:50].mean() > 0.3 and not changed[45:].any()


def test_boxes_alone_and_nothing_at_all() -> None:
    scene = annotate(GREY, sv.Detections(BOXES))
    assert (scene[70, 30] == 90).all() and np.allclose(scene[70, 80], colour_of(1), atol=2)
    assert (annotate(GREY, sv.Detections.empty(), []) == GREY).all()


def test_every_detection_wants_its_label() -> None:
    with pytest.raises(ValueError, match="2 detections want as many labels, got 1"):
        annotate(GREY, found(), ["cup"])


def test_a_label_stays_in_the_picture() -> None:
    in_the_corner = sv.Detections(np.array([[130, 0, 159, 60]], np.float32))
    changed = (annotate(GREY, in_the_corner) != annotate(GREY, in_the_corner, ["a long name"])).any(axis=2)
    rows, columns = changed.nonzero()
    assert np.ptp(columns) > 50, "it is wider than its box"
    assert np.ptp(rows) > 10
