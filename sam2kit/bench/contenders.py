"""Who can do the work, and how: a generator for each kind of it, prepared at the first step, timed at all others.

    encode       a 1280x720 picture -> its embedding
    click        one click on an encoded picture -> three masks of 1280x720
    clicks       64 clicks on an encoded picture, each a prompt of its own -> 3 x 64 low-res masks
    automatic    1024 clicks in batches of 64, filtered and without duplicates -> masks of 1280x720
    frame        one more frame of a 1280x720 clip in which a number of objects are tracked

Everybody gets the same weights, pictures and prompts. Where another package's own preparation of pictures needs more
than it brings along (torchvision), its model gets what ours makes of a picture; that is a few milliseconds of the work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.media.clips import Clip
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.geometry import frame_to_square, image_to_square, points_to_square
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.pace import Pace
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import choose_dtype, load_model

SIZE_HW = (720, 1280)
CLICKS, AUTOMATIC_CLICKS = 64, 1024
_FRAME_TIME = Fraction(1, 25)  # seconds
_SHIFT = 8  # pixels that a clip moves from frame to frame

Work = Iterator[None]
Model = TypeVar("Model", bound=nn.Module)


def picture() -> np.ndarray:
    """uint8 [720, 1280, 3]: soft shapes and stripes, the same on every machine."""
    height, width = SIZE_HW
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / 60 + y / 200), np.sin(y / 45), np.sin((x + 2 * y) / 80)]
    light = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 9000) for cx, cy in spots(12))
    return np.stack([90 + 50 * wave + 80 * light for wave in waves], axis=2).clip(0, 255).astype(np.uint8)


def spots(number: int) -> np.ndarray:
    """[N, 2] places (x, y) within the picture, to be clicked."""
    return np.random.default_rng(5).uniform((60, 60), (SIZE_HW[1] - 60, SIZE_HW[0] - 60), (number, 2))


def moving(frames: int) -> Clip:
    """The picture, pushed to the right; frames are made when they are asked for."""
    return _Moving(frames)


class _Moving(Clip):
    def __init__(self, frames: int) -> None:
        self._first = picture()
        self.size_hw, self.last_duration = SIZE_HW, _FRAME_TIME
        self.timestamps = tuple(i * _FRAME_TIME for i in range(frames))

    def _read(self, index: int) -> np.ndarray:
        return np.roll(self._first, _SHIFT * index, axis=1)


def grid() -> np.ndarray:
    """[64, 2] clicks (x, y) on a picture."""
    side = round(CLICKS**0.5)
    unit = (np.indices((side, side)).reshape(2, -1).T[:, ::-1] + 0.5) / side
    return unit * np.array(SIZE_HW[::-1])


class Contender(ABC):
    """One package with its model loaded.

    Args:
        folder: with the weights, of `compare.write_weights`.
        device, dtype: where and in which precision, as for `load_model`.
    """

    @abstractmethod
    def __init__(self, folder: Path, device: str, dtype: str) -> None: ...

    @abstractmethod
    def encode(self) -> Work:
        """A picture, again and again."""

    @abstractmethod
    def click(self) -> Work:
        """A click, again and again."""

    @abstractmethod
    def clicks(self) -> Work:
        """Sixty-four clicks, again and again."""

    @abstractmethod
    def frame(self, objects: int, frames: int) -> Work:
        """Tracks through a clip; a step is a frame."""


class Sam2kit(Contender):
    """This package, as people use it."""

    pace = Pace()

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        self.model = load_model(folder / "model.safetensors", device, dtype)
        if self.pace != Pace():
            self.model.cast_weights(choose_dtype(dtype, self.model.device))
        self.predictor = ImagePredictor(self.model)

    def encode(self) -> Work:
        """A picture, again and again."""
        image = picture()
        while True:
            yield
            self.predictor.encode(image)

    def click(self) -> Work:
        """A click, again and again."""
        embedding = self.predictor.encode(picture())
        prompt = Prompt(grid()[27][None])
        while True:
            yield
            _ = self.predictor.predict(embedding, prompt).masks

    def clicks(self) -> Work:
        """Sixty-four clicks, again and again."""
        embedding = self.predictor.encode(picture())
        prompt = Prompt(grid()[:, None])
        while True:
            yield
            self.predictor.predict(embedding, prompt)

    def automatic(self) -> Work:
        """Everything in a picture, again and again."""
        everything = AutomaticMasks(self.model, AutomaticOptions())
        image = picture()
        while True:
            yield
            everything.generate(image)

    def frame(self, objects: int, frames: int) -> Work:
        """Tracks through a clip; a step is a frame."""
        predictor = VideoPredictor(self.model, pace=self.pace)
        session = predictor.open(moving(frames))
        for number, place in enumerate(spots(objects)):
            predictor.add_points(session, 0, number, place[None])
        tracked = predictor.propagate(session, direction="forward")
        while True:
            yield
            _ = next(tracked).masks


class Sam2kitFast(Sam2kit):
    """The same as with `sam2kit video --fast`."""

    pace = Pace.fastest()


class Sam2kitCompiled(Sam2kit):
    """The same as with `sam2kit video --compile`; pictures are encoded by compiled code, too."""

    pace = Pace.fastest(compiled=True)

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        super().__init__(folder, device, dtype)
        self.model.image_encoder.compile(fullgraph=True)
        self.model.sam_mask_decoder.compile()


class Transformers(Contender):
    """Hugging Face's port."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        from transformers import Sam2Model, Sam2VideoModel

        self.device, self.dtype = torch.device(device), choose_dtype(dtype, torch.device(device))
        self.image_model = _ready(Sam2Model.from_pretrained(folder / "transformers"), self.device)
        self.video_model = _ready(Sam2VideoModel.from_pretrained(folder / "transformers"), self.device)
        config: Any = self.image_model.config  # its type leaves open what its parts are
        self.side = config.prompt_encoder_config.image_size

    def encode(self) -> Work:
        """A picture, again and again."""
        image = picture()
        while True:
            yield
            self._embeddings(image)

    def _embeddings(self, image: np.ndarray) -> list[Tensor]:
        square = image_to_square(torch.from_numpy(image).to(self.device).permute(2, 0, 1), self.side)
        with torch.inference_mode(), self._precision():
            return self.image_model.get_image_embeddings(square[None])

    def _precision(self) -> AbstractContextManager[object]:
        lower = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype) if lower else nullcontext()

    def _answer(self, embeddings: list[Tensor], clicks: np.ndarray) -> Tensor:
        points = points_to_square(torch.from_numpy(clicks).float(), SIZE_HW, self.side).to(self.device)
        with torch.inference_mode(), self._precision():
            answer = self.image_model(
                image_embeddings=embeddings,
                input_points=points[None, :, None],
                input_labels=torch.ones(1, len(points), 1, dtype=torch.int64, device=self.device),
                multimask_output=True,
            )
        return answer.pred_masks[0].float()  # [N, 3, h, w]

    def click(self) -> Work:
        """A click, again and again."""
        embeddings = self._embeddings(picture())
        while True:
            yield
            low_res = self._answer(embeddings, grid()[27][None])
            _ = F.interpolate(low_res, SIZE_HW, mode="bilinear", align_corners=False) > 0

    def clicks(self) -> Work:
        """Sixty-four clicks, again and again."""
        embeddings = self._embeddings(picture())
        while True:
            yield
            self._answer(embeddings, grid())

    def automatic(self) -> Work:
        """A picture and 1024 clicks, again and again, but not what is made of their masks: that needs torchvision."""
        image = picture()
        while True:
            yield
            embeddings = self._embeddings(image)
            for _ in range(AUTOMATIC_CLICKS // CLICKS):
                self._answer(embeddings, grid())

    def frame(self, objects: int, frames: int) -> Work:
        """Tracks through a clip; a step is a frame."""
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        squares = torch.stack([frame_to_square(frame, self.side) for frame in moving(frames).frames()])
        session = Sam2VideoInferenceSession(
            squares, *SIZE_HW, inference_device=self.device, inference_state_device=self.device, dtype=torch.float32
        )
        places = points_to_square(torch.from_numpy(spots(objects)).float(), SIZE_HW, self.side)
        for number, place in enumerate(places):
            prompt = {
                "point_coords": place[None, None, None].to(self.device),
                "point_labels": torch.ones(1, 1, 1, dtype=torch.int32, device=self.device),
            }
            session.add_point_inputs(session.obj_id_to_idx(number), 0, prompt)
        session.obj_with_new_inputs = list(range(objects))
        with torch.inference_mode(), self._precision():
            self.video_model(session, frame_idx=0)
            tracked = self.video_model.propagate_in_video_iterator(session, start_frame_idx=0)
            while True:
                yield
                low_res = next(tracked).pred_masks.float()
                _ = F.interpolate(low_res, SIZE_HW, mode="bilinear", align_corners=False) > 0


def _ready(model: Model, device: torch.device) -> Model:
    return model.to(device).eval()


class TransformersCompiled(Transformers):
    """The port with its heavy parts compiled."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        super().__init__(folder, device, dtype)
        for model in (self.image_model, self.video_model):
            model.vision_encoder.compile()
            model.mask_decoder.compile()
        self.video_model.memory_attention.compile(dynamic=True)
        self.video_model.memory_encoder.compile()


CONTENDERS: dict[str, type[Contender]] = {
    "sam2kit": Sam2kit,
    "sam2kit-fast": Sam2kitFast,
    "sam2kit-compiled": Sam2kitCompiled,
    "transformers": Transformers,
    "transformers-compiled": TransformersCompiled,
}


def installed(device: str = "cpu") -> list[str]:
    """Names of the contenders that are here and meant for a device; we come first."""
    here = [name for name in CONTENDERS if find_spec(name.split("-")[0]) is not None]
    return here if device.startswith("cuda") else [name for name in here if "-" not in name]


def work_of(contender: Contender, name: str, frames: int) -> Work:
    """A kind of work by its name: "encode", "click", "clicks", "automatic", "frame" (one object), "frame10".

    Args:
        frames: of the clip in which objects are tracked.
    Raises:
        ValueError: if there is no such work, or the contender does not do it.
    """
    kind = name.rstrip("0123456789")
    begin = getattr(contender, kind, None) if kind in WORKS else None
    if begin is None:
        who = type(contender).__name__.lower()
        raise ValueError(f"{who} does not do {name!r}; kinds of work are {', '.join(WORKS)}")
    return begin(int(name.removeprefix(kind) or 1), frames) if kind == "frame" else begin()


WORKS = ("encode", "click", "clicks", "automatic", "frame")
