"""The figures of nano's card, on what was never trained on: clicks and boxes in pictures, tracking in clips.

    python -m sam2kit.nano.measure --photos photos --turntables turntables
    python -m sam2kit.nano.measure --answers sam2kit/nano/answers.webp
    python -m sam2kit.nano.measure --memories 20
    python -m sam2kit.nano.measure --alike --photos photos
    python -m sam2kit.nano.measure --refine 8 --photos photos

Without the two folders, which are not part of this project, their lines are left out. Any model can be measured. The
second command draws its best and worst answers to one click on the project's own photos, the third says what careful
tracking brings on so many clips with look-alikes and absences, the next one how well one of a kind finds the others,
the last what finer edges bring on so many large pictures of each kind.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import LabelledFrames, SampleInMemory
from sam2kit.evaluation.clicks import (
    Click,
    centre_click,
    clicks_on,
    clicks_until_right,
    one_click_masks,
    picture_rows,
    tight_boxes,
)
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.evaluation.reports import ObjectRow, means_of
from sam2kit.evaluation.semi_supervised import SampleFrames, TrackingProtocol, evaluate_clips
from sam2kit.media.drawing import draw_masks
from sam2kit.media.pictures import read_picture
from sam2kit.model.sam2 import SAM2
from sam2kit.nano.held_out import (
    held_out_clips,
    held_out_collages,
    held_out_photos,
    held_out_pictures,
    held_out_real_clips,
    held_out_stages,
    pasted_clips,
)
from sam2kit.nano.real_pixels import read_photo_sets
from sam2kit.predict.alike import FindAlike, look_of
from sam2kit.predict.automatic import AutomaticMasks, everything_options
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.refine import refine_masks
from sam2kit.predict.tracking_quality import PRESENT, QualityLimits, Reading, Readings, classify
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model

ASSETS = Path(__file__).parents[2] / "assets" / "photos"
PICTURE_FIGURES = {
    "click1": "1 click", "best_of_3": "best of 3", "click3": "3 clicks", "click5": "5 clicks", "box": "box",
    "click1_f": "F: 1 click", "click5_f": "5 clicks", "box_f": "box", "predicted_iou_error": "error of predicted IoU",
}  # fmt: skip
CLIP_FIGURES = {
    "mask": "J&F: mask", "click": "1 click", "box": "box", "mask_j": "J: mask", "click_j": "1 click", "box_j": "box",
    "copied": "first mask copied", "present_recall": "present", "absent_recall": "absent",
}  # fmt: skip
QUALITY_FIGURES = {"right": "called present: right", "shown": "frames called present"}
ALIKE_FIGURES = {
    "precision": "alike: precision", "recall": "recall", "other_precision": "everything of its size: precision",
    "other_recall": "recall",
}  # fmt: skip
MEMORY_FIGURES = {
    "j": "J where seen", "error": "±", "back": "10 frames after return", "fooled": "ends on the look-alike",
    "absent": "absent", "ms": "ms a frame",
}  # fmt: skip
REFINE_FIGURES = {
    "j": "J", "j_refined": "refined", "f": "F", "f_refined": "refined", "near": "F within 2 px",
    "near_refined": "refined",
}  # fmt: skip
_NEAR = 2  # pixels
_LARGE = (1024, 2048)  # pixels
_GRID = 32  # clicks a side, as published
_OF_A_KIND = ("mushrooms", "pellets", "cells", "cats")  # sets
_CHOICES = {
    "latest": VideoOptions(),
    **{f"reliable, IoU over {n}": VideoOptions(memory_selection="reliable", reliable_iou=n) for n in (0.1, 0.3, 0.5)},
    "anchored": VideoOptions(memory_selection="anchored"),
}
_SHOWN, _CELL = 10, 160  # answers of a kind on the sheet; pixels
_LIMITS, _RIGHT = (0.4, 0.5, 0.6, 0.7, 0.8), 0.5  # predicted IoU; true IoU of a mask that shows its object


def picture_figures(model: SAM2, pictures: Iterable[LabelledFrames]) -> dict[str, float]:
    """Means of PICTURE_FIGURES over all objects, and "objects", their number.

    Raises:
        ValueError: if there is no object.
    """
    rows = list(_rows(model, (("", picture) for picture in pictures)))
    return _means(rows)


def _rows(model: SAM2, pictures: Iterable[tuple[str, LabelledFrames]]) -> Iterator[ObjectRow]:
    predictor = ImagePredictor(model)
    for name, picture in pictures:
        yield from picture_rows(predictor, name, picture, boundaries=True)


def _means(rows: list[ObjectRow]) -> dict[str, float]:
    means = means_of(rows)
    return {name: means[name] for name in PICTURE_FIGURES} | {"objects": float(len(rows))}


def photo_figures(model: SAM2, folder: Path) -> dict[str, dict[str, float]]:
    """`picture_figures` of each set of held-out photographs, and their mean, in which sets count the same."""
    rows: dict[str, list[ObjectRow]] = {}
    for row in _rows(model, tqdm(held_out_photos(folder), desc="held-out photographs")):
        rows.setdefault(row.sample, []).append(row)
    sets = {name: _means(found) for name, found in rows.items()}
    mean = {name: float(np.mean([found[name] for found in sets.values()])) for name in PICTURE_FIGURES}
    return sets | {"mean of the sets": mean | {"objects": sum(found["objects"] for found in sets.values())}}


def quality_figures(model: SAM2, clips: Iterable[LabelledFrames]) -> dict[str, dict[str, float]]:
    """How far "present" can be trusted after one click, by the lowest predicted IoU that still counts as present.

    Returns:
        limit -> "right", the share of the frames called present on which the mask has an IoU of at least 0.5, "shown",
        the share of all frames that are called present, and "objects", their number.
    """
    tracked = [one for clip in clips for one in _tracked(TrackingProtocol().predictor(model), clip)]
    figures = {}
    for least in _LIMITS:
        limits = QualityLimits(min_iou=least)
        present = np.concatenate([classify(readings, limits)[1:] == PRESENT for readings, _ in tracked])
        right = np.concatenate([ious[1:] for _, ious in tracked])[present] >= _RIGHT
        shares = {"right": float(right.mean()) if len(right) else 0.0, "shown": float(present.mean())}
        figures[f"predicted IoU from {least}"] = shares | {"objects": float(len(tracked))}
    return figures


def _tracked(predictor: VideoPredictor, clip: LabelledFrames) -> Iterator[tuple[list[Reading | None], np.ndarray]]:
    """Of each object, after one click on the first frame: readings and float [T] IoU of every frame."""
    session = predictor.open(SampleFrames(SampleInMemory("clip", clip)))
    for number, masks in clip.masks.items():
        predictor.add_points(session, 0, number, *centre_click(masks[0]))
    ious = {number: np.zeros(len(clip.frames)) for number in clip.masks}
    for answer in predictor.propagate(session):
        for number, masks in clip.masks.items():
            ious[number][answer.frame_index] = region_similarity(answer.mask(number), masks[answer.frame_index])
    for number in clip.masks:
        yield Readings().of(number, session), ious[number]


def memory_figures(model: SAM2, clips: int) -> dict[str, dict[str, float]]:
    """What the choice of memories brings, on held-out clips of one factor each, tracked from the first mask.

    Returns:
        stage and choice -> means of MEMORY_FIGURES over the clips, "objects", their number, and "error", the standard
        error of the difference in "j" to the latest frames.
    """
    figures: dict[str, dict[str, float]] = {}
    for stage, some in held_out_stages(clips).items():
        rows: dict[str, list[dict[str, float]]] = {}
        for clip in tqdm(some, desc=stage, total=clips):
            for name, options in _CHOICES.items():
                rows.setdefault(name, []).append(_staged(VideoPredictor(model, options), clip))
        for name, found in rows.items():
            means = {key: float(np.nanmean([row[key] for row in found])) for key in MEMORY_FIGURES if key != "error"}
            gained = [row["j"] - before["j"] for row, before in zip(found, rows["latest"], strict=True)]
            error = float(np.std(gained) / max(len(gained) - 1, 1) ** 0.5)
            figures[f"{stage}: {name}"] = means | {"error": error, "objects": float(clips)}
    return figures


def _staged(predictor: VideoPredictor, clip: LabelledFrames) -> dict[str, float]:
    """MEMORY_FIGURES of one clip, nan where it has no such frames."""
    session = predictor.open(SampleFrames(SampleInMemory("clip", clip)))
    predictor.add_mask(session, 0, 1, clip.masks[1][0])
    begin = time.perf_counter()
    found = [answer.mask(1) for answer in predictor.propagate(session)]
    seconds = time.perf_counter() - begin
    mine = np.array([region_similarity(a, b) for a, b in zip(found, clip.masks[1], strict=True)])
    other = region_similarity(found[-1], clip.masks[2][-1]) if clip.masks[2].any() else np.nan
    seen = np.asarray(clip.masks[1].any(axis=(1, 2)))
    back = np.flatnonzero(seen & ~np.concatenate([[True], seen[:-1]]))
    return {
        "j": mine[seen].mean(),
        "back": mine[back[0] : back[0] + 10].mean() if len(back) else np.nan,
        "fooled": np.nan if np.isnan(other) else float(other > mine[-1]),
        "absent": np.nan
        if seen.all()
        else float(np.mean([not mask.any() for mask, s in zip(found, seen, strict=True) if not s])),
        "ms": 1000 * seconds / len(found),
    }


def alike_figures(model: SAM2, folder: Path) -> dict[str, dict[str, float]]:
    """How well the others of a kind are found by one of them, in held-out photographs: means of ALIKE_FIGURES.

    The example is the true mask of the object of middle size in each photograph. Beside it, "segment everything", of
    whose masks those count that are from half to twice as large.
    """
    predictor, figures = ImagePredictor(model), dict[str, dict[str, float]]()
    everything = AutomaticMasks(model, replace(everything_options(model.config), points_per_side=_GRID))
    for name, photos in read_photo_sets(folder, held_out=True).items():
        counts = np.zeros((2, 2))  # alike, everything; right, found
        others = 0
        for photo in tqdm(photos if name in _OF_A_KIND else [], desc=name):
            image, masks = read_picture(photo.path), [photo.mask(i) for i in range(len(photo.masks))]
            masks.sort(key=np.count_nonzero)
            example = masks.pop(len(masks) // 2)
            embedding, area = predictor.encode(image), np.count_nonzero(example)
            alike = [one.mask for one, _ in FindAlike(predictor, look_of(embedding, example)).find(image, embedding)]
            sized = [one.mask for one in everything.generate(image) if area / 2 <= one.area <= 2 * area]
            for row, found in zip(counts, (alike, sized), strict=True):
                new = [mask for mask in found if region_similarity(mask, example) < _RIGHT]
                row += _right(new, masks), len(new)
            others += len(masks)
        if others:
            pairs = ((right / max(number, 1), right / others) for right, number in counts)
            figures[name] = dict(zip(ALIKE_FIGURES, chain(*pairs), strict=True)) | {"objects": float(others)}
    return figures


def _right(found: list[np.ndarray], truth: list[np.ndarray]) -> int:
    """How many masks, the first ones first, find a true mask of their own."""
    left = list(range(len(truth)))
    for mask in found:
        ious = [region_similarity(mask, truth[i]) for i in left]
        if ious and max(ious) >= _RIGHT:
            left.pop(int(np.argmax(ious)))
    return len(truth) - len(left)


def refine_figures(model: SAM2, pictures: Iterable[LabelledFrames]) -> dict[str, dict[str, float]]:
    """What finer edges bring.

    Returns:
        "box" and "3 clicks" -> means of REFINE_FIGURES over all objects, and "objects", their number.
    """
    predictor, rows = ImagePredictor(model), dict[str, list[dict[str, float]]]()
    for picture in pictures:
        truths = [truth for truth in picture.picture_masks if truth.any()]
        for name, masks in _prompted_masks(predictor, picture.image, truths).items():
            finer = refine_masks(predictor, picture.image, masks)
            for truth, before, after in zip(truths, masks, finer, strict=True):
                rows.setdefault(name, []).append(_edges(truth, before) | _edges(truth, after, "_refined"))
    return {
        name: {key: float(np.mean([row[key] for row in found])) for key in REFINE_FIGURES} | {"objects": len(found)}
        for name, found in rows.items()
    }


def _prompted_masks(predictor: ImagePredictor, image: np.ndarray, truths: list[np.ndarray]) -> dict[str, np.ndarray]:
    """bool [N, H, W] of all objects of a picture, by how they were asked for."""
    if not truths:
        return {}
    embedding, boxes = predictor.encode(image), tight_boxes(torch.from_numpy(np.stack(truths)))
    boxed = predictor.predict(embedding, Prompt(box_xyxy=boxes)).masks[:, 0].cpu().numpy()
    clicked = [clicks_until_right(clicks_on(predictor, embedding, truth), 3)[-1].mask for truth in truths]
    return {"box": boxed, "3 clicks": np.stack(clicked)}


def _edges(truth: np.ndarray, mask: np.ndarray, of: str = "") -> dict[str, float]:
    f, near = boundary_accuracy(mask, truth), boundary_accuracy(mask, truth, _NEAR)
    return {f"j{of}": region_similarity(mask, truth), f"f{of}": f, f"near{of}": near}


def _large_pictures(own: list[LabelledFrames], photos: Path | None, number: int) -> dict[str, list[LabelledFrames]]:
    sets = {f"painted scenes, {side} px": list(held_out_pictures(number, side=side)) for side in _LARGE}
    sets["`assets/photos`, 451 to 705 px"] = own
    if photos:
        sets["16 held-out photographs together, 1536 px"] = list(held_out_collages(photos, number))
    return sets


def answers_sheet(model: SAM2, pictures: Iterable[LabelledFrames]) -> np.ndarray:
    """The ten best and, below, the ten worst answers to one click on an object: uint8 [H, W, 3], with their IoUs."""
    predictor = ImagePredictor(model)
    found = [(click.iou, p.image, click) for p in pictures for click in one_click_masks(predictor, p)]
    found.sort(key=lambda one: -one[0])
    cells = [_cell(image, click) for _, image, click in found[:_SHOWN] + found[-_SHOWN:]]
    return np.concatenate([np.concatenate(cells[i : i + 5], axis=1) for i in range(0, len(cells), 5)])


def _cell(image: np.ndarray, click: Click) -> np.ndarray:
    """A square of CELL pixels around a mask and its click."""
    drawn = draw_masks(image, [click.mask], [2])
    shown = click.mask.copy()
    shown[click.point_xy[::-1]] = True
    x, y, width, height = cv2.boundingRect(shown.astype(np.uint8))
    edge = min(int(1.5 * max(width, height)) + 40, *shown.shape)
    top, left = (
        int(np.clip(middle - edge / 2, 0, size - edge))
        for middle, size in ((y + height / 2, shown.shape[0]), (x + width / 2, shown.shape[1]))
    )
    cell = cv2.resize(drawn[top : top + edge, left : left + edge], (_CELL, _CELL), interpolation=cv2.INTER_AREA)
    point = tuple(int((n - first) * _CELL / edge) for n, first in zip(click.point_xy, (left, top), strict=True))
    cv2.circle(cell, point, 4, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(cell, point, 4, (0, 0, 0), 1, cv2.LINE_AA)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(cell, f"{click.iou:.2f}", (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
    return cell


def table(figures: dict[str, str], lines: dict[str, dict[str, float]]) -> str:
    """Markdown: a line for each of `lines`, a column for each of `figures`."""
    rows = [f"| | objects | {' | '.join(figures.values())} |", "| --- |" + " --- |" * (len(figures) + 1)]
    for name, found in lines.items():
        rows.append(f"| {name} | {found['objects']:.0f} | " + " | ".join(f"{found[f]:.2f}" for f in figures) + " |")
    return "\n".join(rows)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, help="folder of sets of photographs with masks")
    parser.add_argument("--turntables", type=Path, help="folder of rotating objects")
    parser.add_argument("--answers", type=Path, help="picture to draw the best and worst answers into; nothing else")
    parser.add_argument("--memories", type=int, metavar="CLIPS", help="what careful tracking brings; nothing else")
    parser.add_argument("--alike", action="store_true", help="how the others of a kind are found; nothing else")
    parser.add_argument("--refine", type=int, metavar="PICTURES", help="what finer edges bring; nothing else")
    parser.add_argument("--model", default="nano")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    own = [sample.read() for sample in open_dataset(ASSETS).pictures]
    if arguments.answers:
        Image.fromarray(answers_sheet(model, own)).save(arguments.answers, quality=85)
        return
    if arguments.memories:
        print(table(MEMORY_FIGURES, memory_figures(model, arguments.memories)))
        return
    if arguments.alike:
        print(table(ALIKE_FIGURES, alike_figures(model, arguments.photos)))
        return
    if arguments.refine:
        lines = dict[str, dict[str, float]]()
        for name, large in _large_pictures(own, arguments.photos, arguments.refine).items():
            found = refine_figures(model, tqdm(large, desc=name))
            lines |= {f"{name}: {prompt}": figures for prompt, figures in found.items()}
        print(table(REFINE_FIGURES, lines))
        return
    pictures = {
        "assets/photos": picture_figures(model, tqdm(own, desc="assets/photos")),
        "painted scenes": picture_figures(model, tqdm(held_out_pictures(), desc="painted scenes")),
    }
    if arguments.photos:
        pictures |= photo_figures(model, arguments.photos)
    print(table(PICTURE_FIGURES, pictures), end="\n\n", flush=True)
    clips = {
        "painted clips": evaluate_clips(model, tqdm(held_out_clips(), desc="painted clips")),
        "cut-outs of assets/photos": evaluate_clips(model, tqdm(pasted_clips(ASSETS), desc="cut-outs")),
    }
    folders = arguments.photos and arguments.turntables
    if folders:
        real = held_out_real_clips(arguments.photos, arguments.turntables)
        clips["real things over photographs"] = evaluate_clips(model, tqdm(real, desc="real things"))
    print(table(CLIP_FIGURES, clips), end="\n\n", flush=True)
    all_clips = chain(held_out_clips(), held_out_real_clips(arguments.photos, arguments.turntables) if folders else ())
    print(table(QUALITY_FIGURES, quality_figures(model, tqdm(all_clips, desc="quality of tracking"))))


if __name__ == "__main__":
    main()
