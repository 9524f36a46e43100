"""J and F, and which frames of a clip count: against the official evaluator's numbers, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2kit.evaluation.metrics import (
    AFTER_FIRST,
    DAVIS,
    OFFICIAL,
    YOUTUBE_VOS,
    Scoring,
    SequenceScorer,
    TrackScore,
    boundary,
    boundary_accuracy,
    boundary_reach,
    region_similarity,
)
from tests.evaluation.samples_in_memory import square
from tests.golden.training.recipes import metric_pairs
from tests.golden_models import GOLDEN

PAIRS = metric_pairs()
GOLDEN_SCORES = json.loads((GOLDEN / "training" / "metrics.json").read_text())
BOUNDARIES = np.load(GOLDEN / "training" / "boundaries.npz")


@pytest.mark.parametrize("name", list(PAIRS))
def test_against_the_official_evaluator(name: str) -> None:
    truth, prediction = (np.asarray(m).astype(bool) for m in PAIRS[name])
    wanted = GOLDEN_SCORES["pairs"][name]
    j, f = region_similarity(prediction, truth), boundary_accuracy(prediction, truth)
    if wanted["J"] is None:  # both empty: a frame that the official evaluator skips or counts as perfect
        assert (j, f) == (1, 1)
    else:
        assert j == pytest.approx(wanted["J"], abs=1e-9)
        assert f == pytest.approx(wanted["F"], abs=1e-9)
    for which, mask in (("gt", truth), ("pred", prediction)):
        key = f"{name}/{which}_boundary"
        if key in BOUNDARIES:
            bits = np.unpackbits(BOUNDARIES[key], count=mask.size).reshape(mask.shape).astype(bool)
            assert np.array_equal(boundary(mask), bits)


@pytest.mark.parametrize("seed", range(8))
def test_looking_only_around_the_masks_changes_nothing(seed: int) -> None:
    """The formula over the whole picture, written down once more."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(20, 120, 2))
    masks = np.zeros((2, height, width), bool)
    for mask in masks:
        y, x = (int(rng.integers(0, n - 4)) for n in (height, width))
        mask[y : y + int(rng.integers(3, height)), x : x + int(rng.integers(3, width))] = True
        mask &= rng.random(mask.shape) < 0.97
    gap = (np.argwhere(boundary(masks[0]))[:, None] - np.argwhere(boundary(masks[1]))[None]).astype(np.int64)
    near = (gap**2).sum(axis=2) <= boundary_reach((height, width)) ** 2
    p, c = near.any(axis=1).mean(), near.any(axis=0).mean()
    assert boundary_accuracy(*masks) == pytest.approx(2 * p * c / (p + c) if p + c else 0.0, abs=1e-12)


SIZE = (20, 30)
A, B, NONE = square(SIZE, 2, 2, 8), square(SIZE, 18, 8, 8), np.zeros(SIZE, bool)
ALL = Scoring(skip_first=False, skip_last=False)
Tracks = dict[int, np.ndarray]  # object -> bool [T, H, W]


def scores_of(masks: Tracks, truths: Tracks, scoring: Scoring, void: np.ndarray | None = None) -> dict[int, TrackScore]:
    scorer = SequenceScorer(scoring)
    for t in scoring.counted(len(next(iter(truths.values())))):
        scorer.add({i: m[t] for i, m in masks.items()}, {i: m[t] for i, m in truths.items()}, void)
    return scorer.scores({i for i, m in truths.items() if m.any()})


@pytest.mark.parametrize(
    ("scoring", "frames", "region"),
    [  # truth from frame 2 on, prediction from frame 1 on and never wrong else
        (OFFICIAL, 4, 3 / 4),  # frames 1 to 4, the first of them wrong
        (ALL, 5, 4 / 5),
        (YOUTUBE_VOS, 4, 1.0),  # frames 2 to 5
        (DAVIS, 4, 3 / 4),
        (Scoring("video", skip_first=False, skip_last=False), 6, 5 / 6),
        (AFTER_FIRST, 5, 4 / 5),
    ],
)
def test_where_counting_begins(scoring: Scoring, frames: int, region: float) -> None:
    truth = np.stack([A & (t >= 2) for t in range(6)])
    mask = np.stack([A & (t >= 1) for t in range(6)])
    score = scores_of({1: mask}, {1: truth}, scoring)[1]
    assert (score.frames, score.region) == (frames, pytest.approx(region))


def test_objects_that_are_not_predicted_or_seen_only_on_the_ends() -> None:
    """The SA-V evaluator has no score for the latter; the DAVIS tool counts the empty frames between."""
    always, ends = np.stack([A] * 4), np.stack([B, NONE, NONE, B])
    assert {i: s.overall for i, s in scores_of({1: always}, {1: always, 2: always}, OFFICIAL).items()} == {1: 1, 2: 0}
    assert set(scores_of({1: always}, {1: always, 2: ends}, OFFICIAL)) == {1}
    assert scores_of({1: always}, {1: always, 2: ends}, DAVIS)[2] == TrackScore(1.0, 1.0, 2)
    for scoring in (OFFICIAL, DAVIS):
        assert scores_of({1: always[:2]}, {1: always[:2]}, scoring) == {}, "no frame between the ends"


def test_void_pixels_do_not_count() -> None:
    truths, masks = {1: np.stack([A] * 4)}, {1: np.stack([A | B] * 4)}
    assert scores_of(masks, truths, OFFICIAL)[1].region == pytest.approx(0.5)
    assert scores_of(masks, truths, OFFICIAL, void=B)[1].overall == 1.0
