"""How good is it? Clicks and boxes against true masks, the way the paper measures.

Every object on its own: first a click in its middle (three candidates, the best by predicted IoU is shown),
then clicks in the middle of the largest error, each with the shown logits as mask prompt; and, separately, its
tight box. Deterministic: no random number is drawn.

    clicks_on          the simulated user's clicks on one object, one by one
    click_curve        IoU after 1, 2, ... clicks on one object
    score_picture      the paper's figures for every object of a picture; evaluate_pictures is their mean
    picture_rows       all of it, a row for each object, with clicks needed and how well the model knows its errors

Source: SAM 2, arXiv:2408.00714, appendix "Zero-shot image evaluation".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from sam2kit.datasets.samples import LabelledPicture
from sam2kit.evaluation.clicks import centre_click, tight_boxes
from sam2kit.evaluation.metrics import region_similarity
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks
from sam2kit.predict.prompts import Prompt

CLICKS = 5
_NOC_TARGETS = (85, 90)  # percent of IoU that NoC asks for


@dataclass(frozen=True)
class ObjectScores:
    """IoU of one object after each kind of prompt, 0..1."""

    click1: float
    best_of_3: float  # the best of the three candidates by truth, which only an oracle could pick
    click3: float
    click5: float
    box: float
    predicted_iou_error: float  # |predicted - actual| of the mask shown after one click
    missed: float  # 1 if, after one click, the object score says that nothing is there, else 0


@dataclass(frozen=True)
class Click:
    """One click, and what it led to."""

    point_xy: tuple[int, int]  # pixels of the picture
    label: int  # 1 adds to the mask, 0 takes away from it
    answer: Masks  # all candidates
    mask: np.ndarray  # bool [H, W]: the candidate that is shown
    iou: float  # of that with the truth, 0..1


@dataclass(frozen=True)
class ClickCurve:
    """One object, click by click."""

    ious: tuple[float, ...]  # after 1, 2, ... clicks, 0..1; stays where nothing is left to correct
    best_of_3: float  # of the candidates after one click, the best by truth
    predicted_iou: float  # of the mask shown after one click
    present: bool  # whether the object score says, after one click, that something is there

    def clicks_needed(self, iou: float) -> int | None:
        """How many clicks it takes to reach an IoU; None if they were not enough."""
        return next((n for n, reached in enumerate(self.ious, start=1) if reached >= iou), None)


def clicks_on(predictor: ImagePredictor, embedding: ImageEmbedding, truth: np.ndarray) -> Iterator[Click]:
    """Click on one object in the middle of its largest error, again and again, without end.

    Args:
        embedding: of the picture.
        truth: bool [H, W], not empty.
    """
    points, labels = [], []
    mask = low_res = None  # what is shown
    while True:
        point, label = centre_click(truth, mask)
        points.append(point)
        labels.append(label)
        answer = predictor.predict(embedding, Prompt(points, labels, mask_logits=low_res))
        shown = answer.best()
        mask, low_res = shown.masks[0, 0].cpu().numpy(), shown.low_res[0]
        yield Click(point, label, answer, mask, region_similarity(mask, truth))


def click_curve(
    predictor: ImagePredictor, embedding: ImageEmbedding, truth: np.ndarray, clicks: int = CLICKS
) -> ClickCurve:
    """How good one object's mask gets, click by click.

    Args:
        embedding: of the picture.
        truth: bool [H, W], not empty.
        clicks: how many.
    Raises:
        ValueError: if the number of clicks is below 1 or the mask is empty.
    """
    if clicks < 1 or not truth.any():
        raise ValueError(f"a click curve needs 1 click or more and a mask that is not empty, got {clicks} clicks")
    given = clicks_on(predictor, embedding, truth)
    click = next(given)
    ious, first = [click.iou], click.answer
    while len(ious) < clicks and click.iou != 1.0:
        click = next(given)
        ious.append(click.iou)
    ious += ious[-1:] * (clicks - len(ious))  # nothing was left to correct
    return ClickCurve(
        ious=tuple(ious),
        best_of_3=max(region_similarity(m, truth) for m in first.masks[0].cpu().numpy()),
        predicted_iou=float(first.best().predicted_iou[0, 0]),
        present=float(first.object_score[0, 0]) > 0,
    )


def box_iou(predictor: ImagePredictor, embedding: ImageEmbedding, truth: np.ndarray) -> float:
    """IoU, 0..1, of the mask for the tight box around a true mask bool [H, W]."""
    box = Prompt(box_xyxy=tight_boxes(torch.from_numpy(truth)[None]))
    return region_similarity(predictor.predict(embedding, box).masks[0, 0].cpu().numpy(), truth)


def evaluate_pictures(model: SAM2, pictures: Iterable[LabelledPicture]) -> dict[str, float]:
    """Mean scores over all objects of all pictures, and "objects", their number.

    Raises:
        ValueError: if there is no object.
    """
    scores = [s for picture in pictures for s in score_picture(ImagePredictor(model), picture)]
    if not scores:
        raise ValueError("there is no object to evaluate on")
    rows = [asdict(s) for s in scores]
    return {name: float(np.mean([r[name] for r in rows])) for name in rows[0]} | {"objects": float(len(rows))}


def score_picture(predictor: ImagePredictor, picture: LabelledPicture) -> list[ObjectScores]:
    """Scores of every object in a picture; empty masks are passed over."""
    embedding = predictor.encode(picture.image)
    return [_score_object(predictor, embedding, truth) for truth in picture.masks if truth.any()]


def _score_object(predictor: ImagePredictor, embedding: ImageEmbedding, truth: np.ndarray) -> ObjectScores:
    curve = click_curve(predictor, embedding, truth)
    return ObjectScores(
        click1=curve.ious[0],
        best_of_3=curve.best_of_3,
        click3=curve.ious[2],
        click5=curve.ious[4],
        box=box_iou(predictor, embedding, truth),
        predicted_iou_error=abs(curve.predicted_iou - curve.ious[0]),
        missed=float(not curve.present),
    )


def picture_rows(
    predictor: ImagePredictor, name: str, picture: LabelledPicture, clicks: int = CLICKS
) -> list[ObjectRow]:
    """Everything about every object of a picture.

    Args:
        name: of the picture, for the rows.
        clicks: how many are given; also what NoC counts for objects that never reach its IoU.
    Returns:
        a row for each object that is not empty, named by its number in the picture from 0: "click1", "click2", ...,
        "best_of_3" and "box" are IoU, 0..1; "NoC@85" and "NoC@90" numbers of clicks, "NoF@90" 1 if that IoU was not
        reached; "predicted_iou" of the first mask, "predicted_iou_error" and "missed" as in ObjectScores.
    Source: NoC, number of clicks: Xu et al., CVPR 2016.
    """
    embedding = predictor.encode(picture.image)
    rows = []
    for number, truth in enumerate(picture.masks):
        if truth.any():
            curve = click_curve(predictor, embedding, truth, clicks)
            scores = curve_scores(curve) | {"box": box_iou(predictor, embedding, truth)}
            rows.append(ObjectRow(name, str(number), scores))
    return rows


def curve_scores(curve: ClickCurve) -> dict[str, float]:
    """What `picture_rows` says of a click curve."""
    scores = {f"click{n}": iou for n, iou in enumerate(curve.ious, start=1)}
    scores["best_of_3"] = curve.best_of_3
    for target in _NOC_TARGETS:
        scores[f"NoC@{target}"] = float(curve.clicks_needed(target / 100) or len(curve.ious))
    scores["NoF@90"] = float(curve.clicks_needed(0.9) is None)
    scores["predicted_iou"] = curve.predicted_iou
    scores["predicted_iou_error"] = abs(curve.predicted_iou - curve.ious[0])
    scores["missed"] = float(not curve.present)
    return scores


@dataclass(frozen=True)
class CalibrationBin:
    """Objects whose predicted IoU lies in a range."""

    low: float  # the range, 0..1
    high: float
    predicted: float  # mean predicted IoU after one click
    actual: float  # mean true IoU of the same masks
    objects: int


def calibration(rows: Sequence[ObjectRow], bins: int = 10) -> list[CalibrationBin]:
    """How far the predicted IoU can be trusted: predicted against actual, by ranges of the prediction.

    Args:
        rows: of `picture_rows`.
        bins: equal ranges of 0..1.
    Returns:
        the ranges that hold objects, in order.
    """
    predicted = np.array([r.scores["predicted_iou"] for r in rows], np.float64)
    actual = np.array([r.scores["click1"] for r in rows], np.float64)
    place = np.clip((predicted * bins).astype(int), 0, bins - 1)
    return [
        CalibrationBin(
            i / bins, (i + 1) / bins, float(predicted[here].mean()), float(actual[here].mean()), int(here.sum())
        )
        for i in range(bins)
        if (here := place == i).any()
    ]
