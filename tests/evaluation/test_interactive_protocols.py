"""Offline and online corrections: by hand with trackers that are wrong where we say, and with a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sam2kit.evaluation.interactive import correct, interactive_rows, seconds_needed
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.video import VideoPredictor
from tests.evaluation.samples_in_memory import moving_square, square

SIZE = (40, 60)
OBJECT = square(SIZE, 10, 10, 20)
NOTHING = np.zeros(SIZE, bool)
HALF, MOST = OBJECT & (np.arange(60) < 20), OBJECT & (np.arange(60) < 26)  # IoU 0.5 and 0.8
TRUTH = {t: lambda: OBJECT for t in range(5)}


class FakeTrack:
    """Perfect on frames that corrections reach, and on `right`; elsewhere it shows `wrong`.

    Args:
        reach: how many frames after a corrected one are right too.
        clicks_to_fix: how many clicks a frame takes.
    """

    def __init__(
        self,
        *,
        right: tuple = (),
        reach: int = 0,
        wrong: Callable[[int], np.ndarray] = lambda f: NOTHING,
        clicks_to_fix: int = 1,
    ) -> None:
        self.right, self.reach, self.wrong, self.clicks_to_fix = set(right), reach, wrong, clicks_to_fix
        self.clicks: list[int] = []
        self.points: set[tuple[tuple[int, int], int]] = set()
        self.starts: list[int | None] = []

    def click(self, frame: int, point_xy: tuple[int, int], label: int) -> np.ndarray:
        self.clicks.append(frame)
        self.points.add((point_xy, label))
        if self.clicks.count(frame) >= self.clicks_to_fix:
            self.right |= set(range(frame, frame + self.reach + 1))
        return self.shown(frame)

    def shown(self, frame: int) -> np.ndarray:
        return OBJECT if frame in self.right else self.wrong(frame)

    def track(self, start: int | None) -> Iterator[tuple[int, np.ndarray]]:
        self.starts.append(start)
        yield from ((f, self.shown(f)) for f in range(start or 0, 5))


@pytest.mark.parametrize(
    ("track", "online", "frames", "curve", "clicks"),
    [
        # offline: the first of equally bad frames, then the next
        (FakeTrack(right=(1, 3)), False, 8, [3 / 5, 4 / 5, *[1] * 6], [0, 2, 4]),
        # three clicks where nothing helps
        (FakeTrack(right=(1, 2, 3, 4), clicks_to_fix=9), False, 2, [4 / 5] * 2, [0] * 6),
        # online: stops where it is bad
        (FakeTrack(reach=1), True, 8, [2 / 5, 4 / 5, *[1] * 6], [0, 2, 4]),
        (FakeTrack(), True, 2, [1 / 5, 2 / 5], [0, 1]),
        # frames that stay bad in spite of their clicks are left behind
        (FakeTrack(right=(3,), clicks_to_fix=9), True, 8, [1 / 5] * 8, [0] * 3 + [1] * 3 + [2] * 3 + [4] * 3),
    ],
)
def test_by_hand(track: FakeTrack, online: bool, frames: int, curve: list[float], clicks: list[int]) -> None:
    assert correct(track, TRUTH, online=online, frames=frames) == pytest.approx(curve)
    assert track.clicks == clicks
    assert track.points == {((19, 19), 1)}, "in the middle"
    assert track.starts == (list(dict.fromkeys(clicks)) if online else [None] * len(track.starts))


def test_what_is_worse_is_corrected_first_and_small_errors_pass_online() -> None:
    track = FakeTrack(right=(1, 2), wrong=lambda f: HALF if f == 3 else NOTHING)
    curve = correct(track, TRUTH, online=False, frames=2)
    assert track.clicks == [0, 4] and 3.5 / 5 < curve[0] < 4 / 5 and curve[1] == pytest.approx(curve[0] + 1 / 5)
    track = FakeTrack(wrong=lambda f: MOST)
    curve = correct(track, TRUTH, online=True)
    assert track.clicks == [0] and curve == [curve[0]] * 8


def test_where_nothing_is_an_empty_mask_is_perfect_and_any_other_worth_nothing() -> None:
    truth = {t: (lambda t=t: OBJECT if t < 3 else NOTHING) for t in range(5)}
    track = FakeTrack(right=(1, 2, 3))
    assert correct(track, truth, online=False, frames=1) == pytest.approx([4 / 5])


def test_what_it_costs_a_person() -> None:
    assert seconds_needed(300, 2, online=False) == pytest.approx((30 + 1 + 4.5) * 2)
    assert seconds_needed(150, 3, online=True) == pytest.approx(15 + 5.5 * 3)


@pytest.mark.parametrize("online", [False, True])
def test_with_a_model(toy: SAM2, online: bool) -> None:
    sample = moving_square(4, late=1)
    sample.known = (0, 1, 3)
    rows = interactive_rows(VideoPredictor(toy, VideoOptions(max_hole_area=0)), sample, online=online, frames=2)
    assert [r.object_id for r in rows] == ["1", "2"]
    for row, length in zip(rows, (4, 3), strict=True):  # object 2 begins on frame 1: its clip is shorter
        assert row.scores["J&F"] == pytest.approx((row.scores["J&F@1"] + row.scores["J&F@2"]) / 2)
        assert 0 <= row.scores["J&F@1"] <= 1
        assert row.scores["seconds@2"] == seconds_needed(length, 2, online=online)
