"""Shown once, followed to the end: by hand with a fake tracker, and with a model; two models side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from sam2kit.data.sample import LabelledFrames, SampleInMemory
from sam2kit.evaluation.clicks import picture_rows
from sam2kit.evaluation.metrics import AFTER_FIRST, Scoring, region_similarity
from sam2kit.evaluation.semi_supervised import (
    FIRST_PROMPTS,
    SHORT_LIST,
    SampleFrames,
    TrackingProtocol,
    compare,
    evaluate_clips,
    track_rows,
    track_scores,
)
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from tests.evaluation.samples_in_memory import MemoryClip, moving_square

WHOLE_VIDEO, ALL = (Scoring(starts, skip_first=False, skip_last=False) for starts in ("video", "seen"))


@dataclass
class FakeAnswer:
    frame_index: int
    masks: dict[str, np.ndarray]

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return iter(self.masks.items())


class FakePredictor:
    """Shows the truth, except on the frames that `wrong` lists for an object."""

    def __init__(self, sample: MemoryClip, wrong: dict[int, dict[int, np.ndarray]]) -> None:
        self.sample, self.wrong = sample, wrong
        self.prompts: list[tuple[int, int]] = []

    def open(self, clip: SampleFrames) -> list:
        assert len(clip) == self.sample.frame_count
        return self.prompts

    def add_mask(self, session: list, frame: int, name: str, mask: np.ndarray) -> None:
        object_id = int(name.removesuffix(" by mask"))
        assert np.array_equal(mask, self.sample.masks[object_id][frame])
        session.append((frame, object_id))

    def propagate(self, session: list, start: None, direction: str) -> Iterator[FakeAnswer]:
        assert (start, direction) == (None, "forward")
        for t in range(min(f for f, _ in session), self.sample.frame_count):
            there = [i for f, i in session if f <= t]
            yield FakeAnswer(t, {f"{i} by mask": self.wrong.get(i, {}).get(t, self.sample.masks[i][t]) for i in there})


def test_by_hand() -> None:
    sample = moving_square(8, late=3)
    nothing = np.zeros((40, 60), bool)
    sample.masks[1][6] = False  # hidden there
    predictor = FakePredictor(sample, {1: {2: nothing, 6: sample.masks[1][5]}, 2: {7: nothing}})
    rows = track_rows(predictor, sample, TrackingProtocol())
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
    sample.known = (1, 4, 6, 7)
    predictor = FakePredictor(sample, {1: {5: np.zeros((40, 60), bool)}})
    (row,) = track_rows(predictor, sample, TrackingProtocol())
    assert predictor.prompts == [(1, 1)]
    assert (row.scores["J"], row.scores["frames"]) == (1, 2)


def test_frames_before_the_first_object_count_where_the_whole_video_does() -> None:
    sample = moving_square(6, late=3)
    del sample.masks[1]
    predictor = FakePredictor(sample, {2: {4: np.zeros((40, 60), bool)}})
    (row,) = track_rows(predictor, sample, TrackingProtocol(scoring=WHOLE_VIDEO))
    assert (row.scores["frames"], row.scores["J"]) == (6, pytest.approx(5 / 6))
    (row,) = track_rows(FakePredictor(sample, predictor.wrong), sample, TrackingProtocol())
    assert (row.scores["frames"], row.scores["J"]) == (2, pytest.approx(1 / 2))


@pytest.mark.parametrize("prompt", FIRST_PROMPTS)
def test_with_a_model(toy: SAM2, prompt: str) -> None:
    """The same masks as when the predictor is asked by hand, and objects do not disturb each other."""
    sample = moving_square(5, late=2)
    protocol = TrackingProtocol(prompt, scoring=ALL)
    rows = track_rows(protocol.predictor(toy), sample, protocol)
    alone = MemoryClip("clip", LabelledFrames(sample.frames, {2: sample.masks[2]}))
    (only,) = track_rows(protocol.predictor(toy), alone, protocol)
    assert rows[1].scores == pytest.approx(only.scores, abs=1e-6)
    if prompt == "mask":
        predictor = protocol.predictor(toy)
        session = predictor.open(sample.frames)
        predictor.add_mask(session, 0, 1, sample.masks[1][0])
        pairs = zip([frame.mask(1) for frame in predictor.propagate(session)], sample.masks[1], strict=True)
        assert rows[0].scores["J"] == pytest.approx(np.mean([region_similarity(*pair) for pair in pairs]))


def test_without_overlaps(toy: SAM2) -> None:
    """Two objects that are the same: with overlaps both are right on the first frame, else only one of them."""
    sample = moving_square(3)
    sample.masks[2] = sample.masks[1].copy()
    protocol = TrackingProtocol(scoring=ALL)
    first, second = track_rows(protocol.predictor(toy), sample, protocol)
    assert first.scores == second.scores
    assert first.scores["J"] > 0.2
    protocol = TrackingProtocol(non_overlap=True, scoring=ALL)
    winner, loser = track_rows(protocol.predictor(toy), sample, protocol)
    assert winner.scores["J"] == first.scores["J"]
    assert loser.scores["J"] == 0


def test_what_does_not_work(toy: SAM2) -> None:
    with pytest.raises(ValueError, match="prompt must be one of mask"):
        TrackingProtocol("wink")
    empty = moving_square(3)
    empty.masks[1][:] = False
    with pytest.raises(ValueError, match="clip has no object"):
        track_rows(TrackingProtocol().predictor(toy), empty, TrackingProtocol())


def test_kinds_of_prompts_share_one_pass(toy: SAM2) -> None:
    sample = moving_square(4)
    predictor = TrackingProtocol().predictor(toy)
    for prompt, objects in track_scores(predictor, sample, SHORT_LIST, AFTER_FIRST).items():
        (row,) = track_rows(predictor, sample, TrackingProtocol(prompt, scoring=AFTER_FIRST))
        score, presence = objects[1]
        assert score.as_scores() | presence.as_scores() == pytest.approx(row.scores, abs=1e-6)


def test_the_short_list(toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = moving_square(6, late=0).labelled
    clip.masks[2][4:] = False  # gone at the end
    assert evaluate_clips(toy, [clip])["mask"] < 0.7

    def perfect(_: object, sample: SampleInMemory, *__: object) -> Iterator[tuple[int, dict]]:
        for t in range(sample.frame_count):
            yield t, {prompt: {i: m[t] for i, m in sample.labelled.masks.items()} for prompt in SHORT_LIST}

    monkeypatch.setattr("sam2kit.evaluation.semi_supervised.tracked_masks", perfect)
    scores = evaluate_clips(toy, [clip])
    assert scores["mask"] == scores["box_j"] == scores["present_recall"] == scores["absent_recall"] == 1.0
    assert 0 < scores["copied"] < 1
    with pytest.raises(ValueError, match="no object"):
        evaluate_clips(toy, [])


@pytest.fixture
def picture() -> LabelledFrames:
    """A disc and a bar, and a mask without any pixel."""
    ys, xs = np.mgrid[:96, :128]
    disc, bar = (ys - 40) ** 2 + (xs - 30) ** 2 < 20**2, (xs > 80) & (xs < 100) & (ys > 10) & (ys < 80)
    image = np.full((96, 128, 3), 60, np.uint8)
    image[disc], image[bar] = (220, 60, 40), (40, 200, 90)
    return LabelledFrames.of_picture(image, [disc, np.zeros_like(disc), bar])


def test_before_and_after(nano: SAM2, toy: SAM2, picture: LabelledFrames) -> None:
    before, after = ImagePredictor(toy), ImagePredictor(nano)
    compared = compare(SampleInMemory("deep/it", picture), before, after)
    assert compared.name == "it" and len(compared.truths) == 2
    assert [c.point_xy for c in compared.before] == [c.point_xy for c in compared.after]
    assert [c.iou for c in compared.after] == [row.scores["click1"] for row in picture_rows(after, "it", picture)]
    for click, truth in zip(compared.after, compared.truths, strict=True):
        assert truth[click.point_xy[1], click.point_xy[0]] and click.iou == region_similarity(click.mask, truth)
    assert 0 <= compared.mean_before < compared.mean_after <= 1
    empty = LabelledFrames.of_picture(picture.image, [np.zeros((96, 128), bool)])
    with pytest.raises(ValueError, match="it has no object"):
        compare(SampleInMemory("it", empty), before, after)


def test_clips_are_compared_behind_their_middle(nano: SAM2, toy: SAM2) -> None:
    sample = moving_square(6)
    compared = compare(sample, ImagePredictor(toy), ImagePredictor(nano))
    assert compared.name == "clip, frame 4" and not compared.clicked_here
    assert np.array_equal(compared.truths[0], sample.masks[1][4])
    (row,) = track_rows(TrackingProtocol().predictor(nano), sample, TrackingProtocol("click"))
    assert compared.mean_after == compared.after[0].iou > 0 and row.scores["J"] > 0
