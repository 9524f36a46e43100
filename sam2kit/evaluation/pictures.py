"""How good is it? Clicks and boxes against true masks, the way the paper measures.

Every object on its own: first a click in its middle (three candidates, the best by predicted IoU is shown),
then clicks in the middle of the largest error, each with the shown logits as mask prompt; and, separately, its
tight box. Deterministic: no random number is drawn.

Source: SAM 2, arXiv:2408.00714, appendix "Zero-shot image evaluation".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from sam2kit.media.pictures import read_picture
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.training.clicks import centre_click, tight_boxes
from sam2kit.training.metrics import region_similarity
from sam2kit.training.scenes import random_scene
from sam2kit.training.stream import draw_targets
from sam2kit.training.textures import TextureBank

HELD_OUT_SEED = 20_240_729  # scenes and textures of this seed are never trained on


@dataclass(frozen=True)
class ObjectScores:
    """IoU of one object after each kind of prompt, 0..1."""

    click1: float
    best_of_3: float  # the best of the three candidates by truth, which only an oracle could pick
    click3: float
    click5: float
    box: float
    predicted_iou_error: float  # |predicted - actual| of the mask shown after one click


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and the true masks to be found in it."""

    image: np.ndarray  # uint8 [H, W, 3]
    masks: list[np.ndarray]  # bool [H, W] each


def held_out_pictures(count: int = 160, *, side: int = 256, per_picture: int = 4) -> Iterable[LabelledPicture]:
    """Procedural scenes that training never sees: always the same ones."""
    bank = TextureBank(HELD_OUT_SEED)
    for number in range(count):
        rng = np.random.default_rng([HELD_OUT_SEED, number])
        scene = random_scene(rng, bank, side)
        drawn = dict.fromkeys(draw_targets(rng, scene, per_picture))
        yield LabelledPicture(scene.image, [scene.mask(t) for t in drawn])


def outlined_photos(folder: Path) -> Iterable[LabelledPicture]:
    """Photos with hand-drawn outlines: the folder's outlines.json lists polygons for each picture.

    An outline's integer coordinate is the middle of a pixel; a pixel belongs to the object if at least half of
    it is covered.

    Raises:
        FileNotFoundError: if there is no outlines.json.
    """
    path = folder / "outlines.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: a folder of photos needs their true outlines")
    content = json.loads(path.read_text())
    for name in content["photos"]:
        image = read_picture(folder / name)
        objects = [o for o in content["objects"] if o["photo"] == name]
        size_hw = image.shape[:2]
        yield LabelledPicture(image, [fill_outlines(o["polygons"], o.get("holes", []), size_hw) for o in objects])


def fill_outlines(polygons: list, holes: list, size_hw: tuple[int, ...], fine: int = 4) -> np.ndarray:
    """bool [H, W] from outlines, counted on a grid `fine` times as dense."""
    canvas = np.zeros([n * fine for n in size_hw], np.uint8)
    for outlines, value in ((polygons, 255), (holes, 0)):
        for outline in outlines:
            scaled = np.round((np.array(outline) + 0.5) * fine - 0.5).astype(np.int32)
            cv2.fillPoly(canvas, [scaled], value)
    return cv2.resize(canvas, size_hw[::-1], interpolation=cv2.INTER_AREA) >= 128


def evaluate_pictures(model: SAM2, pictures: Iterable[LabelledPicture]) -> dict[str, float]:
    """Mean scores over all objects of all pictures, and "objects", their number."""
    scores = [s for picture in pictures for s in score_picture(ImagePredictor(model), picture)]
    if not scores:
        raise ValueError("there is no object to evaluate on")
    rows = [asdict(s) for s in scores]
    return {name: float(np.mean([r[name] for r in rows])) for name in rows[0]} | {"objects": float(len(rows))}


def score_picture(predictor: ImagePredictor, picture: LabelledPicture) -> list[ObjectScores]:
    """Scores of every object in a picture."""
    embedding = predictor.encode(picture.image)
    return [_score_object(predictor, embedding, truth) for truth in picture.masks]


def _score_object(predictor: ImagePredictor, embedding: ImageEmbedding, truth: np.ndarray) -> ObjectScores:
    box = Prompt(box_xyxy=tight_boxes(torch.from_numpy(truth)[None]))
    boxed = predictor.predict(embedding, box).masks[0, 0].cpu().numpy()
    points, labels, after_clicks = [], [], []
    mask, low_res = None, None  # what is shown
    for _ in range(5):
        click, label = centre_click(truth, mask)
        points.append(click)
        labels.append(label)
        answer = predictor.predict(embedding, Prompt(points, labels, mask_logits=low_res))
        shown = answer.best()
        if mask is None:
            best_of_3 = max(region_similarity(m, truth) for m in answer.masks[0].cpu().numpy())
            predicted = float(shown.predicted_iou[0, 0])
        mask, low_res = shown.masks[0, 0].cpu().numpy(), shown.low_res[0]
        after_clicks.append(region_similarity(mask, truth))
        if after_clicks[-1] == 1.0:  # nothing is left to correct
            after_clicks += after_clicks[-1:] * (5 - len(after_clicks))
            break
    return ObjectScores(
        click1=after_clicks[0],
        best_of_3=best_of_3,
        click3=after_clicks[2],
        click5=after_clicks[4],
        box=region_similarity(boxed, truth),
        predicted_iou_error=abs(predicted - after_clicks[0]),
    )
