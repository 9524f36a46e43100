"""J and F against the official evaluator's numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2kit.training.metrics import boundary, boundary_accuracy, region_similarity
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
