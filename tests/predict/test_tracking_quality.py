"""What of a tracking is present, uncertain or lost."""

from __future__ import annotations

import numpy as np

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.tracking_quality import (
    LOST,
    PRESENT,
    UNCERTAIN,
    UNTRACKED,
    Reading,
    classify,
    next_trouble,
    tracking_quality,
    where_to_help,
)
from sam2kit.predict.video import VideoPredictor


def seen(area: float = 0.1, iou: float = 0.9, *, present: bool = True, prompted: bool = False) -> Reading:
    return Reading(present, iou, area, prompted)


def test_each_state_has_its_reason() -> None:
    readings = [
        seen(prompted=True, iou=0.1),  # a person looked at it
        seen(),
        seen(iou=0.3),
        seen(present=False, area=0),
        seen(area=0.1),  # back after a loss: nothing to compare with
        seen(area=0.3),  # sudden growth
        seen(area=0.29),
        seen(area=0),
        None,
        seen(area=0.0001),
        seen(area=0.001),  # specks may change size
    ]
    wanted = [PRESENT, PRESENT, UNCERTAIN, LOST, PRESENT, UNCERTAIN, PRESENT, UNCERTAIN, UNTRACKED, PRESENT, PRESENT]
    assert classify(readings).tolist() == wanted


def test_trouble_is_found_by_its_beginning_and_all_around() -> None:
    states = np.array([PRESENT, LOST, LOST, PRESENT, UNCERTAIN], np.uint8)
    assert [next_trouble([states], frame) for frame in (0, 1, 4)] == [1, 4, 1]
    assert next_trouble([np.full(3, PRESENT, np.uint8)], 0) is None


def test_help_is_wanted_where_long_stretches_begin_as_tracking_goes() -> None:
    states = np.full(100, PRESENT, np.uint8)
    states[10:14], states[50:70], states[80:84], states[95] = UNCERTAIN, LOST, UNCERTAIN, UNCERTAIN
    states[52:55] = UNCERTAIN
    assert where_to_help({"a": states}, {"a": [30]}) == [("a", 52, 20), ("a", 13, 4), ("a", 80, 4)]
    assert where_to_help({"a": states}, {"a": [0]}, most=1) == [("a", 52, 20)]
    assert where_to_help({"a": states}, {"a": [0]})[1] == ("a", 10, 4), "forwards"
    states[52] = PRESENT  # corrected
    assert where_to_help({"a": states}, {"a": [30, 52]}, {"a": [52]}) == [("a", 13, 4), ("a", 80, 4)]
    assert where_to_help({"a": states}, {"a": [30, 52]})[0] == ("a", 53, 17), "tracked again, and still uncertain"
    states[52] = UNCERTAIN
    gone = np.where(np.arange(100) >= 60, LOST, PRESENT).astype(np.uint8)
    both = where_to_help({"a": states, "b": gone}, {"a": [0], "b": [0]}, most=2)
    assert both == [("b", 79, 40), ("a", 52, 20)], "twenty of forty that may be gone"
    assert where_to_help({"a": np.array([PRESENT, LOST, UNCERTAIN, PRESENT], np.uint8)}, {"a": [0]}) == []
    assert where_to_help({"a": np.full(5, UNTRACKED, np.uint8)}, {}) == []


def test_a_session_tells_of_every_object(toy: SAM2) -> None:
    predictor = VideoPredictor(toy)
    session = predictor.open(np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8))
    predictor.add_points(session, 1, "spot", [[30, 20]])
    assert tracking_quality(session)["spot"].tolist() == [UNTRACKED, PRESENT, UNTRACKED, UNTRACKED, UNTRACKED]
    for _ in predictor.propagate(session, direction="forward"):
        pass
    states = tracking_quality(session)["spot"]
    scores = [session.masks(frame).object_scores[0] for frame in range(2, 5)]
    assert states[:2].tolist() == [UNTRACKED, PRESENT]
    assert [state == LOST for state in states[2:]] == [score <= 0 for score in scores]
