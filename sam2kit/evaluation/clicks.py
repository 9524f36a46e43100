"""Clicks on pictures: where a simulated user clicks, and how good each object's mask gets by it.

Every object on its own: first a click in its middle (three candidates, the best by predicted IoU is shown), then
clicks in the middle of the largest error, each with the shown logits as mask prompt; and, separately, its tight box.
Deterministic: no random number is drawn.

    centre_click, tight_boxes    the simulated user's prompts; training takes them too
    clicks_on                    clicks on one object, one by one
    picture_rows                 all figures of every object of a picture

Source: SAM 2, arXiv:2408.00714, appendix "Zero-shot image evaluation"; the centre rule of its published code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2kit.data.sample import LabelledFrames
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.evaluation.reports import ObjectRow
from sam2kit.predict.geometry import mask_boxes
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks
from sam2kit.predict.prompts import Prompt

CLICKS = 5


def centre_click(truth: np.ndarray, prediction: np.ndarray | None = None) -> tuple[tuple[int, int], int]:
    """The most interior pixel of the error.

    Args:
        truth: bool [H, W].
        prediction: bool [H, W]; None before the first click, when everything is missing.
    Returns:
        (x, y) in pixels, and the label: 1 in a missed region, 0 in a falsely covered one. A tie is negative; the
        first of several equally deep pixels wins, row by row. Without any error: (0, 0) and 0.
    """
    if prediction is None:
        prediction = np.zeros_like(truth)
    missed, extra = _depth(truth & ~prediction), _depth(prediction & ~truth)
    positive = bool(missed.max() > extra.max())
    y, x = np.unravel_index(np.argmax(missed if positive else extra), truth.shape)
    return (int(x), int(y)), int(positive)


def _depth(region: np.ndarray) -> np.ndarray:
    """Squared distance to the region's edge; the picture's border is an edge. Integers, the same on any machine."""
    padded = np.pad(region.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.rint(distance.astype(np.float64) ** 2).astype(np.int64)


def tight_boxes(truth: Tensor) -> Tensor:
    """[N, H, W] bool -> [N, 4] float32 (x0, y0, x1, y1), inclusive; an empty mask gets the whole picture."""
    boxes = mask_boxes(truth).float()
    empty = ~truth.flatten(1).any(dim=1)
    height, width = truth.shape[1:]
    boxes[empty] = torch.tensor([0, 0, width - 1, height - 1], dtype=torch.float32, device=truth.device)
    return boxes


@dataclass(frozen=True)
class Click:
    """One click, and what it led to."""

    point_xy: tuple[int, int]  # pixels of the picture
    label: int  # 1 adds to the mask, 0 takes away from it
    mask: np.ndarray  # bool [H, W] that is shown
    iou: float  # of that with the truth, 0..1
    answer: Masks | None = None  # all candidates, on a picture


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
        yield Click(point, label, mask, region_similarity(mask, truth), answer)


def one_click_masks(predictor: ImagePredictor, picture: LabelledFrames) -> list[Click]:
    """What is shown after one click in the middle of each object; empty true masks are passed over."""
    embedding = predictor.encode(picture.image)
    return [next(clicks_on(predictor, embedding, truth)) for truth in picture.picture_masks if truth.any()]


def picture_rows(
    predictor: ImagePredictor, name: str, picture: LabelledFrames, clicks: int = CLICKS, *, boundaries: bool = False
) -> list[ObjectRow]:
    """Everything about every object of a picture.

    Args:
        name: of the picture, for the rows.
        clicks: how many are given; also what NoC counts for objects that never reach its IoU.
        boundaries: add the boundary accuracy F, which takes seconds on large pictures.
    Returns:
        a row for each object that is not empty, named by its number in the picture from 0: "click1", "click2", ...,
        "best_of_3" (of three candidates, the best by truth) and "box" are IoU, 0..1; "NoC@85" and "NoC@90" numbers of
        clicks, "NoF@90" 1 if that IoU was not reached; "predicted_iou" of the mask shown after one click,
        "predicted_iou_error" its distance from the actual one; "missed" 1 if the object score then says that nothing
        is there; "click1_f", ..., "box_f" with `boundaries`, 0..1.
    Source: NoC, number of clicks: Xu et al., CVPR 2016.
    """
    embedding = predictor.encode(picture.image)
    rows = []
    for number, truth in enumerate(picture.picture_masks):
        if truth.any():
            box = Prompt(box_xyxy=tight_boxes(torch.from_numpy(truth)[None]))
            boxed = predictor.predict(embedding, box).masks[0, 0].cpu().numpy()
            shown = clicks_until_right(clicks_on(predictor, embedding, truth), clicks)
            scores = click_scores(shown, truth) | {"box": region_similarity(boxed, truth)}
            if boundaries:
                masks = {f"click{n}": click.mask for n, click in enumerate(shown, start=1)} | {"box": boxed}
                scores |= {f"{name}_f": boundary_accuracy(mask, truth) for name, mask in masks.items()}
            rows.append(ObjectRow(name, str(number), scores))
    return rows


def clicks_until_right(given: Iterator[Click], count: int) -> list[Click]:
    """So many clicks on one object; the last one again where it left nothing to correct."""
    shown = [next(given)]
    while len(shown) < count and shown[-1].iou != 1.0:
        shown.append(next(given))
    return shown + shown[-1:] * (count - len(shown))


def click_scores(shown: Sequence[Click], truth: np.ndarray) -> dict[str, float]:
    """The measures of `picture_rows` but "box", of one object that was clicked on."""
    first, ious = shown[0], [click.iou for click in shown]
    assert first.answer is not None, "clicks on pictures have candidates"
    needed = {of: next((n for n, iou in enumerate(ious, start=1) if iou >= of / 100), None) for of in (85, 90)}
    predicted = float(first.answer.best().predicted_iou[0, 0])
    return {
        **{f"click{n}": iou for n, iou in enumerate(ious, start=1)},
        "best_of_3": max(region_similarity(m, truth) for m in first.answer.masks[0].cpu().numpy()),
        **{f"NoC@{of}": float(number or len(ious)) for of, number in needed.items()},
        "NoF@90": float(needed[90] is None),
        "predicted_iou": predicted,
        "predicted_iou_error": abs(predicted - ious[0]),
        "missed": float(float(first.answer.object_score[0, 0]) <= 0),
    }


@dataclass(frozen=True)
class CalibrationBin:
    """Objects whose predicted IoU lies in a range."""

    low: float  # the range, 0..1
    high: float
    predicted: float  # mean predicted IoU after one click
    actual: float  # mean true IoU of the same masks
    objects: int


def calibration(rows: Sequence[ObjectRow], bins: int = 10) -> list[CalibrationBin]:
    """How far the predicted IoU can be trusted: predicted against actual, by equal ranges of the prediction.

    Args:
        rows: of `picture_rows`.
    Returns:
        the ranges that hold objects, in order.
    """
    predicted = np.array([r.scores["predicted_iou"] for r in rows], np.float64)
    actual = np.array([r.scores["click1"] for r in rows], np.float64)
    place = np.clip((predicted * bins).astype(int), 0, bins - 1)
    found = []
    for i in np.unique(place).tolist():
        here = place == i
        means = float(predicted[here].mean()), float(actual[here].mean())
        found.append(CalibrationBin(i / bins, (i + 1) / bins, *means, int(here.sum())))
    return found
