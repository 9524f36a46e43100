"""Losses against golden values of the official training code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sam2kit.training.losses import LossWeights, balanced_loss, loss_terms, mask_iou
from tests.golden.training import recipes
from tests.golden_models import GOLDEN, compare

FOLDER = GOLDEN / "training"
GOLDEN_LOSSES = np.load(FOLDER / "losses.npz")
TOTALS = json.loads((FOLDER / "losses.json").read_text())


def weights_of(case: str) -> LossWeights:
    options = recipes.LOSS_CASES[case]["options"]
    return LossWeights(
        object_score=1.0 if options["obj"] else 0.0,
        squared_iou=not options["iou_l1"],
        all_ious=options["supervise_all_iou"],
    )


@pytest.mark.parametrize("case", recipes.LOSS_CASES)
def test_every_term_and_gradient(case: str) -> None:
    inputs, weights = recipes.loss_inputs(case), weights_of(case)
    total = torch.zeros(())
    leaves = {}
    for t, passes in enumerate(inputs["logits"]):
        truth = torch.from_numpy(inputs["targets"][t])
        for s, logits in enumerate(passes):
            key = f"{case}/t{t}/s{s}"
            arrays = (logits, inputs["ious"][t][s], inputs["obj"][t][s])
            mask_logits, ious, score = (torch.from_numpy(a).requires_grad_() for a in arrays)
            leaves[key] = (mask_logits, ious, score)
            terms = loss_terms(mask_logits, ious, score, truth, weights)
            golden = {n: GOLDEN_LOSSES[f"{key}/{n}"] for n in ("focal", "dice", "iou_err", "actual_iou", "best")}
            scale = golden["focal"].clip(1e-6)
            compare("losses: focal, relative", terms.focal.detach().numpy() / scale, golden["focal"] / scale, 1e-4)
            compare("losses: dice", terms.dice, golden["dice"], 1e-5)
            compare("losses: actual IoU", terms.actual_iou, golden["actual_iou"], 1e-6)
            present = terms.supervised.numpy()[:, None]
            compare("losses: IoU error", terms.iou * terms.supervised[:, None], golden["iou_err"] * present, 1e-5)
            assert (terms.best.numpy() == golden["best"].ravel())[present[:, 0] > 0].all()
            total = total + terms.per_object().mean()
    wanted = TOTALS[case]["total"]["core_loss"]
    compare("losses: total, relative", total.detach() / wanted, np.ones(()), 1e-5)
    total.backward()
    for key, (mask_logits, ious, score) in leaves.items():
        compare(
            "losses: gradient of logits", mask_logits.grad[..., ::2, ::2], GOLDEN_LOSSES[f"{key}/grad_logits_s2"], 1e-5
        )
        compare("losses: gradient of IoU", ious.grad, GOLDEN_LOSSES[f"{key}/grad_iou"], 1e-5)
        if weights.object_score:
            compare("losses: gradient of object score", score.grad, GOLDEN_LOSSES[f"{key}/grad_obj"], 1e-5)


def test_balanced_loss_ignores_size() -> None:
    small, large = torch.zeros(2, 20, 20)
    small[:2, :2], large[:10] = 1, 1
    logits = torch.full((20, 20), -2.0)
    assert balanced_loss(logits, small).item() == pytest.approx(balanced_loss(logits, large).item())


def test_iou_of_empty_masks_is_zero() -> None:
    empty = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert mask_iou(empty, empty).item() == 0


def test_weights_move_from_one_to_the_other() -> None:
    start, end = LossWeights(focal=0, balanced=1), LossWeights(focal=8, balanced=0.2, squared_iou=True)
    half = start.towards(end, 0.5)
    assert (half.focal, half.balanced, half.squared_iou) == (4, pytest.approx(0.6), True)
    assert start.towards(end, 0.0) == start
