"""Objects of a picture and of a clip: names, colours, and how many there may be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2kit.clicking.clicked_picture import ClickedPicture, Moment
from sam2kit.clicking.named_objects import NamedObjects, ObjectColours
from sam2kit.clicking.object_list import list_message
from sam2kit.media.drawing import PALETTE, colour_of, contrasting_colour
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.picture_session import MOST_OBJECTS, PictureSession, PromptedObject
from tests.toy_model import toy_model


@pytest.fixture
def picture() -> ClickedPicture:
    opened = ClickedPicture()
    opened.open(ImagePredictor(toy_model()), np.zeros((40, 60, 3), np.uint8))
    return opened


def test_a_new_object_has_a_name_of_its_own(picture: ClickedPicture, tmp_path: Path) -> None:
    """A session with a name twice could not be opened again."""
    predictor = ImagePredictor(toy_model())
    picture.set_prompts(predictor, 0, ((5.0, 5.0, 1),), None)
    picture.rename(0, "Object 2")
    picture.new_object()
    picture.set_prompts(predictor, 1, ((9.0, 9.0, 1),), None)
    assert [item.name for item in picture.now.objects] == ["Object 2", "Object 3"]
    found = AutomaticMasks(
        toy_model(), AutomaticOptions(points_per_side=2, min_predicted_iou=-1, min_stability=-1, max_box_overlap=1)
    ).generate(picture.open_image)
    assert picture.add_found(found, 16) == len(found) > 1
    names = [item.name for item in picture.now.objects]
    assert len(set(names)) == len(names)
    again = PictureSession.load(picture.session().save(tmp_path / "a.safetensors"))
    assert list(again.masks) == names


def test_no_more_objects_than_a_session_may_have(picture: ClickedPicture) -> None:
    box = (0.0, 0.0, 5.0, 5.0)
    full = tuple(PromptedObject(i, box_xyxy=box) for i in range(MOST_OBJECTS))
    picture.now = Moment(full)
    with pytest.raises(ValueError, match="would be 1001 objects, and 1000 are the most; remove some first"):
        picture.new_object()
    assert picture.now.objects == full
    clip = NamedObjects({i: f"Object {i + 1}" for i in range(MOST_OBJECTS)})
    with pytest.raises(ValueError, match="remove some first"):
        clip.add(used=range(MOST_OBJECTS))
    assert len(clip.names) == MOST_OBJECTS


def squares(*colours: tuple[int, int, int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A grey picture with a square of each colour, and their masks."""
    picture = np.full((40, 40 * len(colours), 3), 120, np.uint8)
    masks = []
    for i, colour in enumerate(colours):
        mask = np.zeros(picture.shape[:2], bool)
        mask[10:30, 40 * i + 10 : 40 * i + 30] = True
        picture[mask] = colour
        masks.append(mask)
    return picture, masks


def test_a_colour_keeps_away_from_the_pixels_and_from_other_objects() -> None:
    for number in range(len(PALETTE)):
        own = np.full((500, 3), colour_of(number), np.uint8)
        assert contrasting_colour(own, number) != number
    striped = np.array([colour_of(0), colour_of(1)] * 300, np.uint8)
    assert contrasting_colour(striped) not in (0, 1), "neither of what is striped so"
    grey = np.full((9, 3), 128, np.uint8)
    first = contrasting_colour(grey)
    assert contrasting_colour(grey, used=[first]) != first
    assert contrasting_colour(grey, used=range(len(PALETTE))) == first, "all are used: again from the beginning"
    assert contrasting_colour(np.zeros((0, 3), np.uint8), 3) == 3


def test_a_colour_once_given_stays_until_its_object_goes() -> None:
    picture, masks = squares(colour_of(0), colour_of(1))
    colours = ObjectColours()
    for number, mask in enumerate(masks):
        colours.give(number, picture, mask)
    given = [colour_of(colours.of(number)) for number in range(2)]
    assert given[0] not in (colour_of(0), given[1])
    assert given[1] != colour_of(1)
    colours.give(0, np.full_like(picture, given[0]), masks[0])
    assert colour_of(colours.of(0)) == given[0], "its mask looks different now"
    assert len({colours.of(number) for number in range(30)}) == 30, "a number for each, also where colours repeat"
    colours.keep([1])
    assert 0 not in colours
    assert colour_of(colours.of(1)) == given[1]
    colours.give(0, picture, np.zeros_like(masks[0]))
    assert 0 not in colours, "an empty mask has no colour to keep away from"


def test_page_list_and_thumbnail_agree_on_the_colour(nano: SAM2) -> None:
    predictor, opened = ImagePredictor(nano), ClickedPicture()
    picture = np.full((200, 200, 3), 120, np.uint8)
    cv2.circle(picture, (100, 100), 60, colour_of(0), -1)
    opened.open(predictor, picture)
    assert opened.shown(opened.active).to_browser()["colour"] == ""
    opened.set_prompts(predictor, 0, ((100.0, 100.0, 1),), None)
    shown = opened.shown(opened.active).to_browser()["colour"]
    assert shown in PALETTE[1:]
    (row,) = list_message(opened.listed(), 0)["rows"]
    assert row["colour"] == shown
    opened.set_prompts(predictor, 0, ((100.0, 100.0, 1), (5.0, 5.0, 1)), None)
    assert opened.shown(opened.active).to_browser()["colour"] == shown
