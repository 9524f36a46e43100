"""How much of a lesson fits a device at once: measured on a small one, and taken back when memory runs out after all.

What backward needs grows with the area of the square, with frames (the encoder) and with objects (rounds of the
decoder, memory). So one tiny session of the very model and recipe tells how large a real one gets.

Source for the shares: measured; SAM 2's own recipe keeps about 40 GB for 8 frames of 3 objects at 1024 px.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sam2kit.model.sam2 import SAM2
from sam2kit.training.recipes import Recipe
from sam2kit.training.session import SessionTraining
from sam2kit.training.simulated_user import SessionPlan

_PROBE_SIDES = (64, 128)  # pixels
_USABLE = 0.8  # of the free memory: workspace and fragments take the rest
_STATE_BYTES = 12  # per trained number: its gradient and AdamW's two averages, float32
_LEAST_FRAMES, _LEAST_SIDE = 2, 128


@dataclass(frozen=True)
class Room:
    """How much goes through the network at once."""

    side: int  # of the model's square, in pixels
    frames: int  # of a clip
    objects: int  # that share one pass; more objects take more passes, with the same result

    def smaller(self) -> Room | None:
        """The next smaller room: fewer objects at once, then fewer frames, then a coarser square; None at the end."""
        if self.objects > 1:
            return replace(self, objects=self.objects // 2)
        if self.frames > _LEAST_FRAMES:
            return replace(self, frames=max(self.frames // 2, _LEAST_FRAMES))
        side = self.side * 3 // 4 // 32 * 32
        return replace(self, side=side) if side >= _LEAST_SIDE else None

    def as_dict(self) -> dict[str, int]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.objects} object(s) at once, {self.frames} frame(s), {self.side} px"


@dataclass(frozen=True)
class Growth:
    """Bytes that grow with the area of the square: weights that are saved once, and maps."""

    constant: float
    per_pixel: float

    @classmethod
    def through(cls, measured: dict[int, float]) -> Growth:
        """The growth that fits two measurements, side -> bytes."""
        (small, low), (large, high) = sorted(measured.items())
        slope = max(high - low, 0) / (large * large - small * small)
        return cls(max(low - slope * small * small, 0.0), slope)


@dataclass(frozen=True)
class Needs:
    """Bytes that backward keeps."""

    frame: Growth  # by the image encoder
    corrected: Growth  # per object: a prompted frame with all its rounds
    tracked: Growth  # per object: a frame that is only followed
    fixed: float  # gradients and the optimiser's state

    def of(self, room: Room, corrected_frames: int) -> float:
        """Bytes for a lesson; what is saved once counts once for each kind of frame."""
        corrected = min(corrected_frames, room.frames)
        times = (
            (self.frame, room.frames),
            (self.corrected, corrected * room.objects),
            (self.tracked, (room.frames - corrected) * room.objects),
        )
        area = room.side * room.side
        return self.fixed + sum(growth.constant + n * area * growth.per_pixel for growth, n in times if n)


def measure_needs(model: SAM2, recipe: Recipe) -> Needs:
    """Play two small sessions with one object and count what they keep. Takes about a second."""
    measured = {side: _measure_at(side, model, recipe) for side in _PROBE_SIDES}
    frame, corrected, tracked = (
        Growth.through({side: values[n] for side, values in measured.items()}) for n in range(3)
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Needs(frame, corrected, tracked, _STATE_BYTES * trained)


def _measure_at(side: int, model: SAM2, recipe: Recipe) -> tuple[float, float, float]:
    """Bytes for encoding a frame, for a corrected frame, and for a tracked one."""
    pixels = torch.zeros(2, 3, side, side, device=model.device)
    masks = torch.zeros(2, 1, side, side, dtype=torch.bool, device=model.device)
    masks[..., : side // 2, : side // 2] = True
    training, plan = SessionTraining(model), SessionPlan(((0, "click"),), ((0, recipe.habits.corrections),))

    def play(frames: int) -> Tensor:
        with torch.no_grad():
            encoded = model.encode_image(pixels)
        features = [encoded[t : t + 1] for t in range(frames)]
        generator = torch.Generator().manual_seed(0)
        return training(features, masks[:frames], [plan], recipe.rules, recipe.weights, generator).total

    with model.precision():
        frame = kept_bytes(lambda: model.encode_image(pixels[:1]).stride16.sum())
        corrected = kept_bytes(lambda: play(1))
        both = kept_bytes(lambda: play(2))
    return frame, corrected, max(both - corrected, 0)


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """Bytes of all different storages that autograd keeps for a backward pass."""
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


def plan_room(needs: Needs, wanted: Room, corrected_frames: int, free: int) -> Room:
    """The largest room, from the wanted one downwards, that should fit into the free bytes.

    Raises:
        ValueError: if not even the smallest does.
    """
    room = wanted
    while (needed := needs.of(room, corrected_frames)) > _USABLE * free:
        smaller = room.smaller()
        if smaller is None:
            raise ValueError(
                f"the device has {free / 2**30:.1f} GB free, and training needs about {needed / 2**30:.1f} GB even "
                f"with {room}; close other programs, or take a smaller model or the decoder recipe"
            )
        room = smaller
    return room
