"""What is installed here, what would load, and how fast it will be."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import torch

from sam2kit.config import PRESETS, preset
from sam2kit.hub import cached_weights, hub_repo
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.threads import THREADS
from sam2kit.weights import BUNDLED, choose_device, choose_dtype, find_weights, load_model, weights_dtype

_PACKAGES = (
    "gradio",
    "supervision",
    "huggingface-hub",
    "safetensors",
    "opencv-python-headless",
    "pillow",
    "av",
    "moviepy",
)

Answer = TypeVar("Answer")


def examine(source: str, device: str = "auto", dtype: str = "auto") -> dict[str, str]:
    """A report, line by line; nothing is downloaded.

    Args:
        source: the model that the user means to run.
        device, dtype: as `load_model`.
    """
    target = choose_device(device)
    precision = choose_dtype(dtype, target)
    report = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": THREADS.describe(),
        "device": _describe(target),
        "precision": str(precision).removeprefix("torch."),
    }
    report |= {name: _version(name) for name in _PACKAGES}
    report["cache"] = _cache_folder()
    report["model"] = _where(source)
    report["speed"] = _speed(source, target, precision)
    return report


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


def _cache_folder() -> str:
    from huggingface_hub import constants

    return f"{constants.HF_HUB_CACHE}{', offline' if constants.HF_HUB_OFFLINE else ''}"


def _where(source: str) -> str:
    """Where a model would come from, without fetching it."""
    if source == "nano":
        return f"nano, bundled ({(BUNDLED / 'nano.safetensors').stat().st_size / 1e6:.1f} MB)"
    repo = hub_repo(source)
    if repo is None:
        return f"{source}: {find_weights(source)}"
    cached = cached_weights(repo)
    if cached is not None:
        return f"{source}: in the cache, {cached}"
    return f"{source}: to be downloaded from the Hub ({repo}); without a connection the app starts with nano"


def _speed(source: str, device: torch.device, dtype: torch.dtype) -> str:
    """Measure one picture and one click, on random weights when the real ones are not here."""
    repo = hub_repo(source)
    if source in PRESETS and source != "nano":
        model = SAM2(preset(source)).to(device, weights_dtype(dtype, device, trainable=False)).eval()
        model.compute_dtype = dtype
    elif repo is not None and cached_weights(repo) is None:
        return "not measured: the model is on the Hub"
    else:
        model = load_model(source, device, dtype)
    side = model.config.side
    pixels = torch.zeros(1, 3, side, side, device=device)
    click = PromptTensors(torch.full((1, 1, 2), side / 2, device=device), torch.ones(1, 1, device=device))

    def once(call: Callable[[], Answer]) -> tuple[float, Answer]:
        started = time.perf_counter()
        answer = call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started, answer

    def timed(call: Callable[[], Answer]) -> tuple[float, Answer]:
        return min((once(call) for _ in range(2)), key=lambda run: run[0])

    with torch.inference_mode(), model.precision():
        encode, features = timed(lambda: model.encode_image(pixels))
        image = model.without_memory(features.stride16)
        decode, _ = timed(lambda: model.segment(image, features, click, multimask=True))
    return f"{encode:.2f} s per photo, then {decode * 1000:.0f} ms per click"
