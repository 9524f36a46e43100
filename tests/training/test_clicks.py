"""Simulated clicks and boxes against golden values of the official code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sam2kit.evaluation.clicks import tight_boxes
from sam2kit.training.clicks import move_corners, noisy_boxes, uniform_clicks
from tests.golden.training import recipes
from tests.golden_models import GOLDEN, compare

CLICKS = json.loads((GOLDEN / "training" / "clicks.json").read_text())


@pytest.mark.parametrize("name", [n for n in CLICKS["boxes"] if n != "empty"])
def test_boxes(name: str) -> None:
    mask, wanted = recipes.box_masks()[name], CLICKS["boxes"][name]
    boxes = tight_boxes(torch.from_numpy(mask)[None])
    assert boxes[0].tolist() == wanted["tight"]
    moved = move_corners(boxes, mask.shape, torch.tensor([wanted["uniform01"]]))
    compare("boxes: moved corners [pixels]", moved[0], np.array(wanted["noised"]), 1e-3)


def test_an_absent_object_has_no_inverted_box() -> None:
    boxes = noisy_boxes(torch.zeros(3, 20, 30, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_uniform_clicks_fall_in_the_error_in_proportion() -> None:
    truth, prediction = (torch.from_numpy(m) for m in recipes.click_pairs()["both_fn_larger"])
    n = 4000
    clicks, labels = uniform_clicks(
        truth.expand(n, -1, -1), prediction.expand(n, -1, -1), torch.Generator().manual_seed(0), from_truth=0.0
    )
    x, y = clicks.long().T
    assert (truth ^ prediction)[y, x].all()
    assert torch.equal(labels.bool(), truth[y, x])
    missed, extra = (truth & ~prediction).sum(), (prediction & ~truth).sum()
    assert labels.float().mean().item() == pytest.approx((missed / (missed + extra)).item(), abs=0.03)


def test_a_perfect_prediction_gets_a_negative_click_outside() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    truth[0, 2:5, 2:5] = True
    clicks, labels = uniform_clicks(truth, truth.clone(), torch.Generator().manual_seed(1), from_truth=0.0)
    x, y = clicks[0].long().tolist()
    assert labels.item() == 0
    assert not truth[0, y, x]
