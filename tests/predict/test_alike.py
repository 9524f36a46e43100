"""Finding what looks like an example."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.alike import AlikeOptions, FindAlike, look_of
from sam2kit.predict.image import ImagePredictor

RED, BLUE, GROUND = (205, 50, 40), (40, 80, 210), (96, 112, 92)
PLACES = [(60, 60), (200, 70), (330, 60), (70, 190), (210, 200), (335, 190)]


def discs(colours: list[tuple[int, int, int]], radius: int = 32) -> np.ndarray:
    image = Image.new("RGB", (400, 260), GROUND)
    draw = ImageDraw.Draw(image)
    for (x, y), colour in zip(PLACES, colours, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    noise = np.random.default_rng(0).normal(0, 4, (260, 400, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def disc(place: int, radius: int = 32) -> np.ndarray:
    y, x = np.mgrid[:260, :400]
    return (x - PLACES[place][0]) ** 2 + (y - PLACES[place][1]) ** 2 <= radius**2


def found_places(masks: list[np.ndarray]) -> list[int]:
    """The discs that are found, each once."""
    ious = np.array([[(m & disc(i)).sum() / (m | disc(i)).sum() for i in range(6)] for m in masks]).reshape(-1, 6)
    return sorted(ious.argmax(axis=1)[ious.max(axis=1) > 0.7].tolist())


@pytest.fixture(scope="module")
def predictor(nano: SAM2) -> ImagePredictor:
    return ImagePredictor(nano)


def test_all_of_a_kind_are_found_in_the_same_picture_and_in_another(predictor: ImagePredictor) -> None:
    picture = discs([RED] * 6)
    search = FindAlike(predictor, look_of(predictor.encode(picture), disc(0)))
    found = search.find(picture)
    assert len(found_places([one.mask for one, _ in found])) >= 4
    alike = [score for _, score in found]
    assert alike == sorted(alike, reverse=True) and 0.5 <= min(alike) <= max(alike) <= 1
    elsewhere = search.find(np.ascontiguousarray(discs([RED] * 6)[:, ::-1]))
    assert len(elsewhere) >= 4


def test_what_is_unlike_scores_less_and_options_limit(predictor: ImagePredictor) -> None:
    picture = discs([RED, RED, BLUE, RED, BLUE, BLUE])
    look = look_of(predictor.encode(picture), disc(0))
    found = FindAlike(predictor, look, AlikeOptions(least=0)).find(picture)
    scores = {found_places([one.mask])[0]: score for one, score in found if found_places([one.mask])}
    assert min(scores[i] for i in (0, 1, 3)) > max((scores[i] for i in (2, 4, 5) if i in scores), default=0)
    assert len(FindAlike(predictor, look, AlikeOptions(most=2, least=0)).find(picture)) == 2
    plain = np.full_like(picture, GROUND)
    assert FindAlike(predictor, look, AlikeOptions(least=0.9)).find(plain) == []


@pytest.mark.parametrize("mask", [np.zeros((260, 400), bool), np.ones((260, 400), bool), disc(0)[:100]])
def test_an_example_is_a_part_of_the_picture(predictor: ImagePredictor, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a mask of a part of the 400x260 picture"):
        look_of(predictor.encode(discs([RED] * 6)), mask)


def test_options_are_checked() -> None:
    for wrong in ({"most": 0}, {"least": 2.0}, {"max_overlap": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AlikeOptions(**wrong)  # type: ignore[arg-type]
