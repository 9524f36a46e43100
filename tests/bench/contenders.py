"""Who can do the work, and how: a generator for each kind of it, prepared at the first step, timed at all others.

    encode       a 1280x720 picture -> its embedding
    click        one click on an encoded picture -> three masks of 1280x720 on the host
    clicks       64 clicks on an encoded picture, each a prompt of its own -> 3 x 64 low-res masks
    frame        one more frame of a 1280x720 clip in which a number of objects are tracked -> their masks on the host

Everybody gets the same weights, bytes of pictures and prompts, and ends with masks of the same size in the same place.
Resizing and normalising are part of the work; the port does them where its model is, and thresholds its masks there.
Small holes, which it leaves, are left by us too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sam2kit.media.clip import Clip
from sam2kit.predict.geometry import image_to_square, masks_to_image, points_to_square
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import SpeedOptions, VideoOptions
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import choose_dtype, load_model

SIZE_HW = (720, 1280)
CLICKS = 64
_FRAME_TIME = Fraction(1, 25)  # seconds
_SHIFT = 8  # pixels that a clip moves from frame to frame
_TURN = 16  # frames after which it moves back again

WORKS = ("encode", "click", "clicks", "frame")
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
    """The picture, pushed to the right and back; frames lie in memory, so that nobody waits for them."""
    return _Moving(frames)


class _Moving(Clip):
    def __init__(self, frames: int) -> None:
        first = picture()
        self._frames = [np.roll(first, _SHIFT * i, axis=1) for i in range(min(frames, _TURN + 1))]
        self.size_hw, self.last_duration = SIZE_HW, _FRAME_TIME
        self.timestamps = tuple(i * _FRAME_TIME for i in range(frames))

    def _read(self, index: int) -> np.ndarray:
        place = index % (2 * _TURN)
        return self._frames[min(place, 2 * _TURN - place)]


def repeated(call: Callable[[], object]) -> Work:
    """The same work again and again."""
    while True:
        yield None
        call()


def grid() -> np.ndarray:
    """[64, 2] clicks (x, y) on a picture."""
    side = round(CLICKS**0.5)
    unit = (np.indices((side, side)).reshape(2, -1).T[:, ::-1] + 0.5) / side
    return unit * np.array(SIZE_HW[::-1])


class Sam2kit:
    """This package, as people use it, with weights of `compare.write_weights`; a method for each kind of work."""

    works: tuple[str, ...] = WORKS  # that are done in a way of its own
    preset: str | None = None  # of its model, where it is not the one that is measured
    speed: SpeedOptions | None = None

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        self.model = load_model(folder / (self.preset or "") / "model.safetensors", device, dtype)
        self.predictor = ImagePredictor(self.model)
        self.encoders = [self.model.image_encoder]  # whose pictures are counted; not where that disturbs the compiler

    def encode(self) -> Work:
        image = picture()
        return repeated(lambda: self.predictor.encode(image))

    def click(self) -> Work:
        embedding = self.predictor.encode(picture())
        prompt = Prompt(grid()[27][None])
        return repeated(lambda: self.predictor.predict(embedding, prompt).masks.cpu())

    def clicks(self) -> Work:
        embedding = self.predictor.encode(picture())
        prompt = Prompt(grid()[:, None])
        return repeated(lambda: self.predictor.predict(embedding, prompt))

    def frame(self, objects: int, frames: int) -> Work:
        predictor = VideoPredictor(self.model, VideoOptions(max_hole_area=0.0), speed=self.speed)
        session = predictor.open(moving(frames))
        for number, place in enumerate(spots(objects)):
            predictor.add_points(session, 0, number, place[None])
        tracked = predictor.propagate(session, direction="forward")
        return repeated(lambda: next(tracked).masks)


class Sam2kitFast(Sam2kit):
    """The same as with `sam2kit video --fast`."""

    works = ("frame",)
    speed = SpeedOptions.fastest()


class Sam2kitCompiled(Sam2kitFast):
    """The same as with `sam2kit video --compile`."""

    speed = SpeedOptions.fastest(compile=True)

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        super().__init__(folder, device, dtype)
        self.encoders = []


class Sam2kitEfficientTAM(Sam2kit):
    """EfficientTAM, at its own side."""

    preset = "efficienttam-ti-512"


class Sam2kitEdgeTAM(Sam2kit):
    """EdgeTAM, at its own side."""

    preset = "edgetam"


class Transformers:
    """Hugging Face's port, in autocast where the precision is lower."""

    works: tuple[str, ...] = WORKS
    preset: str | None = None
    half = False  # whether the weights themselves are in the lower precision, without autocast
    family = "Sam2"  # of its classes

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        import transformers

        image_kind, video_kind = (getattr(transformers, f"{self.family}{what}Model") for what in ("", "Video"))
        folder = folder / (self.preset or "") / "transformers"
        self.device, self.dtype = torch.device(device), choose_dtype(dtype, torch.device(device))
        self.weight_dtype = self.dtype if self.half else torch.float32
        self.image_model = self._ready(image_kind.from_pretrained(folder))
        self.video_model = self._ready(video_kind.from_pretrained(folder))
        config: Any = self.image_model.config  # its type leaves open what its parts are
        self.side = config.prompt_encoder_config.image_size
        self.encoders = [self.image_model.vision_encoder, self.video_model.vision_encoder]

    def _ready(self, model: Model) -> Model:
        return model.to(self.device, self.weight_dtype).eval()

    def _square(self, image: np.ndarray) -> Tensor:
        """[3, S, S] on the device, from bytes."""
        pixels = torch.from_numpy(image).to(self.device, non_blocking=True).permute(2, 0, 1)
        return image_to_square(pixels, self.side).to(self.weight_dtype)

    def _precision(self) -> AbstractContextManager[object]:
        lower = self.dtype != self.weight_dtype
        return torch.autocast(self.device.type, self.dtype) if lower else nullcontext()

    def encode(self) -> Work:
        image = picture()
        return repeated(lambda: self._embeddings(image))

    def _embeddings(self, image: np.ndarray) -> list[Tensor]:
        with torch.inference_mode(), self._precision():
            return self.image_model.get_image_embeddings(self._square(image)[None])

    def _answer(self, embeddings: list[Tensor], clicks: np.ndarray) -> tuple[Tensor, Tensor]:
        """[N, 3, h, w] low-res mask logits and [N, 3] predicted IoUs."""
        points = points_to_square(torch.from_numpy(clicks).float(), SIZE_HW, self.side).to(self.device)
        with torch.inference_mode(), self._precision():
            answer = self.image_model(
                image_embeddings=embeddings,
                input_points=points[None, :, None],
                input_labels=torch.ones(1, len(points), 1, dtype=torch.int64, device=self.device),
                multimask_output=True,
            )
        return answer.pred_masks[0].float(), answer.iou_scores[0].float()

    def click(self) -> Work:
        embeddings = self._embeddings(picture())
        click = grid()[27][None]
        return repeated(lambda: (masks_to_image(self._answer(embeddings, click)[0], SIZE_HW) > 0).cpu())

    def clicks(self) -> Work:
        embeddings = self._embeddings(picture())
        return repeated(lambda: self._answer(embeddings, grid()))

    def frame(self, objects: int, frames: int) -> Work:
        name = f"{self.family.lower()}_video"
        modeling = import_module(f"transformers.models.{name}.modeling_{name}")
        session: Any = getattr(modeling, f"{self.family}VideoInferenceSession")(
            None, *SIZE_HW, inference_device=self.device, inference_state_device=self.device, dtype=self.weight_dtype
        )
        session.processed_frames = _Squares(moving(frames), self._square)
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
                yield None
                low_res = next(tracked).pred_masks.float()
                (masks_to_image(low_res, SIZE_HW) > 0).cpu()


class _Squares:
    """Frames of a clip, prepared when the port asks for them, as its session wants them."""

    def __init__(self, clip: Clip, prepared: Callable[[np.ndarray], Tensor]) -> None:
        self._clip, self._prepared = clip, prepared

    def __len__(self) -> int:
        return len(self._clip)

    def __getitem__(self, frame: int) -> Tensor:
        return self._prepared(self._clip.frame(frame))


class TransformersHalf(Transformers):
    """The port with its weights in the lower precision."""

    half = True


class TransformersEdgeTAM(Transformers):
    """The port of EdgeTAM, whose trunk is timm's."""

    preset = "edgetam"
    family = "EdgeTam"

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        sys.meta_path.append(_EmptyTorchvision())
        super().__init__(folder, device, dtype)


class _EmptyTorchvision(MetaPathFinder, Loader):
    """Stands in where there is no torchvision: timm imports it for its data sets, and its models need nothing of it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] == "torchvision" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Anything(ModuleType):
    __path__: list[str] = []
    __version__ = "0.0"  # transformers asks

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


class _Names(type):
    """A class that has all constants."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class TransformersCompiled(TransformersHalf):
    """The same with the heavy parts of tracking compiled."""

    works = ("frame",)

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        super().__init__(folder, device, dtype)
        self.encoders = []
        self.video_model.vision_encoder.compile()
        self.video_model.mask_decoder.compile()
        self.video_model.memory_attention.compile(dynamic=True)
        self.video_model.memory_encoder.compile()


Contender = Sam2kit | Transformers
CONTENDERS: dict[str, type[Contender]] = {
    "sam2kit": Sam2kit,
    "sam2kit-fast": Sam2kitFast,
    "transformers": Transformers,
    "transformers-half": TransformersHalf,
    "sam2kit-efficienttam": Sam2kitEfficientTAM,
    "sam2kit-edgetam": Sam2kitEdgeTAM,
    "transformers-edgetam": TransformersEdgeTAM,
    "sam2kit-compiled": Sam2kitCompiled,
    "transformers-compiled": TransformersCompiled,
}


def installed(device: str = "cpu", dtype: str = "float32") -> list[str]:
    """Names of the contenders that are here and meant for a device and a precision; we come first."""
    here = [name for name in CONTENDERS if find_spec(name.split("-")[0]) is not None]
    here = [name for name in here if name != "transformers-edgetam" or find_spec("timm") is not None]
    if not device.startswith("cuda"):
        return [name for name in here if "-" not in name or CONTENDERS[name].preset is not None]
    return [name for name in here if dtype != "float32" or name != "transformers-half"]


def work_of(contender: Contender, name: str, frames: int) -> Work:
    """A kind of work by its name: "encode", "click", "clicks", "frame" (one object), "frame10".

    Args:
        frames: of the clip in which objects are tracked.
    Raises:
        ValueError: if there is no such work, or the contender does not do it.
    """
    kind = kind_of(name)
    if kind not in contender.works:
        who = type(contender).__name__.lower()
        raise ValueError(f"{who} does not do {name!r}; its kinds of work are {', '.join(contender.works)}")
    begin = getattr(contender, kind)
    return begin(int(name.removeprefix(kind) or 1), frames) if kind == "frame" else begin()


def kind_of(work: str) -> str:
    """Without the number of objects."""
    return work.rstrip("0123456789")
