"""Objects of a picture and of a clip: names, and how many there may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2kit.clicking.clicked_picture import ClickedPicture, Moment
from sam2kit.clicking.named_objects import NamedObjects
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
