"""Work on one picture: its objects, what was asked of each, what the model answered; and the file that keeps it.

    session = PictureSession.load("work.session.safetensors")
    session.masks["cup"]                      # bool [H, W]

The file is safetensors: the picture as PNG, which loses nothing, and the low-res logits as they were; everything else
as JSON in its header. So it opens without the photo, without the model, and without running any code of a stranger's;
what it says is checked before it is believed.
"""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam2kit.config import SAM2Config
from sam2kit.files import parse_json
from sam2kit.media.exports import NamedMask
from sam2kit.media.pictures import read_picture
from sam2kit.predict.image import ImageOptions, Masks
from sam2kit.predict.session_container import (
    ODD_SESSION,
    PICTURE_FORMAT,
    VIDEO_FORMAT,
    open_session_file,
    write_session_file,
)

MOST_OBJECTS = 1000  # each is shown, and a mask as large as the page's picture is kept for it
_MOST_NUMBER = 100_000
_MOST_CANDIDATES = 16
_SIDES = (1, 4096)  # of low-res logits


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """One object: what was asked and what the model answered. Never changed, only replaced."""

    number: int  # from 0; decides the colour, and the name if it has no other
    name: str = ""
    points: tuple[tuple[float, float, int], ...] = ()  # (x, y, label), pixels of the picture
    box_xyxy: tuple[float, float, float, float] | None = None
    answer: Masks | None = None  # one prompt, its candidates
    chosen: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"Object {self.number + 1}")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked of it, and nothing is known."""
        return self.answer is None and not self.points and self.box_xyxy is None

    @property
    def predicted_iou(self) -> list[float]:
        """One per candidate; empty before the first prompt."""
        return [] if self.answer is None else self.answer.predicted_iou[0].tolist()

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The chosen candidate at a size: bool [H, W]; empty before the first prompt."""
        if self.answer is None:
            return np.zeros(size_hw, bool)
        return (self.answer.candidate(self.chosen).logits_at(size_hw) > self.answer.options.threshold)[0, 0].numpy()


@dataclass(frozen=True)
class PictureSession:
    """A picture and the objects in it."""

    image: np.ndarray  # uint8 [H, W, 3]
    file_name: str
    objects: tuple[PromptedObject, ...]
    active: int = 0  # index into objects: the one that prompts go to
    config: SAM2Config | None = None  # of the model that answered, where it is known

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Name -> bool [H, W] mask at the size of the picture, of the objects that have one."""
        return {item.name: item.mask(self.image.shape[:2]) for item in self.objects if item.answer is not None}

    def finished(self) -> list[NamedMask]:
        """The objects that have a mask, at the size of the picture, packed."""
        size_hw = self.image.shape[:2]
        return [
            NamedMask.of(item.name, item.mask(size_hw), item.predicted_iou[item.chosen])
            for item in self.objects
            if item.answer is not None
        ]

    def fits(self, config: SAM2Config) -> bool:
        """Whether a model of this config gave the answers, as far as the file says."""
        return self.config == config

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the session; a crash while writing leaves the file that was there.

        Raises:
            FileNotFoundError: if the folder does not exist.
        """
        png = io.BytesIO()
        Image.fromarray(self.image).save(png, "PNG", compress_level=4)
        tensors = {"picture": torch.frombuffer(bytearray(png.getvalue()), dtype=torch.uint8)}
        content = {
            "file_name": self.file_name,
            "size_hw": list(self.image.shape[:2]),
            "active": self.active,
            "model": None if self.config is None else self.config.as_dict(),
            "objects": [_object_out(i, item, tensors) for i, item in enumerate(self.objects)],
        }
        return write_session_file(Path(path), PICTURE_FORMAT, content, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PictureSession:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no session of a picture, or is damaged; says which.
        """
        path = Path(path)
        file, stated = open_session_file(path)
        if stated != PICTURE_FORMAT:
            if stated == VIDEO_FORMAT:
                raise ValueError(f"{path} is a session of a video; open it together with its clip")
            raise ValueError(f"{path} is not a session of a picture, or was written by another version of sam2kit")
        try:
            return _session(parse_json(file.metadata()["session"], str(path)), file)
        except ODD_SESSION as error:
            raise ValueError(f"{path} is damaged ({error}); save the session again") from error


def _object_out(number: int, item: PromptedObject, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The JSON of one object; its numbers go to `tensors`."""
    answer = item.answer
    if answer is not None:
        tensors[f"{number}/logits"] = answer.raw.float().cpu().contiguous()
        tensors[f"{number}/predicted_iou"] = answer.predicted_iou.float().cpu().contiguous()
        tensors[f"{number}/object_score"] = answer.object_score.float().cpu().contiguous()
    return {
        "number": item.number,
        "name": item.name,
        "points": [list(point) for point in item.points],
        "box": None if item.box_xyxy is None else list(item.box_xyxy),
        "chosen": item.chosen,
        "options": None if answer is None else asdict(answer.options),
    }


def _session(content: dict[str, Any], file: Any) -> PictureSession:
    stated_hw = tuple(int(n) for n in content["size_hw"])
    image = read_picture(file.get_tensor("picture").numpy().tobytes())
    size_hw = image.shape[:2]
    if size_hw != stated_hw:
        raise ValueError(f"its picture is {list(size_hw)}, not {list(stated_hw)} as it says")
    stated = content["objects"]
    if not isinstance(stated, list) or len(stated) > MOST_OBJECTS:
        raise ValueError(f"its objects are no list of at most {MOST_OBJECTS}")
    objects = tuple(_object(i, one, size_hw, file) for i, one in enumerate(stated))
    for name in ("number", "name"):
        if len({getattr(item, name) for item in objects}) < len(objects):
            raise ValueError(f"two objects have the same {name}")
    active = _whole(content["active"], "active", max(len(objects), 1))
    config = None if content["model"] is None else SAM2Config.from_dict(content["model"])
    return PictureSession(image, str(content["file_name"]), objects, active, config)


def _object(number: int, stated: dict[str, Any], size_hw: tuple[int, int], file: Any) -> PromptedObject:
    points = np.array(stated["points"], np.float64).reshape(-1, 3)
    if not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1)).all():
        raise ValueError(f"object {number} has points that are no (x, y, label)")
    box = None if stated["box"] is None else tuple(float(v) for v in stated["box"])
    if box is not None and (len(box) != 4 or not np.isfinite(box).all()):
        raise ValueError(f"object {number} has a box that is not (x0, y0, x1, y1)")
    places = np.concatenate([points[:, :2], np.array(box or (0, 0, 0, 0)).reshape(2, 2)])
    if (places < 0).any() or (places > (size_hw[1], size_hw[0])).any():
        raise ValueError(f"object {number} has prompts outside the picture")
    answer = None if stated["options"] is None else _answer(number, stated["options"], size_hw, file)
    return PromptedObject(
        _whole(stated["number"], "number", _MOST_NUMBER),
        str(stated["name"]),
        tuple((float(x), float(y), int(label)) for x, y, label in points),
        box,
        answer,
        _whole(stated["chosen"], "chosen", 1 if answer is None else answer.raw.shape[1]),
    )


def _answer(number: int, options: dict[str, Any], size_hw: tuple[int, int], file: Any) -> Masks:
    # the shape is looked at before anything of that size is read
    batch, candidates, height, width = file.get_slice(f"{number}/logits").get_shape()
    if (
        batch != 1
        or not 1 <= candidates <= _MOST_CANDIDATES
        or not all(_SIDES[0] <= side <= _SIDES[1] for side in (height, width))
    ):
        raise ValueError(f"the logits of object {number} are {[batch, candidates, height, width]}")
    logits, iou, score = (file.get_tensor(f"{number}/{name}") for name in ("logits", "predicted_iou", "object_score"))
    if iou.shape != (1, candidates) or score.shape != (1, 1) or not bool(logits.isfinite().all()):
        raise ValueError(f"the answer for object {number} does not fit together")
    if not all(isinstance(v, (int, float)) and np.isfinite(v) for v in options.values()):
        raise ValueError(f"the options of object {number} are no numbers")
    return Masks(logits.float(), iou.float(), score.float(), size_hw, ImageOptions(**options))


def _whole(value: Any, name: str, below: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise ValueError(f"{name} must be a whole number from 0 to {below - 1}, got {value!r}")
    return value
