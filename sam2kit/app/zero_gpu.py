"""Predictors for the machine that the app runs on: the plain ones, or on a ZeroGPU Space those that borrow its GPU.

On a ZeroGPU Space the app's process has no GPU; a function that `spaces.GPU` has decorated runs in a forked process
that has one for a while. A trip costs a second or more and some of the visitor's daily time, so there are few:

    picture    encoded there once; clicks and previews are answered by the mask decoder on the app's own CPU
    segment everything, finer edges, or a prompt on a clip: one trip
    tracking   in chunks, each of which begins where the last one ended

    the app's process                                         the GPU's process
    arguments, such as the part of a session -> bytes ------> on the model's device -> function(model, ...)
    results, such as what changed on a frame <------- bytes <- each one that it yields

The caller sees what a plain predictor stores: the same frames in the same order, tensors on the CPU.

Surprises: bytes are of our own making, because torch would send each tensor through a file handle and shared memory,
and a long video has thousands. All work of a model goes through one decorated function, so that one process, with the
model in it, stays warm for all; ZeroGPU wants to know of it before the app is launched. The app's copy of the model
stays on the CPU. Errors come back as themselves; `spaces` alone would only tell their names.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import pickle
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import cv2
import gradio as gr
import numpy as np
import torch
from torch import Tensor

from sam2kit.hardware import THREADS
from sam2kit.media.mask_files import RunLengths
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask, Steps
from sam2kit.predict.frame_masks import FrameMasks, FrameResult
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.objects import ObjectId, Step
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.refine import refining_steps
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import choose_dtype

_MOST_SECONDS = 60  # of a GPU that everybody may ask for
_SECONDS = 15  # for the process to begin, and to encode a picture or answer on one frame
_MOST_FRAMES = 600  # of a chunk
_KEPT = ("prompts", "prompted", "tracked", "directions", "memories")  # what a TrackedObject has, by frame

GpuFunction = Callable[..., Iterator[Any]]  # (model, *arguments), at the top of a module so that its name is enough
_WORK_OF: weakref.WeakKeyDictionary[SAM2, GpuWork] = weakref.WeakKeyDictionary()
Kept = dict[tuple[ObjectId, str], dict[int, Any]]  # (object, one of _KEPT) -> by frame; None: it is gone


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    try:
        from spaces.config import Config
    except ImportError:
        return False
    return bool(Config.zero_gpu)


def predictor_kinds(model: SAM2) -> tuple[type[ImagePredictor], type[VideoPredictor]]:
    """What asks a model here about pictures, and about clips; on a ZeroGPU Space it is told of the model's work."""
    if not is_zero_gpu():
        return ImagePredictor, VideoPredictor
    GpuWork.of(model)
    return ZeroImagePredictor, ZeroVideoPredictor


def automatic_masks(predictor: ImagePredictor, options: AutomaticOptions | None = None) -> AutomaticMasks:
    """Segments everything with the model of a predictor, and in its way."""
    kind = ZeroAutomaticMasks if isinstance(predictor, ZeroImagePredictor) else AutomaticMasks
    return kind(predictor.model, options, predictor=predictor)


def edge_steps(predictor: ImagePredictor, image: np.ndarray, masks: Sequence[RunLengths]) -> Steps[list[RunLengths]]:
    """As `refining_steps`; on a ZeroGPU Space in one trip."""
    if not isinstance(predictor, ZeroImagePredictor):
        return (yield from refining_steps(predictor, image, masks))
    return (yield from _steps_of(GpuWork.of(predictor.model).run(_MOST_SECONDS, _refine, image, masks)))


def _steps_of(trip: Iterator[Any]) -> Steps[Any]:
    """What comes from a trip, as steps: how far it is, (done, total), and at last what was found."""
    found: Any = []
    for found in trip:
        if isinstance(found, tuple):
            yield found
    return found


class ZeroImagePredictor(ImagePredictor):
    """An ImagePredictor that encodes on a lent GPU."""

    def encode_squares(self, squares: Tensor, sizes_hw: list[tuple[int, int]]) -> list[ImageEmbedding]:
        """As in `ImagePredictor`, on the GPU."""
        return GpuWork.of(self.model).call(_SECONDS, _encode_squares, squares, sizes_hw)


class ZeroAutomaticMasks(AutomaticMasks):
    """AutomaticMasks in one trip to the GPU."""

    def steps(self, picture: PictureSource, embedding: ImageEmbedding | None = None) -> Steps[list[FoundMask]]:
        """As in `AutomaticMasks`, encoded there; each batch of clicks takes a good deal less than a second."""
        seconds = min(_MOST_SECONDS, _SECONDS + self.options.points_per_side**2 // self.options.points_per_batch)
        trip = GpuWork.of(self.predictor.model).run(seconds, _search, read_picture(picture), self.options)
        return (yield from _steps_of(trip))


class ZeroVideoPredictor(VideoPredictor):
    """A VideoPredictor whose model is on the CPU here, and on a lent GPU for what is slow."""

    def encode(self, session: Session, frame: int) -> None:
        """As in `VideoPredictor`, for pictures; of clips the GPU encodes frames anew, which takes less than sending."""
        if session.is_picture and frame not in session.features:
            features = GpuWork.of(self.model).call(_SECONDS, _encode, session.options, session.clip.frame(frame))
            session.keep_features(frame, features.to(self.model.weight_dtype))

    def _answered(
        self, session: Session, frame: int, object_id: ObjectId, prompt: FramePrompt, *, goes_on: bool
    ) -> FrameResult:
        if session.is_picture:
            self.encode(session, frame)
            return super()._answered(session, frame, object_id, prompt, goes_on=goes_on)
        part = self._part(session, [Step(frame, False, ())])
        found, changes = GpuWork.of(self.model).call(_SECONDS, _answer, part, frame, object_id, prompt, goes_on)
        _adopt(session, changes)
        return found

    def resume(self, session: Session) -> Iterator[FrameMasks]:
        """As in `VideoPredictor`, chunk by chunk."""
        while session.plan:
            yield from self._chunk(session)

    def _chunk(self, session: Session) -> Iterator[FrameMasks]:
        """Until the GPU's time is up, or the session is changed from outside: then the next chunk begins with that."""
        steps = list(islice(session.plan, _MOST_FRAMES))
        objects = max(len(step.object_ids) for step in steps)
        seconds = min(_MOST_SECONDS, round(_SECONDS + 5 + len(steps) * (0.1 + 0.02 * objects)))
        part, gpu = self._part(session, steps), GpuWork.of(self.model)
        with closing(gpu.run(seconds, _track, part, seconds - _SECONDS)) as done:
            for session.run, changes in done:
                _adopt(session, changes)
                step = session.plan.popleft()
                left = _state(session)
                yield session.masks(step.frame)
                if _state(session) != left:
                    return

    def _part(self, session: Session, steps: Sequence[Step]) -> Session:
        """What is needed for some steps, as a session of its own: answers of frames that they can recall."""
        reach = max(session.pointer_reach, self.model.config.memory.slots) * session.frames.step
        numbers = [step.frame for step in steps]
        near = range(min(numbers) - reach, max(numbers) + reach + 1)

        def close_by(known: dict[int, Any]) -> dict[int, Any]:
            return {frame: value for frame, value in known.items() if frame in near}

        objects = {
            i: replace(item, tracked=close_by(item.tracked), directions=close_by(item.directions))
            for i, item in session.objects.items()
        }
        return replace(session, objects=objects, plan=deque(steps), features=type(session.features)())


def _state(session: Session) -> list[Any]:
    """What tells whether a session was changed between two frames; prompts compare by identity."""
    objects = ((i, id(item), dict(item.prompts), len(item.tracked)) for i, item in session.objects.items())
    return [session.plan, len(session.plan), *objects]


def _adopt(session: Session, changes: Kept) -> None:
    """Take over what became different on the GPU's side."""
    for (object_id, name), values in changes.items():
        kept = getattr(session.objects[object_id], name)
        for frame, value in values.items():
            if value is None:
                kept.pop(frame, None)
            else:
                kept[frame] = value


# on the GPU


def _encode_squares(model: SAM2, squares: Tensor, sizes_hw: list[tuple[int, int]]) -> Iterator[list[ImageEmbedding]]:
    dtype = model.weight_dtype  # the CPU, which answers clicks, has no autocast
    embeddings = ImagePredictor(model).encode_squares(squares, sizes_hw)
    yield [ImageEmbedding(e.image.to(dtype), e.features.to(dtype), e.size_hw) for e in embeddings]


def _search(model: SAM2, image: np.ndarray, options: AutomaticOptions) -> Iterator[tuple[int, int] | list[FoundMask]]:
    """(batches done, batches in all), as often as there are batches; in the end what was found."""
    found = yield from AutomaticMasks(model, options).steps(image)
    yield found


def _refine(
    model: SAM2, image: np.ndarray, masks: Sequence[RunLengths]
) -> Iterator[tuple[int, int] | list[RunLengths]]:
    finer = yield from refining_steps(ImagePredictor(model), image, masks)
    yield finer


def _encode(model: SAM2, options: VideoOptions, frame: np.ndarray) -> Iterator[ImageFeatures]:
    yield VideoPredictor(model).tracker.encode(options, [frame])


def _answer(
    model: SAM2, session: Session, frame: int, object_id: ObjectId, prompt: FramePrompt, goes_on: bool
) -> Iterator[tuple[FrameResult, Kept]]:
    before = _copies(session)
    with session.clip:
        found = VideoPredictor(model)._answered(session, frame, object_id, prompt, goes_on=goes_on)
    yield found, _changes(before, session)


def _track(model: SAM2, session: Session, seconds: float) -> Iterator[tuple[int, Kept]]:
    """Number of the propagation and what changed, after each frame; at least one frame."""
    end, before = time.monotonic() + seconds, _copies(session)
    with session.clip:
        for _ in VideoPredictor(model).resume(session):
            yield session.run, _changes(before, session)
            if time.monotonic() > end:
                return
            before = _copies(session)


def _copies(session: Session) -> Kept:
    return {(i, name): dict(getattr(item, name)) for i, item in session.objects.items() for name in _KEPT}


def _changes(before: Kept, session: Session) -> Kept:
    """What is not the same value as before; None for what is gone."""
    return {
        key: {f: now.get(f) for f in {**before[key], **now} if now.get(f) is not before[key].get(f)}
        for key, now in _copies(session).items()
    }


# the way there


class GpuWork:
    """What a model does on a lent GPU. Ask `of` for it: a model has one."""

    def __init__(self, model: SAM2) -> None:
        _keep_what_is_inherited()
        known = weakref.ref(model)  # `spaces` keeps what it decorates for ever

        def work(seconds: float, sent: bytes) -> Generator[bytes, None, None]:
            alive = known()
            assert alive is not None, "the caller holds the model"
            yield from _serve(alive, sent)

        self._run: Callable[[float, bytes], Generator[bytes, None, None]] = work
        if is_zero_gpu():
            import spaces

            self._run = spaces.GPU(duration=lambda seconds, sent: seconds)(work)

    @classmethod
    def of(cls, model: SAM2) -> GpuWork:
        """The work of a model; made, and so known to `spaces`, at first use."""
        if model not in _WORK_OF:
            _WORK_OF[model] = cls(model)
        return _WORK_OF[model]

    def run(self, seconds: int, function: GpuFunction, *arguments: Any) -> Generator[Any, None, None]:
        """What `function(model, *arguments)` yields on the GPU, one by one, on the CPU. Closing it stops the work.

        Args:
            seconds: after which the GPU is taken away; asking for less gives a better place in the queue.
        Raises:
            whatever the function raises.
            ValueError: if no GPU is to be had, or it was taken away; says when to try again.
        """
        try:
            with closing(self._run(seconds, pack((function, arguments)))) as sent:
                for result in sent:
                    failed, value = unpack(result)
                    if failed:
                        raise value
                    yield value
        except gr.Error as error:  # what is ours comes as a value: this is what `spaces` says
            raise ValueError(str(error.message)) from error

    def call(self, seconds: int, function: GpuFunction, *arguments: Any) -> Any:
        """The only thing that `function(model, *arguments)` yields; else as `run`."""
        (result,) = self.run(seconds, function, *arguments)
        return result


def _serve(model: SAM2, sent: bytes) -> Iterator[bytes]:
    """In the GPU's process: carry out what was sent."""
    _settle(model)
    function, arguments = unpack(sent, model.device)
    try:
        with closing(function(model, *arguments)) as results:
            for result in results:
                yield pack((False, result))
    except Exception as error:  # the caller's process decides what to do with it
        try:
            failed = pack((True, error))
            unpack(failed)
        except Exception:  # it cannot be taken apart and put together again
            failed = pack((True, RuntimeError(f"{type(error).__name__}: {error}")))
        yield failed


@cache
def _keep_what_is_inherited() -> None:
    """Let no forked process collect the garbage of this one: a decoder waits for its threads, which are not there."""
    os.register_at_fork(after_in_child=gc.freeze)


def _settle(model: SAM2) -> None:
    """Move into the GPU's process; nothing happens in the app's own."""
    if multiprocessing.parent_process() is None:
        return
    # threads do not survive a fork, and libraries that had some would wait for them for ever
    THREADS.fix(1)
    cv2.setNumThreads(0)
    if model.device.type == "cpu" and torch.cuda.is_available():
        model.to("cuda").cast_weights(choose_dtype("auto", torch.device("cuda")))


def pack(value: Any) -> bytes:
    """Pickle; tensors go as plain numbers, wherever they are."""
    file = io.BytesIO()
    _Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def unpack(packed: bytes, device: torch.device | str = "cpu") -> Any:
    """What was packed, with all its tensors on a device."""
    unpacker = _Unpacker(io.BytesIO(packed))
    unpacker.device = device
    return unpacker.load()


class _Packer(pickle.Pickler):
    def persistent_id(self, value: Any) -> tuple[torch.dtype, tuple[int, ...], bytes] | None:
        """A tensor as type, shape and bytes; None for everything else."""
        if not isinstance(value, Tensor):
            return None
        flat = value.detach().cpu().contiguous().flatten()
        return value.dtype, tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()


class _Unpacker(pickle.Unpickler):
    device: torch.device | str

    def persistent_load(self, packed: tuple[torch.dtype, tuple[int, ...], bytes]) -> Tensor:
        """The tensor of what `persistent_id` made."""
        dtype, shape, content = packed
        flat = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.reshape(shape).to(self.device)
