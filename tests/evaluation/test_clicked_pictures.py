"""Clicks in the middle of the error, against golden values of the official code; and click by click, in pictures."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
import torch

from sam2kit.evaluation.clicks import (
    Click,
    calibration,
    centre_click,
    click_scores,
    clicks_on,
    clicks_until_right,
    picture_rows,
    tight_boxes,
)
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.evaluation.reports import ObjectRow, means_of
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from tests.evaluation.samples_in_memory import pictures
from tests.golden.training import recipes
from tests.golden_models import GOLDEN

PICTURE = pictures(1)[0].labelled
CLICKS = json.loads((GOLDEN / "training" / "clicks.json").read_text())["center"]


@pytest.mark.parametrize("name", CLICKS)
def test_centre_clicks(name: str) -> None:
    truth, prediction = recipes.click_pairs()[name]
    (x, y), label = centre_click(truth, prediction)
    assert ([x, y], label) == (CLICKS[name]["xy"], CLICKS[name]["label"])
    assert centre_click(truth) == centre_click(truth, np.zeros_like(truth)), "the first click expects everything"


def test_tight_boxes() -> None:
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 4:9, 6] = True
    assert tight_boxes(masks).tolist() == [[6, 4, 6, 8], [0, 0, 29, 19]]


def test_clicks_are_those_of_a_person_and_rows_their_scores(toy: SAM2) -> None:
    predictor = ImagePredictor(toy)
    embedding, truth = predictor.encode(PICTURE.image), PICTURE.picture_masks[0]
    point, label = centre_click(truth)
    first = predictor.predict(embedding, Prompt([point], [label]))
    shown = first.best().masks[0, 0].numpy()
    again, more = centre_click(truth, shown)
    second = predictor.predict(embedding, Prompt([point, again], [label, more], mask_logits=first.best().low_res[0]))
    scores = click_scores(clicks_until_right(clicks_on(predictor, embedding, truth), 2), truth)
    assert scores["click1"] == region_similarity(shown, truth)
    assert scores["click2"] == region_similarity(second.masks[0, 0].numpy(), truth)
    assert scores["best_of_3"] == max(region_similarity(m.numpy(), truth) for m in first.masks[0])
    assert scores["missed"] == float(first.object_score.item() <= 0)
    picture = PICTURE.of_picture(PICTURE.image, [truth, np.zeros((40, 60), bool), PICTURE.picture_masks[1]])
    rows = picture_rows(predictor, "p", picture, 2)
    assert [r.object_id for r in rows] == ["0", "2"], "empty masks are passed over"
    assert rows[0].scores.items() >= scores.items()


@pytest.mark.parametrize(
    ("ious", "wanted"),
    [
        ((0.5, 0.86, 0.84, 0.9), {"NoC@85": 2, "NoC@90": 4, "NoF@90": 0}),
        ((0.5, 0.6, 0.6, 0.6), {"NoC@85": 4, "NoC@90": 4, "NoF@90": 1}),
        ((0.5, 1.0), {"NoC@85": 2, "NoC@90": 2, "NoF@90": 0, "click4": 1.0}),  # nothing is left to correct
    ],
)
def test_number_of_clicks(toy: SAM2, ious: tuple[float, ...], wanted: dict[str, float]) -> None:
    predictor = ImagePredictor(toy)
    answer = predictor.predict(predictor.encode(PICTURE.image), Prompt([(9, 9)]))
    truth = PICTURE.picture_masks[0]
    given = (Click((9, 9), 1, truth, iou, answer) for iou in ious)
    scores = click_scores(clicks_until_right(given, 4), truth)
    assert wanted.items() <= scores.items()
    assert scores["predicted_iou_error"] == pytest.approx(abs(scores["predicted_iou"] - ious[0]))


def test_boundaries_are_those_of_the_clicks(toy: SAM2) -> None:
    predictor, truth = ImagePredictor(toy), PICTURE.picture_masks[0]
    row = picture_rows(predictor, "p", PICTURE, 2, boundaries=True)[0].scores
    masks = [click.mask for click in islice(clicks_on(predictor, predictor.encode(PICTURE.image), truth), 2)]
    assert [row["click1_f"], row["click2_f"]] == [boundary_accuracy(mask, truth) for mask in masks]
    assert 0 <= row["box_f"] <= 1


def test_missed_objects_count(toy: SAM2) -> None:
    last = toy.sam_mask_decoder.pred_obj_score_head.layers[-1]
    torch.nn.init.zeros_(last.weight)
    for bias, missed in ((-1, 1), (1, 0)):
        torch.nn.init.constant_(last.bias, bias)
        assert means_of(picture_rows(ImagePredictor(toy), "p", PICTURE))["missed"] == missed


def test_calibration() -> None:
    pairs = [(0.05, 0.5), (0.81, 0.7), (0.89, 0.9), (1.0, 1.0)]
    rows = [ObjectRow("p", str(i), {"predicted_iou": p, "click1": a}) for i, (p, a) in enumerate(pairs)]
    found = [(b.low, b.high, b.objects) for b in calibration(rows)]
    assert found == [(0.0, 0.1, 1), (0.8, 0.9, 2), (0.9, 1.0, 1)]
    assert (calibration(rows)[1].predicted, calibration(rows)[1].actual) == pytest.approx((0.85, 0.8))
