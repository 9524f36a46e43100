"""J and F against the official evaluator's numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2kit.evaluation.metrics import (
    boundary,
    boundary_accuracy,
    boundary_reach,
    frame_scores,
    region_similarity,
)
from tests.golden.training.recipes import metric_pairs
from tests.golden_models import GOLDEN

PAIRS = metric_pairs()
WANTED = json.loads((GOLDEN / "training" / "metrics.json").read_text())["pairs"]
BOUNDARIES = np.load(GOLDEN / "training" / "boundaries.npz")


@pytest.mark.parametrize("name", list(PAIRS))
def test_against_the_official_evaluator(name: str) -> None:
    truth, prediction = (np.asarray(m).astype(bool) for m in PAIRS[name])
    wanted = WANTED[name]
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
    height, width = (int(n) for n in rng.integers(20, 300, 2))
    masks = np.zeros((2, height, width), bool)
    for mask in masks:
        y, x = (int(rng.integers(0, n - 4)) for n in (height, width))
        mask[y : y + int(rng.integers(3, height)), x : x + int(rng.integers(3, width))] = True
        mask &= rng.random(mask.shape) < 0.97
    ours, theirs = (boundary(m) for m in masks)
    r = boundary_reach((height, width))
    gap = (np.argwhere(ours)[:, None] - np.argwhere(theirs)[None]).astype(np.int64) if ours.sum() < 4000 else None
    if gap is None:
        pytest.skip("too many pixels to compare each with each")
    near = (gap**2).sum(axis=2) <= r * r
    p, c = near.any(axis=1).mean(), near.any(axis=0).mean()
    assert boundary_accuracy(*masks) == pytest.approx(2 * p * c / (p + c) if p + c else 0.0, abs=1e-12)


def test_all_objects_of_a_frame_are_as_one_by_one() -> None:
    small = [p for p in PAIRS.values() if np.asarray(p[0]).shape == (80, 120)]
    truths, masks = (np.stack([np.asarray(p[i]).astype(bool) for p in small]) for i in (0, 1))
    region, outline = frame_scores(masks, truths)
    assert region.tolist() == [region_similarity(m, t) for m, t in zip(masks, truths, strict=True)]
    assert outline.tolist() == [boundary_accuracy(m, t) for m, t in zip(masks, truths, strict=True)]
    with pytest.raises(ValueError, match=r"\[N, H, W\]"):
        frame_scores(masks[:2], truths)
