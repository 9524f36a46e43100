"""What of a tracking is present, doubtful or lost."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.health import DOUBTFUL, LOST, PRESENT, UNTRACKED, Reading, classify, health, next_trouble
from sam2kit.predict.session import VideoSession
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
    ]
    wanted = [PRESENT, PRESENT, DOUBTFUL, LOST, PRESENT, DOUBTFUL, PRESENT, DOUBTFUL, UNTRACKED]
    assert classify(readings).tolist() == wanted


def test_specks_may_change_size() -> None:
    assert classify([seen(area=0.0001), seen(area=0.001)]).tolist() == [PRESENT, PRESENT]


def test_trouble_is_found_by_its_beginning_and_all_around() -> None:
    states = np.array([PRESENT, LOST, LOST, PRESENT, DOUBTFUL], np.uint8)
    assert next_trouble([states], 0) == 1
    assert next_trouble([states], 1) == 4
    assert next_trouble([states], 4) == 1
    assert next_trouble([np.full(3, PRESENT, np.uint8)], 0) is None


@pytest.fixture
def session(toy: SAM2) -> VideoSession:
    predictor = VideoPredictor(toy)
    found = predictor.open(np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8))
    predictor.add_points(found, 1, "spot", [[30, 20]])
    return found


def test_a_session_tells_of_every_object(session: VideoSession, toy: SAM2) -> None:
    assert health(session)["spot"].tolist() == [UNTRACKED, PRESENT, UNTRACKED, UNTRACKED, UNTRACKED]
    for _ in VideoPredictor(toy).propagate(session, direction="forward"):
        pass
    states = health(session)["spot"]
    scores = [session.masks(frame).object_scores[0] for frame in range(2, 5)]
    assert states[:2].tolist() == [UNTRACKED, PRESENT]
    assert [state == LOST for state in states[2:]] == [score <= 0 for score in scores]
