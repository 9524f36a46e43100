"""Click by click, in pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2kit.evaluation.clicks import centre_click
from sam2kit.evaluation.metrics import region_similarity
from sam2kit.evaluation.pictures import (
    ClickCurve,
    calibration,
    click_curve,
    curve_scores,
    evaluate_pictures,
    picture_rows,
    score_picture,
)
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from tests.evaluation.samples_in_memory import pictures

PICTURE = pictures(1)[0].picture


def test_a_curve_is_what_a_person_would_get(toy: SAM2) -> None:
    predictor = ImagePredictor(toy)
    embedding = predictor.encode(PICTURE.image)
    truth = PICTURE.masks[0]
    curve = click_curve(predictor, embedding, truth, 2)
    point, label = centre_click(truth)
    first = predictor.predict(embedding, Prompt([point], [label]))
    shown = first.best().masks[0, 0].numpy()
    again, more = centre_click(truth, shown)
    second = predictor.predict(embedding, Prompt([point, again], [label, more], mask_logits=first.best().low_res[0]))
    assert curve.ious == (
        region_similarity(shown, truth),
        region_similarity(second.masks[0, 0].numpy(), truth),
    )
    assert curve.best_of_3 == max(region_similarity(m.numpy(), truth) for m in first.masks[0])
    assert curve.present == (first.object_score.item() > 0)


def test_means_are_those_of_the_rows(toy: SAM2) -> None:
    found = [p.picture for p in pictures(2)]
    scores = evaluate_pictures(toy, found)
    assert list(scores) == [
        "click1", "best_of_3", "click3", "click5", "box", "predicted_iou_error", "missed", "objects",
    ]  # fmt: skip
    rows = [r for i, p in enumerate(found) for r in picture_rows(ImagePredictor(toy), str(i), p)]
    assert [(r.sample, r.object_id) for r in rows] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert scores["objects"] == len(rows)
    for name in ("click1", "best_of_3", "click3", "click5", "box", "predicted_iou_error", "missed"):
        assert scores[name] == pytest.approx(np.mean([r.scores[name] for r in rows]))


def test_empty_masks_are_passed_over(toy: SAM2) -> None:
    predictor = ImagePredictor(toy)
    picture = type(PICTURE)(PICTURE.image, [np.zeros_like(PICTURE.masks[0]), PICTURE.masks[1]])
    assert len(score_picture(predictor, picture)) == 1
    assert [r.object_id for r in picture_rows(predictor, "p", picture, 1)] == ["1"]
    with pytest.raises(ValueError, match="not empty"):
        click_curve(predictor, predictor.encode(PICTURE.image), picture.masks[0])


def test_missed_objects(toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        last = toy.sam_mask_decoder.pred_obj_score_head.layers[-1]
        last.weight.zero_()
        last.bias.fill_(-1)
    assert evaluate_pictures(toy, [PICTURE])["missed"] == 1
    with torch.no_grad():
        last.bias.fill_(1)
    assert evaluate_pictures(toy, [PICTURE])["missed"] == 0


def test_number_of_clicks() -> None:
    curve = ClickCurve((0.5, 0.86, 0.84, 0.9), best_of_3=0.7, predicted_iou=0.8, present=True)
    scores = curve_scores(curve)
    assert (scores["NoC@85"], scores["NoC@90"], scores["NoF@90"]) == (2, 4, 0)
    assert scores["predicted_iou_error"] == pytest.approx(0.3)
    never = curve_scores(ClickCurve((0.5, 0.6), 0.7, 0.8, True))
    assert (never["NoC@85"], never["NoF@90"]) == (2, 1)


def test_calibration() -> None:
    pairs = [(0.05, 0.5), (0.81, 0.7), (0.89, 0.9), (1.0, 1.0)]
    rows = [ObjectRow("p", str(i), {"predicted_iou": p, "click1": a}) for i, (p, a) in enumerate(pairs)]
    first, middle, last = calibration(rows)
    assert (first.low, first.objects, first.actual) == (0.0, 1, 0.5)
    assert (middle.low, middle.objects) == (0.8, 2)
    assert (middle.predicted, middle.actual) == pytest.approx((0.85, 0.8))
    assert (last.high, last.objects) == (1.0, 1)
