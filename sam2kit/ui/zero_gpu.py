"""Predictors for the machine that the app runs on: the plain ones, or those of a ZeroGPU Space.

A ZeroGPU Space lends its visitors a GPU for seconds, in another process; gpu_calls.py has the way there, zero_images.py
and zero_videos.py what is sent. Elsewhere all of this is the plain predictors and no more. Make them before the app is
launched: ZeroGPU wants to know of its work by then.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.image import ImageOptions, ImagePredictor
from sam2kit.predict.video import VideoPredictor
from sam2kit.teaching import TeachPlan, train_events
from sam2kit.ui.gpu_calls import GpuWork, is_zero_gpu
from sam2kit.ui.teach_run import Events
from sam2kit.ui.zero_images import ZeroAutomaticMasks, ZeroImagePredictor
from sam2kit.ui.zero_videos import ZeroVideoPredictor

_SECONDS_AROUND = 30  # of a training: to begin, and for the last test


def app_device(wanted: str) -> str:
    """Where the app's own process keeps its model.

    Args:
        wanted: what a person asked for, as `load_model` takes it.
    """
    return "cpu" if is_zero_gpu() else wanted


def app_dtype(wanted: str) -> str:
    """The precision in which the app's own process is to compute.

    Args:
        wanted: what a person asked for, as `load_model` takes it.
    Raises:
        ValueError: if it is not "auto" on a ZeroGPU Space.
    """
    if is_zero_gpu() and wanted != "auto":
        raise ValueError(f"on ZeroGPU the precision is the lent GPU's own, got --dtype {wanted}; leave it out")
    return wanted


def device_name(model: SAM2) -> str:
    """What to tell visitors about where the model runs."""
    return "ZeroGPU" if is_zero_gpu() else model.device.type.upper()


def image_predictor(
    model: SAM2, options: ImageOptions | None = None, lock: AbstractContextManager[object] | None = None
) -> ImagePredictor:
    """Asks about pictures; arguments as for `ImagePredictor`."""
    kind = ZeroImagePredictor if is_zero_gpu() else ImagePredictor
    return kind(model, options, lock=lock)


def automatic_masks(predictor: ImagePredictor, options: AutomaticOptions | None = None) -> AutomaticMasks:
    """Segments everything with the model of a predictor, and in its way."""
    kind = ZeroAutomaticMasks if isinstance(predictor, ZeroImagePredictor) else AutomaticMasks
    return kind(predictor.model, options, predictor=predictor)


def video_predictor(
    model: SAM2, options: VideoOptions | None = None, lock: AbstractContextManager[object] | None = None
) -> VideoPredictor:
    """Follows things through videos; arguments as for `VideoPredictor`."""
    kind = ZeroVideoPredictor if is_zero_gpu() else VideoPredictor
    return kind(model, options, lock=lock)


def teach_events(model: SAM2) -> Events:
    """Carries out what is taught on top of a model; on ZeroGPU on a GPU that is lent for as long as it is to last."""
    return partial(_lent, GpuWork.of(model)) if is_zero_gpu() else train_events


def _lent(gpu: GpuWork, plan: TeachPlan) -> Generator[dict[str, Any], None, None]:
    yield from gpu.run(round(60 * plan.minutes) + _SECONDS_AROUND, _train, replace(plan, device="auto"))


def _train(model: SAM2, plan: TeachPlan) -> Iterator[dict[str, Any]]:
    """On the GPU. The engine loads its own copy of the model."""
    yield from train_events(plan)
