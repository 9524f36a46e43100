"""Offline and online corrections: by hand with trackers that are wrong where we say, and with a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sam2kit.evaluation.interactive import (
    interactive_rows,
    offline_seconds,
    online_seconds,
    pvs_offline,
    pvs_online,
)
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.video import VideoPredictor
from tests.evaluation.samples_in_memory import moving_square, square

SIZE = (40, 60)
OBJECT = square(SIZE, 10, 10, 20)
NOTHING = np.zeros(SIZE, bool)
TRUTH = {t: lambda: OBJECT for t in range(5)}


class FakeTrack:
    """Perfect on frames that corrections reach, and on `right`; elsewhere it shows `wrong`.

    Args:
        reach: how many frames after a corrected one are right too.
        clicks_to_fix: how many clicks a frame takes.
    """

    def __init__(
        self, *, right: tuple = (), reach: int = 0, wrong: np.ndarray = NOTHING, clicks_to_fix: int = 1
    ) -> None:
        self.right, self.reach, self.wrong, self.clicks_to_fix = set(right), reach, wrong, clicks_to_fix
        self.clicks: list[tuple[int, tuple[int, int], int]] = []
        self.starts: list[int | None] = []

    def click(self, frame: int, point_xy: tuple[int, int], label: int) -> np.ndarray:
        self.clicks.append((frame, point_xy, label))
        if sum(f == frame for f, _, _ in self.clicks) >= self.clicks_to_fix:
            self.right |= set(range(frame, frame + self.reach + 1))
        return self.shown(frame)

    def shown(self, frame: int) -> np.ndarray:
        return OBJECT if frame in self.right else self.wrong

    def track(self, start: int | None) -> Iterator[tuple[int, np.ndarray]]:
        self.starts.append(start)
        yield from ((f, self.shown(f)) for f in range(start or 0, 5))


def test_offline_corrects_the_worst_frame() -> None:
    track = FakeTrack(right=(1, 3))
    assert pvs_offline(track, TRUTH) == pytest.approx([3 / 5, 4 / 5, 1, 1, 1, 1, 1, 1])
    assert [f for f, _, _ in track.clicks] == [0, 2, 4]  # the first of equally bad frames
    assert track.starts == [None] * 3
    assert all(label == 1 for _, _, label in track.clicks)


def test_offline_prefers_lower_iou() -> None:
    half = square(SIZE, 10, 10, 20) & (np.arange(60) < 20)
    track = FakeTrack(right=(1, 2))
    track.shown = lambda f: OBJECT if f in track.right else half if f == 3 else NOTHING
    curve = pvs_offline(track, TRUTH, 2)
    assert [f for f, _, _ in track.clicks] == [0, 4]
    assert 3.5 / 5 < curve[0] < 4 / 5  # one frame of J 1/2 and some F, one of nothing
    assert curve[1] == pytest.approx(curve[0] + 1 / 5)


def test_three_clicks_in_the_middle_of_the_error() -> None:
    track = FakeTrack(right=(1, 2, 3, 4), clicks_to_fix=9)
    pvs_offline(track, TRUTH, 2)
    assert [f for f, _, _ in track.clicks] == [0] * 6
    assert {p for _, p, _ in track.clicks} == {(19, 19)}


def test_online_stops_where_it_is_bad() -> None:
    track = FakeTrack(reach=1)
    assert pvs_online(track, TRUTH) == pytest.approx([2 / 5, 4 / 5, 1, 1, 1, 1, 1, 1])
    assert [f for f, _, _ in track.clicks] == [0, 2, 4]
    assert track.starts == [0, 2, 4], "what was passed stays as it is"


def test_online_keeps_to_its_budget_and_lets_small_errors_pass() -> None:
    good_enough = square(SIZE, 10, 10, 20) & (np.arange(60) < 26)  # IoU 0.8
    track = FakeTrack(wrong=good_enough)
    curve = pvs_online(track, TRUTH)
    assert [f for f, _, _ in track.clicks] == [0]
    assert curve == [curve[0]] * 8
    track = FakeTrack()
    assert pvs_online(track, TRUTH, 2) == pytest.approx([1 / 5, 2 / 5])
    assert [f for f, _, _ in track.clicks] == [0, 1]


def test_online_never_goes_back() -> None:
    """Frames that stay bad in spite of their clicks are left behind."""
    track = FakeTrack(right=(3,), clicks_to_fix=9)
    assert pvs_online(track, TRUTH) == pytest.approx([1 / 5] * 8)
    assert [f for f, _, _ in track.clicks] == [0] * 3 + [1] * 3 + [2] * 3 + [4] * 3
    assert track.starts == [0, 1, 2, 4]


def test_an_absent_object() -> None:
    """Where nothing is, an empty mask is perfect and any other worth nothing."""
    truth = {t: (lambda t=t: OBJECT if t < 3 else NOTHING) for t in range(5)}
    track = FakeTrack(right=(1, 2))
    track.shown = lambda f: OBJECT if f < 4 else NOTHING
    assert pvs_offline(track, truth, 1) == pytest.approx([4 / 5])


def test_what_it_costs_a_person() -> None:
    assert offline_seconds(300, 2) == pytest.approx((30 + 1 + 4.5) * 2)
    assert online_seconds(150, 3) == pytest.approx(15 + 5.5 * 3)


@pytest.mark.parametrize("online", [False, True])
def test_with_a_model(toy: SAM2, online: bool) -> None:
    sample = moving_square(4, late=1)
    sample.truth_frames = (0, 1, 3)
    rows = interactive_rows(VideoPredictor(toy, VideoOptions(max_hole_area=0)), sample, online=online, frames=2)
    assert [r.object_id for r in rows] == ["1", "2"]
    for row, length in zip(rows, (4, 3), strict=True):  # object 2 begins on frame 1: its clip is shorter
        assert row.scores["J&F"] == pytest.approx((row.scores["J&F@1"] + row.scores["J&F@2"]) / 2)
        assert 0 <= row.scores["J&F@1"] <= 1
        assert row.scores["seconds@2"] == (online_seconds if online else offline_seconds)(length, 2)
