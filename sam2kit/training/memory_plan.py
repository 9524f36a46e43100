"""How much goes through the network at once, the micro-batch: planned before the first step, less when memory is full.

What backward needs grows with the area of the square, with frames (the encoder) and with objects (rounds of the
decoder, memory). So one tiny clip through the very model and configuration tells how large a real one gets.

Source for the shares: measured; SAM 2's own training keeps about 40 GB for 8 frames of 3 objects at 1024 px.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from sam2kit.data.sample import Sample
from sam2kit.model.sam2 import SAM2
from sam2kit.training.configuration import TrainingConfig
from sam2kit.training.interaction import interaction_losses
from sam2kit.training.sampling import PromptPlan

_PROBE_SIDES = (64, 128)  # pixels
_USABLE = 0.8  # of the free memory: workspace and fragments take the rest
_STATE_BYTES = 12  # per trained number: its gradient and AdamW's two averages, float32
_LEAST_FRAMES, _LEAST_SIDE = 2, 128


@dataclass(frozen=True)
class MicroBatch:
    """How much goes through the network at once."""

    side: int  # of the model's square, in pixels
    frames: int  # of a clip
    objects: int  # that share one pass; more objects take more passes, with the same result

    def shrunk(self) -> MicroBatch | None:
        """The next smaller one: fewer objects at once, then fewer frames, then a coarser square; None at the end."""
        if self.objects > 1:
            return replace(self, objects=self.objects // 2)
        if self.frames > _LEAST_FRAMES:
            return replace(self, frames=max(self.frames // 2, _LEAST_FRAMES))
        side = self.side * 3 // 4 // 32 * 32
        return replace(self, side=side) if side >= _LEAST_SIDE else None

    def __str__(self) -> str:
        return f"{self.objects} object(s) at once, {self.frames} frame(s), {self.side} px"


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes that backward keeps: of a frame in the image encoder, of an object on a corrected frame (all its rounds),
    and of an object on a frame where it is only tracked."""

    constant: np.ndarray  # [3] saved once, such as weights in another precision
    per_pixel: np.ndarray  # [3] of the square: maps
    fixed: float = 0.0  # gradients and the optimiser's state

    @classmethod
    def through(cls, measured: Mapping[int, Sequence[float]], fixed: float = 0.0) -> MemoryNeeds:
        """What fits the measurements at two sides of the square."""
        (small, low), (large, high) = ((side, np.array(sizes, float)) for side, sizes in sorted(measured.items()))
        per_pixel = (high - low).clip(min=0) / (large**2 - small**2)
        return cls((low - per_pixel * small**2).clip(min=0), per_pixel, fixed)

    def of(self, size: MicroBatch, corrected_frames: int) -> float:
        """Bytes for a training clip."""
        corrected = min(corrected_frames, size.frames)
        times = np.array([size.frames, corrected * size.objects, (size.frames - corrected) * size.objects])
        return float(self.fixed + self.constant[times > 0].sum() + size.side**2 * times @ self.per_pixel)


def measure_needs(model: SAM2, config: TrainingConfig) -> MemoryNeeds:
    """Simulate two small interactions with one object and count what they keep. Takes about a second."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    measured = {side: _measure_at(side, model, config) for side in _PROBE_SIDES}
    return MemoryNeeds.through(measured, _STATE_BYTES * trained)


def _measure_at(side: int, model: SAM2, config: TrainingConfig) -> tuple[float, float, float]:
    """Bytes for encoding a frame, for a corrected frame, and for a tracked one."""
    pixels = torch.zeros(2, 3, side, side, device=model.device)
    masks = torch.zeros(2, 1, side, side, dtype=torch.bool, device=model.device)
    masks[..., : side // 2, : side // 2] = True
    plan = PromptPlan(((0, "click"),), ((0, config.prompts.corrections),))

    def total(frames: int) -> Tensor:
        with torch.no_grad():
            encoded = model.encode_image(pixels)
        features = [encoded[t : t + 1] for t in range(frames)]
        generator = torch.Generator().manual_seed(0)
        return interaction_losses(model, features, masks[:frames], [plan], config.supervision, generator).total

    with model.precision():
        frame = kept_bytes(lambda: model.encode_image(pixels[:1]).stride16.sum())
        corrected = kept_bytes(lambda: total(1))
        both = kept_bytes(lambda: total(2))
    return frame, corrected, max(both - corrected, 0)


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """Bytes of all different storages that autograd keeps for a backward pass, but for the parameters."""
    storages: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(storages.values())


def free_bytes(device: torch.device, accelerator: Accelerator) -> int:
    """Memory that is free on a device for this process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))  # they share the computer's memory
    return psutil.virtual_memory().available // max(here, 1)


def plan_micro_batch(needs: MemoryNeeds, wanted: MicroBatch, corrected_frames: int, free: int) -> MicroBatch:
    """The largest micro-batch, from the wanted one downwards, that should fit into the free bytes.

    Raises:
        ValueError: if not even the smallest does.
    """
    size = wanted
    while (needed := needs.of(size, corrected_frames)) > _USABLE * free:
        smaller = size.shrunk()
        if smaller is None:
            raise ValueError(
                f"the device has {free / 2**30:.1f} GB free, and training needs about {needed / 2**30:.1f} GB even "
                f"with {size}; close other programs, or take a smaller model or the decoder recipe"
            )
        size = smaller
    return size


def micro_batch_for(
    model: SAM2, config: TrainingConfig, train: Sequence[Sample], accelerator: Accelerator
) -> MicroBatch:
    """What fits the device at once, for this model and configuration."""
    frames = 1 if all(s.is_picture for s in train) else config.frames
    corrected = config.prompts.corrected_frames if frames > 1 else 1
    wanted = MicroBatch(model.config.side, frames, config.objects)
    free = free_bytes(accelerator.device, accelerator)
    size = plan_micro_batch(measure_needs(model, config), wanted, corrected, free)
    if accelerator.num_processes > 1:  # they all take what the smallest of them can
        size = min(gather_object([size]), key=lambda one: (one.side, one.frames, one.objects))
    if (size.side, size.frames) != (wanted.side, wanted.frames):
        warnings.warn(f"the device is small; training with {size}")
    return size
