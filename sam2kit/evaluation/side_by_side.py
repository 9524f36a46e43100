"""Two models on the same picture: what each shows after one click in the middle of each object, and how good it is.

Of a clip, a frame is compared to which each object was tracked from one click.

The click and the mask are those of the first step of pictures.py's click curves, so the numbers are its "click1" - if
the predictors have no other options than there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2kit.datasets.samples import ClipSample, LabelledPicture
from sam2kit.evaluation.clicks import centre_click
from sam2kit.evaluation.metrics import region_similarity
from sam2kit.evaluation.pictures import clicks_on
from sam2kit.evaluation.semi_supervised import TrackingProtocol, first_masks, tracked_masks, truth_of
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor


@dataclass(frozen=True)
class ClickedMask:
    """What a model shows after one click."""

    point_xy: tuple[int, int]  # pixels of the picture
    mask: np.ndarray  # bool [H, W]
    iou: float  # with the true mask, 0..1


@dataclass(frozen=True)
class Comparison:
    """One picture, before and after; the three lists go together, object by object."""

    name: str
    image: np.ndarray  # uint8 [H, W, 3]
    truths: list[np.ndarray]  # bool [H, W] each
    before: list[ClickedMask]
    after: list[ClickedMask]
    clicked_here: bool = True  # False if the clicks were on an earlier frame of a clip

    @property
    def mean_before(self) -> float:
        """Mean IoU of the model before, 0..1."""
        return float(np.mean([clicked.iou for clicked in self.before]))

    @property
    def mean_after(self) -> float:
        """Mean IoU of the model after, 0..1."""
        return float(np.mean([clicked.iou for clicked in self.after]))


def one_click_masks(predictor: ImagePredictor, picture: LabelledPicture) -> list[ClickedMask]:
    """The mask that is shown after one click in the middle of each object; empty true masks are passed over."""
    embedding = predictor.encode(picture.image)
    first = (next(clicks_on(predictor, embedding, truth)) for truth in picture.masks if truth.any())
    return [ClickedMask(click.point_xy, click.mask, click.iou) for click in first]


def compare(name: str, picture: LabelledPicture, before: ImagePredictor, after: ImagePredictor) -> Comparison:
    """Both models on one picture.

    Args:
        name: of the picture, for people.
    Raises:
        ValueError: if the picture has no object.
    """
    truths = [truth for truth in picture.masks if truth.any()]
    if not truths:
        raise ValueError(f"{name} has no object to compare models on; label one")
    return Comparison(name, picture.image, truths, one_click_masks(before, picture), one_click_masks(after, picture))


def compare_tracked(sample: ClipSample, before: SAM2, after: SAM2) -> Comparison:
    """Both models on a clip: each object is clicked once on its first frame and tracked; a later frame is shown.

    It is the annotated frame after two thirds of them, or the last before it on which anything is seen.

    Raises:
        ValueError: if the clip shows no object.
    """
    firsts = first_masks(sample)
    known = list(sample.truth_frames)[: 2 * len(sample.truth_frames) // 3 + 1]
    truths = next((truth for frame in reversed(known) if (truth := _visible(sample, frame))), None)
    if truths is None:
        raise ValueError(f"{sample.name} has no object on any of its first annotated frames; look at its masks")
    frame, masks = truths
    shown = [_masks_on(frame, sample, model, firsts) for model in (before, after)]
    name = f"{Path(sample.name).name}, frame {frame}"
    points = {number: centre_click(firsts[number][1])[0] for number in masks}
    old, new = (
        [_as_tracked(points[number], tracked.get(number), truth) for number, truth in masks.items()]
        for tracked in shown
    )
    return Comparison(name, sample.frame(frame), list(masks.values()), old, new, clicked_here=False)


def _visible(sample: ClipSample, frame: int) -> tuple[int, dict[int, np.ndarray]] | None:
    masks = {number: mask for number, mask in truth_of(sample, frame).items() if mask.any()}
    return (frame, masks) if masks else None


def _masks_on(
    frame: int, sample: ClipSample, model: SAM2, firsts: dict[int, tuple[int, np.ndarray]]
) -> dict[int, np.ndarray]:
    protocol = TrackingProtocol("click")
    tracked = tracked_masks(protocol.predictor(model), sample, firsts, protocol.prompt)
    return next((masks for index, masks in tracked if index == frame), {})


def _as_tracked(point_xy: tuple[int, int], mask: np.ndarray | None, truth: np.ndarray) -> ClickedMask:
    mask = np.zeros_like(truth) if mask is None else mask
    return ClickedMask(point_xy, mask, region_similarity(mask, truth))
