"""Two models on the same picture: what each shows after one click in the middle of each object, and how good it is.

The click and the mask are those of the first step of pictures.py's click curves, so the numbers are its "click1" - if
the predictors have no other options than there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam2kit.datasets.samples import LabelledPicture
from sam2kit.evaluation.pictures import clicks_on
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
