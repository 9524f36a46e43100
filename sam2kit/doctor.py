"""What is installed here, what would load, and how fast it will be."""

from __future__ import annotations

import platform
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import numpy as np
import torch
from huggingface_hub import constants

from sam2kit.config import PRESETS, preset
from sam2kit.hardware import THREADS
from sam2kit.hub import cached_weights, hub_source, licence
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.objects import Step, TrackedObject
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import BUNDLED, choose_device, choose_dtype, find_weights, load_model, weights_dtype

_PACKAGES = (
    "gradio", "supervision", "huggingface-hub", "safetensors", "opencv-python-headless", "pillow", "av", "moviepy",
)  # fmt: skip

Answer = TypeVar("Answer")


def examine(source: str, device: str = "auto", dtype: str = "auto") -> dict[str, str]:
    """A report, line by line; nothing is downloaded. Source, device and dtype are those of `load_model`."""
    target = choose_device(device)
    precision = choose_dtype(dtype, target)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": THREADS.describe(),
        "device": _describe(target),
        "precision": str(precision).removeprefix("torch."),
        **{name: _version(name) for name in _PACKAGES},
        "cache": f"{constants.HF_HUB_CACHE}{', offline' if constants.HF_HUB_OFFLINE else ''}",
        "model": _where(source),
        "speed": _speed(source, target, precision),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing: pip install -r requirements.txt"


def _describe(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device.type} ({platform.processor() or platform.machine()})"
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _where(source: str) -> str:
    """Where a model would come from, without fetching it."""
    if source == "nano":
        return f"nano, bundled ({(BUNDLED / 'nano.safetensors').stat().st_size / 1e6:.1f} MB)"
    published = hub_source(source)
    if published is None:
        return f"{source}: {find_weights(source)}"
    terms = f", licence {licence(source)}" if licence(source) else ""
    cached = cached_weights(published)
    if cached is not None:
        return f"{source}: in the cache, {cached}{terms}"
    return (
        f"{source}: to be downloaded from the Hub ({published}){terms}; without a connection the app starts with nano"
    )


def _speed(source: str, device: torch.device, dtype: torch.dtype) -> str:
    """Measure a picture, a click and a tracked frame, on random weights when the real ones are not here."""
    published = hub_source(source)
    if source in PRESETS and source != "nano":
        model = SAM2(preset(source)).to(device, weights_dtype(dtype, device, trainable=False)).eval()
        model.compute_dtype = dtype
    elif published is not None and cached_weights(published) is None:
        return "not measured: the model is on the Hub"
    else:
        model = load_model(source, device, dtype)
    side = model.config.side
    images, click = ImagePredictor(model), Prompt([[side / 2, side / 2]])
    frames = np.zeros((model.config.memory.slots + 2, side, side, 3), np.uint8)
    encode, embedding = quicker_of_two(lambda: images.encode(frames[0]), device)
    decode, _ = quicker_of_two(lambda: images.predict(embedding, click), device)
    expected = f"{encode:.2f} s per photo, then {decode * 1000:.0f} ms per click"
    if not model.memory_is_trained:
        return expected
    videos = VideoPredictor(model)
    session = videos.open(frames)
    videos.add_points(session, 0, 1, [[side / 2, side / 2]])
    track = min(seconds_per_frame(videos, session) for _ in range(2))
    return f"{expected}, {track:.2f} s per frame of a video with one object"


def quicker_of_two(call: Callable[[], Answer], device: torch.device) -> tuple[float, Answer]:
    """Seconds and result of the quicker of two runs."""

    def once() -> tuple[float, Answer]:
        started = time.perf_counter()
        answer = call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started, answer

    return min((once() for _ in range(2)), key=lambda run: run[0])


def trial_of(session: Session) -> Session:
    """The session with nothing but an answer to each of its prompted objects, on its first frame."""
    known = {i: next(iter(item.prompted.values())) for i, item in session.objects.items() if item.prompted}
    objects = {i: TrackedObject(prompted={session.frames[0]: result}) for i, result in known.items()}
    return replace(session, objects=objects, features=OrderedDict())


def seconds_per_frame(predictor: VideoPredictor, session: Session) -> float:
    """Measure how long one more frame of tracking takes when the memory is full.

    Tracks two frames of an invented session, in which an answer that is known stands for all that would be recalled;
    the given session, with at least one prompted object, stays as it is.
    """
    known = {i: next(iter(item.prompted.values())) for i, item in session.objects.items() if item.prompted}
    frames = session.frames
    reach, last = predictor.model.config.memory.slots, len(frames) - 1
    seen = next((frames.index(f) for f in session.features if f in frames), 0)
    begin = min(max(last - reach, 0), seen)
    objects = {i: TrackedObject(prompted={frames[begin]: replace(r, prompted=True)}) for i, r in known.items()}
    trial = replace(session, objects=objects, plan=deque(), run=1, features=OrderedDict(session.features))
    first, last = min(begin + 1, last), min(begin + reach, last)
    seconds = _time_frame(predictor, trial, frames[first])
    if first == last:
        return seconds
    for item in objects.values():
        for place in range(first + 1, last):
            item.tracked[frames[place]] = item.tracked[frames[first]]
            item.memories[frames[place]] = item.memories[frames[first]]
    return _time_frame(predictor, trial, frames[last])


def _time_frame(predictor: VideoPredictor, session: Session, frame: int) -> float:
    before = time.perf_counter()
    predictor.track_frame(session, Step(frame, False, tuple(session.objects)))
    return time.perf_counter() - before
