"""Two models on one picture, after one click."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.datasets.samples import LabelledPicture
from sam2kit.evaluation.metrics import region_similarity
from sam2kit.evaluation.pictures import picture_rows
from sam2kit.evaluation.side_by_side import compare, one_click_masks
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor


@pytest.fixture
def picture() -> LabelledPicture:
    """A disc and a bar, and a mask without any pixel."""
    ys, xs = np.mgrid[:96, :128]
    disc, bar = (ys - 40) ** 2 + (xs - 30) ** 2 < 20**2, (xs > 80) & (xs < 100) & (ys > 10) & (ys < 80)
    image = np.full((96, 128, 3), 60, np.uint8)
    image[disc], image[bar] = (220, 60, 40), (40, 200, 90)
    return LabelledPicture(image, [disc, np.zeros_like(disc), bar])


def test_masks_are_those_of_the_click_curves(nano: SAM2, picture: LabelledPicture) -> None:
    predictor = ImagePredictor(nano)
    shown = one_click_masks(predictor, picture)
    truths = [picture.masks[0], picture.masks[2]]
    rows = picture_rows(predictor, "it", picture)
    assert [clicked.iou for clicked in shown] == [row.scores["click1"] for row in rows]
    for clicked, truth in zip(shown, truths, strict=True):
        assert truth[clicked.point_xy[1], clicked.point_xy[0]]
        assert clicked.iou == region_similarity(clicked.mask, truth)
        assert clicked.mask.shape == (96, 128)


def test_before_and_after(nano: SAM2, toy: SAM2, picture: LabelledPicture) -> None:
    compared = compare("it", picture, ImagePredictor(toy), ImagePredictor(nano))
    assert len(compared.truths) == len(compared.before) == len(compared.after) == 2
    assert [m.point_xy for m in compared.before] == [m.point_xy for m in compared.after]
    assert compared.mean_after == pytest.approx(np.mean([m.iou for m in compared.after]))
    assert 0 <= compared.mean_before < compared.mean_after <= 1
    same = compare("it", picture, ImagePredictor(nano), ImagePredictor(nano))
    assert same.mean_before == same.mean_after


def test_a_picture_without_objects(nano: SAM2, picture: LabelledPicture) -> None:
    empty = LabelledPicture(picture.image, [np.zeros((96, 128), bool)])
    with pytest.raises(ValueError, match="it has no object"):
        compare("it", empty, ImagePredictor(nano), ImagePredictor(nano))
