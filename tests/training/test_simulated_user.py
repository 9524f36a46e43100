"""The simulated user: clicks and boxes against golden values of the official code, and its plans."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from sam2kit.evaluation.clicks import tight_boxes
from sam2kit.training.sampling import (
    PromptPlan,
    PromptSampling,
    group_by_plan,
    move_corners,
    sample_prompts,
    uniform_clicks,
)
from tests.golden.training import recipes
from tests.golden_models import GOLDEN, compare

CLICKS = json.loads((GOLDEN / "training" / "clicks.json").read_text())
STATISTICS = json.loads((GOLDEN / "training" / "prompt_statistics.json").read_text())
DRAWS = 20_000


@pytest.mark.parametrize("name", [n for n in CLICKS["boxes"] if n != "empty"])
def test_boxes(name: str) -> None:
    mask, wanted = recipes.box_masks()[name], CLICKS["boxes"][name]
    boxes = tight_boxes(torch.from_numpy(mask)[None])
    assert boxes[0].tolist() == wanted["tight"]
    moved = move_corners(boxes, mask.shape, torch.tensor([wanted["uniform01"]]))
    compare("boxes: moved corners [pixels]", moved[0], np.array(wanted["noised"]), 1e-3)


def test_an_absent_object_has_no_inverted_box() -> None:
    boxes = move_corners(tight_boxes(torch.zeros(3, 20, 30, dtype=torch.bool)), (20, 30), torch.rand(3, 4))
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


@pytest.mark.parametrize("frames", [8, 1])
def test_the_published_frequencies(frames: int) -> None:
    rng = np.random.default_rng(42)
    first, joint = Counter(), Counter()
    sampling, present = PromptSampling(plans=1), np.ones((frames, 1), bool)
    for _ in range(DRAWS):
        plan = sample_prompts(sampling, present, rng)[0]
        first[{"click": "point"}.get(plan.prompts[0][1], plan.prompts[0][1])] += 1
        by = "mask" if plan.prompts[0][1] == "mask" else "click_or_box"
        joint[f"{by} init={len(plan.prompts)} corrected={len(plan.corrections)}"] += 1
    golden = STATISTICS[f"T={frames}"]
    for counted, wanted in ((first, golden["first_frame_prompt"]), (joint, golden["joint"])):
        assert counted.keys() <= wanted.keys()
        for name, share in wanted.items():
            # both are samples of 20,000: five standard deviations of their difference
            assert counted[name] / DRAWS == pytest.approx(share, abs=0.025), name


def test_what_plans_are_like() -> None:
    """A batch shares one only if told so; boxes are of what is there; prompted frames come first; masks stay."""
    present = np.ones((8, 30), bool)
    assert len(group_by_plan(sample_prompts(PromptSampling(plans=1), present, np.random.default_rng(0)))) == 1
    groups = group_by_plan(sample_prompts(PromptSampling(plans=20), present, np.random.default_rng(0)))
    assert len(groups) > 5
    assert sorted(n for rows in groups.values() for n in rows) == list(range(30))
    present = np.zeros((4, 50), bool)
    present[0] = True
    for seed in range(20):
        for plan in sample_prompts(PromptSampling(mask=0, box=1), present, np.random.default_rng(seed)):
            assert plan.prompts[0] == (0, "box")
            assert all(kind == "click" for t, kind in plan.prompts if t)
    assert PromptPlan(((0, "click"), (3, "box")), ((0, 7),)).order(5) == [0, 3, 1, 2, 4]
    plans = sample_prompts(PromptSampling(mask=1), np.ones((8, 20), bool), np.random.default_rng(0))
    assert all(not plan.corrections and {k for _, k in plan.prompts} == {"mask"} for plan in plans)
