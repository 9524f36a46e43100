"""How well a model finds objects by itself, on pictures with true masks: mask AP as COCO counts it, and PQ.

A fine-tuned model's `Detector` is measured beside "segment everything", which needs no fine-tuning and knows no
classes. So both are measured without classes, and the detector also with them.

Source: COCO's AP by pycocotools (with up to 1,000 objects in a picture); panoptic quality, arXiv:1801.00868.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam2kit.data.coco import NAMELESS
from sam2kit.data.sample import LabelledFrames, Sample
from sam2kit.evaluation.reports import ObjectRow, Report
from sam2kit.media.mask_files import NamedMask
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask, run_steps
from sam2kit.predict.detector import Detector

LEAST_SCORE = 0.05  # of what counts for AP, which weighs recall against precision itself
_MOST = 1000  # objects of a picture
_MATCH = 0.5  # IoU above which PQ takes two masks for the same object

Progress = Callable[[int, int], None]
Objects = Sequence[NamedMask | FoundMask]  # of one picture


def true_objects(picture: LabelledFrames) -> list[NamedMask]:
    """The true masks of a picture, with their classes as names."""
    both = zip(picture.picture_masks, picture.picture_labels, strict=True)
    return [NamedMask.of(label or NAMELESS, mask) for mask, label in both]


def average_precision(
    truth: Sequence[Objects], found: Sequence[Objects], *, by_class: bool = False
) -> dict[str, float]:
    """Mask AP over IoUs of .5 to .95, and AP50, over all pictures; 0..1.

    Args:
        truth, found: of each picture.
        by_class: the mean over the true classes; else any class will do.
    """
    names = sorted({one.name for picture in truth for one in picture})
    number = {name: n for n, name in enumerate(names, start=1)}
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": n, "name": name} for name, n in number.items()]
    results: list[dict[str, Any]] = []
    for image_id, (true, answers) in enumerate(zip(truth, found, strict=True), start=1):
        content["images"].append({"id": image_id, "height": 0, "width": 0})  # not looked at: run lengths know them
        for one in true:
            about = {"id": len(content["annotations"]) + 1, "image_id": image_id, "category_id": number[one.name]}
            content["annotations"].append(about | {"segmentation": one.runs, "area": one.area, "iscrowd": 0})
        for one in answers:
            kind = number.get(one.name, 0 if by_class else 1)
            results.append({"image_id": image_id, "category_id": kind, "segmentation": one.runs, "score": one.score})
    if not results or not content["annotations"]:
        return {"AP": 0.0, "AP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        true_set = COCO()
        true_set.dataset = content
        true_set.createIndex()
        scoring = COCOeval(true_set, true_set.loadRes(results), "segm")
        scoring.params.useCats, scoring.params.maxDets = int(by_class), [1, 100, _MOST]
        scoring.evaluate()
        scoring.accumulate()
    precision = scoring.eval["precision"][:, :, :, 0, 2]  # IoU, recall, class
    known = [part[part > -1] for part in (precision, precision[0])]
    overall, at_half = (float(part.mean()) if part.size else 0.0 for part in known)
    return {"AP": overall, "AP50": at_half}


def panoptic_quality(truth: Sequence[Objects], found: Sequence[Objects]) -> float:
    """PQ over all pictures, without classes, 0..1: the mean IoU of matches, times the F1 of finding them."""
    ious, wrong = 0.0, 0.0
    matches = 0
    for true, answers in zip(truth, found, strict=True):
        table = ious_of(true, answers)
        matched = [(i, j) for i, j in zip(*np.nonzero(table > _MATCH), strict=True)]
        matched.sort(key=lambda pair: -table[pair])
        rows: set[int] = set()
        columns: set[int] = set()
        for i, j in matched:  # with masks that do not overlap there is one at most; else the best
            if i not in rows and j not in columns:
                rows.add(i)
                columns.add(j)
                ious += float(table[i, j])
        matches += len(rows)
        wrong += (len(true) - len(rows) + len(answers) - len(columns)) / 2
    return ious / max(matches + wrong, 1.0)


def ious_of(true: Objects, found: Objects) -> np.ndarray:
    """float [N, K] IoU of each true object with each that was found."""
    if not true or not found:
        return np.zeros((len(true), len(found)))
    runs, other = ([one.runs for one in objects] for objects in (true, found))
    return np.asarray(coco_masks.iou(runs, other, [0] * len(other)))


@dataclass(frozen=True)
class Found:
    """What a way of finding objects has found, by picture."""

    name: str
    all: list[Objects]  # that count for AP
    shown: list[Objects]  # that people see, which count for PQ


def evaluate_detection(
    detector: Detector,
    samples: Sequence[Sample],
    everything: AutomaticOptions | None = None,
    *,
    progress: Progress = lambda done, total: None,
    enough: Callable[[], bool] = lambda: False,
) -> Report:
    """Measure a detector on pictures, beside "segment everything".

    Args:
        detector: its `least` score is for what is shown; AP counts more.
        samples: pictures, or clips, of which the first frame with truth counts.
        everything: options of the other; None leaves it out.
        progress: gets how many samples are done, of how many.
        enough: asked after each; when it says so, no further one is begun.
    Returns:
        totals: AP and AP50 of both, without classes, AP of the detector with classes, and PQ; and for each true object
        its best IoU.
    Raises:
        ValueError: if no sample can be used.
    """
    options = detector.options
    more = Detector(
        detector.model, replace(options, least=min(LEAST_SCORE, options.least)), predictor=detector.predictor
    )
    own, other = Found("detector", [], []), Found("everything", [], [])
    truth: list[Objects] = []
    names: list[str] = []
    skipped: dict[str, str] = {}
    for number, sample in enumerate(samples):
        if truth and enough():
            break
        progress(number, len(samples))
        try:
            picture = sample.read(list(sample.truth_frames)[:1])
        except (ValueError, OSError) as error:
            skipped[sample.name] = str(error)
            continue
        truth.append(true_objects(picture))
        names.append(sample.name)
        embedding = detector.predictor.encode(picture.image)
        found = more.find(picture.image, embedding)
        own.all.append(found)
        own.shown.append([one for one in found if one.score >= options.least])
        if everything is not None:
            search = AutomaticMasks(detector.model, everything, predictor=detector.predictor)
            all_found = run_steps(search.steps(picture.image, embedding))
            masks = [NamedMask(NAMELESS, one.runs, one.predicted_iou) for one in all_found]
            other.all.append(masks)
            other.shown.append(masks)
    progress(len(samples), len(samples))
    if not truth:
        raise ValueError(f"no picture could be used; the first: {next(iter(skipped.values()), 'there is none')}")
    ways = [own, other] if everything is not None else [own]
    totals = {f"{way.name} {name}": value for way in ways for name, value in figures_of(truth, way).items()}
    if len({one.name for objects in truth for one in objects}) > 1:
        totals["detector AP50, mean of classes"] = average_precision(truth, own.all, by_class=True)["AP50"]
    rows = [row for n, name in enumerate(names) for row in _rows(name, truth[n], {w.name: w.shown[n] for w in ways})]
    return Report(f"finding objects: {len(truth)} pictures", rows, {"protocol": "detection"}, skipped, totals)


def figures_of(truth: Sequence[Objects], found: Found) -> dict[str, float]:
    """AP, AP50 and PQ, without classes."""
    return average_precision(truth, found.all) | {"PQ": panoptic_quality(truth, found.shown)}


def _rows(name: str, truth: Objects, found: dict[str, Objects]) -> list[ObjectRow]:
    """For each true object the IoU of the best mask of each way."""
    best = {way: ious_of(truth, masks).max(axis=1, initial=0.0) for way, masks in found.items()}
    return [
        ObjectRow(name, str(n), {f"{way} IoU": float(values[n - 1]) for way, values in best.items()})
        for n in range(1, len(truth) + 1)
    ]
