"""Which frames count: against the official evaluator's numbers, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2kit.evaluation.vos import DAVIS, OFFICIAL, YOUTUBE_VOS, Scoring, vos_scores
from tests.evaluation.samples_in_memory import square
from tests.golden.training.recipes import metric_sequences
from tests.golden_models import GOLDEN

WANTED = json.loads((GOLDEN / "training" / "metrics.json").read_text())["sequences"]
SIZE = (20, 30)
A, B, NONE = square(SIZE, 2, 2, 8), square(SIZE, 18, 8, 8), np.zeros(SIZE, bool)


def by_object(labels: list[np.ndarray]) -> dict[int, np.ndarray]:
    stack = np.stack(labels)
    return {int(i): stack == i for i in np.unique(stack) if i}


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("video", ["both", "late", "extra"])
def test_label_sequences(video: str, skip: bool) -> None:
    truth, prediction = metric_sequences("davis")[video]
    wanted = WANTED[f"davis/skip={skip}"]["objects"][video]
    masks, truths = (by_object([files[name] for name in sorted(truth)]) for files in (prediction, truth))
    found = vos_scores(masks, truths, Scoring(skip_ends=skip))
    assert {str(i) for i in found} == set(wanted)
    for i, score in found.items():
        assert (100 * score.region, 100 * score.boundary) == pytest.approx(wanted[str(i)], abs=1e-9)
        assert score.overall == pytest.approx((score.region + score.boundary) / 2)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("video", ["v0", "v1"])
def test_sequences_of_single_objects(video: str, skip: bool) -> None:
    truth, prediction = metric_sequences("sav")[video]
    for name, wanted in WANTED[f"sav/skip={skip}"]["objects"][video].items():
        frames = [f for f in sorted(truth) if f.startswith(name + "/")]
        masks, truths = ({0: np.stack([files[f] > 0 for f in frames])} for files in (prediction, truth))
        (score,) = vos_scores(masks, truths, Scoring(skip_ends=skip)).values()
        assert (100 * score.region, 100 * score.boundary) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("scoring", "frames", "region"),
    [  # truth from frame 2 on, prediction from frame 1 on and never wrong else
        (OFFICIAL, 4, 3 / 4),  # frames 1 to 4, the first of them wrong
        (Scoring(skip_ends=False), 5, 4 / 5),
        (YOUTUBE_VOS, 4, 1.0),  # frames 2 to 5
        (DAVIS, 4, 3 / 4),
        (Scoring("video", skip_ends=False), 6, 5 / 6),
    ],
)
def test_where_counting_begins(scoring: Scoring, frames: int, region: float) -> None:
    truth = np.stack([A & (t >= 2) for t in range(6)])
    mask = np.stack([A & (t >= 1) for t in range(6)])
    score = vos_scores({1: mask}, {1: truth}, scoring)[1]
    assert (score.frames, score.region) == (frames, pytest.approx(region))


def test_an_object_seen_only_on_the_ends() -> None:
    """The SA-V evaluator has no score for it; the DAVIS tool counts the empty frames between."""
    truths = {1: np.stack([A] * 4), 2: np.stack([B, NONE, NONE, B])}
    assert set(vos_scores({1: truths[1]}, truths)) == {1}
    found = vos_scores({1: truths[1]}, truths, DAVIS)
    assert (found[2].region, found[2].boundary, found[2].frames) == (1.0, 1.0, 2)


def test_objects_that_are_not_predicted_count_zero() -> None:
    truths = {1: np.stack([A] * 4), 2: np.stack([B] * 4)}
    found = vos_scores({1: truths[1]}, truths)
    assert (found[1].overall, found[2].overall) == (1.0, 0.0)


def test_void_pixels_do_not_count() -> None:
    truths, masks = {1: np.stack([A] * 4)}, {1: np.stack([A | B] * 4)}
    assert vos_scores(masks, truths)[1].region == pytest.approx(0.5)
    assert vos_scores(masks, truths, void=np.stack([B] * 4))[1].overall == 1.0


def test_a_clip_of_two_frames_has_no_frame_between_its_ends() -> None:
    truths = {1: np.stack([A, A])}
    assert vos_scores(truths, truths) == {}
    assert vos_scores(truths, truths, DAVIS) == {}


def test_what_does_not_fit() -> None:
    truths = {1: np.stack([A] * 4)}
    with pytest.raises(ValueError, match="30x20"):
        vos_scores({1: np.zeros((4, 9, 9), bool)}, truths)
    with pytest.raises(ValueError, match="one length"):
        vos_scores({1: truths[1][:3]}, truths)
    with pytest.raises(ValueError, match="no true mask"):
        vos_scores({}, {})
    with pytest.raises(ValueError, match="starts must be"):
        Scoring("sometimes")
