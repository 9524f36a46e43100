"""Shown once, followed to the end: by hand with a fake tracker, and with a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from sam2kit.evaluation.semi_supervised import FIRST_PROMPTS, SampleFrames, TrackingProtocol, track_sample
from sam2kit.evaluation.vos import OFFICIAL, Scoring, vos_scores
from sam2kit.model.sam2 import SAM2
from tests.evaluation.samples_in_memory import MemoryClip, moving_square


@dataclass
class FakeAnswer:
    frame_index: int
    masks: dict[int, np.ndarray]

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return iter(self.masks.items())


class FakePredictor:
    """Shows the truth, except on the frames that `wrong` lists for an object."""

    def __init__(self, sample: MemoryClip, wrong: dict[int, dict[int, np.ndarray]]) -> None:
        self.sample, self.wrong = sample, wrong
        self.prompts: list[tuple[int, int]] = []

    def open(self, clip: SampleFrames) -> list:
        assert len(clip) == self.sample.frame_count
        return self.prompts

    def add_mask(self, session: list, frame: int, object_id: int, mask: np.ndarray) -> None:
        assert np.array_equal(mask, self.sample.masks[object_id][frame])
        session.append((frame, object_id))

    def propagate(self, session: list, start: None, direction: str) -> Iterator[FakeAnswer]:
        assert (start, direction) == (None, "forward")
        for t in range(min(f for f, _ in session), self.sample.frame_count):
            there = [i for f, i in session if f <= t]
            yield FakeAnswer(t, {i: self.wrong.get(i, {}).get(t, self.sample.masks[i][t]) for i in there})


def test_by_hand() -> None:
    sample = moving_square(8, late=3)
    nothing = np.zeros((40, 60), bool)
    sample.masks[1][6] = False  # hidden there
    predictor = FakePredictor(sample, {1: {2: nothing, 6: sample.masks[1][5]}, 2: {7: nothing}})
    rows = track_sample(predictor, sample, TrackingProtocol())
    assert predictor.prompts == [(0, 1), (3, 2)]
    first, second = (r.scores for r in rows)
    assert first["frames"] == 6  # 1 to 6, of which 2 and 6 are wrong
    assert first["J"] == first["F"] == first["J&F"] == pytest.approx(4 / 6)
    assert first["present_recall"] == pytest.approx(5 / 6)  # frames 1, 3, 4, 5, 7, but not 2
    assert first["absent_recall"] == 0
    assert second["frames"] == 4  # 3 to 6
    assert second["J"] == 1
    assert second["present_recall"] == pytest.approx(3 / 4)
    assert "absent_recall" not in second


def test_only_annotated_frames_are_scored() -> None:
    sample = moving_square(8)
    sample.truth_frames = (1, 4, 6, 7)
    predictor = FakePredictor(sample, {1: {5: np.zeros((40, 60), bool)}})
    (row,) = track_sample(predictor, sample, TrackingProtocol())
    assert predictor.prompts == [(1, 1)]
    assert (row.scores["J"], row.scores["frames"]) == (1, 2)


def test_frames_before_the_first_object_count_where_the_whole_video_does() -> None:
    sample = moving_square(6, late=3)
    del sample.masks[1]
    sample.object_ids = (2,)
    predictor = FakePredictor(sample, {2: {4: np.zeros((40, 60), bool)}})
    (row,) = track_sample(predictor, sample, TrackingProtocol(scoring=Scoring("video", skip_ends=False)))
    assert (row.scores["frames"], row.scores["J"]) == (6, pytest.approx(5 / 6))
    (row,) = track_sample(FakePredictor(sample, predictor.wrong), sample, TrackingProtocol())
    assert (row.scores["frames"], row.scores["J"]) == (2, pytest.approx(1 / 2))


@pytest.mark.parametrize("prompt", FIRST_PROMPTS)
def test_with_a_model(toy: SAM2, prompt: str) -> None:
    """The same masks as when the predictor is asked by hand, and objects do not disturb each other."""
    sample = moving_square(5, late=2)
    protocol = TrackingProtocol(prompt, scoring=Scoring(skip_ends=False))
    rows = track_sample(protocol.predictor(toy), sample, protocol)
    alone = MemoryClip("clip", sample.frames, {2: sample.masks[2]})
    (only,) = track_sample(protocol.predictor(toy), alone, protocol)
    assert rows[1].scores == pytest.approx(only.scores, abs=1e-6)
    if prompt == "mask":
        predictor = protocol.predictor(toy)
        session = predictor.open(sample.frames)
        predictor.add_mask(session, 0, 1, sample.masks[1][0])
        masks = np.stack([frame.mask(1) for frame in predictor.propagate(session)])
        wanted = vos_scores({1: masks}, {1: sample.masks[1]}, protocol.scoring)[1]
        assert rows[0].scores["J&F"] == pytest.approx(wanted.overall)


def test_without_overlaps(toy: SAM2) -> None:
    """Two objects that are the same: with overlaps both are right on the first frame, else only one of them."""
    sample = moving_square(3)
    sample.masks[2] = sample.masks[1].copy()
    scoring = Scoring(skip_ends=False)
    protocol = TrackingProtocol(scoring=scoring)
    first, second = track_sample(protocol.predictor(toy), sample, protocol)
    assert first.scores == second.scores
    assert first.scores["J"] > 0.2
    protocol = TrackingProtocol(non_overlap=True, scoring=scoring)
    winner, loser = track_sample(protocol.predictor(toy), sample, protocol)
    assert winner.scores["J"] == first.scores["J"]
    assert loser.scores["J"] == 0


def test_what_does_not_work(toy: SAM2) -> None:
    with pytest.raises(ValueError, match="prompt must be one of mask"):
        TrackingProtocol("wink")
    empty = moving_square(3)
    empty.masks[1][:] = False
    with pytest.raises(ValueError, match="clip has no object"):
        track_sample(TrackingProtocol(scoring=OFFICIAL).predictor(toy), empty, TrackingProtocol())
