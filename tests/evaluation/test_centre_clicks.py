"""Clicks in the middle of the error, against golden values of the official code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sam2kit.evaluation.clicks import centre_click, tight_boxes
from tests.golden.training import recipes
from tests.golden_models import GOLDEN

CLICKS = json.loads((GOLDEN / "training" / "clicks.json").read_text())


@pytest.mark.parametrize("name", CLICKS["center"])
def test_centre_clicks(name: str) -> None:
    truth, prediction = recipes.click_pairs()[name]
    (x, y), label = centre_click(truth, prediction)
    assert [x, y] == CLICKS["center"][name]["xy"]
    assert label == CLICKS["center"][name]["label"]


def test_the_first_click_expects_everything() -> None:
    truth = recipes.click_pairs()["first_bean"][0]
    assert centre_click(truth) == centre_click(truth, np.zeros_like(truth))


def test_tight_boxes() -> None:
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 4:9, 6] = True
    assert tight_boxes(masks).tolist() == [[6, 4, 6, 8], [0, 0, 29, 19]]
