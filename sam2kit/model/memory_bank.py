"""What a frame recalls: which memories, in pure Python on frame numbers, and those as tensors.

Between memory_encoder.py, which makes memories, and memory_attention.py, which looks at them.

    prompted frames  ---(all of them)------------------+
    latest frames    ---(nearest has distance 1)-------+--> maps, each with a learned slot
    object pointers  ---(prompted + up to 15 latest)---+--> pointers, each with its distance in time

Surprises: prompted frames carry no distance; the last slot marks them, however old they are. A prompted frame in
the future (of the direction in which time runs) lends its map, but not its pointer.

Where unreliable frames are passed over, those that are recalled have ranks in place of distances, as a slot for each
distance was never learned; with none passed over, both are the same. Anchors are old frames on which the object was
told from something like it; they take the slot of prompted frames.

Source: SAM 2, arXiv:2408.00714, section 4 "Memory bank" and the architecture appendix; ranks as in SAM2Long,
arXiv:2410.16268, and anchors as in DAM4SAM, arXiv:2411.17576.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POINTER_FRAMES = 16  # pointers reach back this far, the current frame included


@dataclass(frozen=True)
class SelectedMemories:
    """What one frame recalls of one object. Objects with equal selections can share a pass of the network."""

    maps: tuple[tuple[int, int], ...]  # (frame, slot): spatial memories
    pointers: tuple[tuple[int, int], ...]  # (frame, distance in frames; negative where the frame is still to come)

    @property
    def shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Slots and distances; where they are the same, different frames can share a pass as well."""
        return tuple(slot for _, slot in self.maps), tuple(distance for _, distance in self.pointers)


def choose_memories(
    now: int,
    prompted: Iterable[int],
    tracked: Collection[int],
    *,
    slots: int,
    pointer_frames: int,
    reverse: bool,
    future_pointers: bool = False,
    reliable: Callable[[int], bool] | None = None,
    anchors: Iterable[int] = (),
) -> SelectedMemories:
    """Choose what frame `now` recalls.

    Args:
        now: the current frame.
        prompted: conditioning frames of the object.
        tracked: other frames that left a memory; a frame in both counts as prompted.
        slots: of the model: one for conditioning frames, the others for distances 1, 2, ...
        pointer_frames: how far pointers reach back; POINTER_FRAMES, or the length of a shorter clip.
        reverse: time runs backwards, so "before" means a larger frame number.
        future_pointers: also take pointers of conditioning frames that are still to come, at negative distances;
            the published training does.
        reliable: pass over tracked frames of which this is false, but for the one just before; None takes all.
        anchors: tracked frames that stay longer than others; the latest half of the slots.
    """
    prompted = tuple(prompted)
    conditioning = set(prompted)
    step = -1 if reverse else 1

    def before(distance: int) -> int | None:
        frame = now - step * distance
        return frame if frame in tracked and frame not in conditioning else None

    past = [(f, (now - f) * step) for f in prompted if future_pointers or (now - f) * step >= 0]
    if reliable is None:
        latest = [(f, d - 1) for d in range(slots - 1, 0, -1) if (f := before(d)) is not None]
        recent = [(f, d) for d in range(1, pointer_frames) if (f := before(d)) is not None]
    else:
        # a prompt ends what was believed before it, but for what pointers reach anyway
        ends = min(((now - f) * step for f in prompted if (now - f) * step > 0), default=math.inf)
        distances = sorted((now - f) * step for f in {*tracked, *conditioning} if (now - f) * step > 0)
        within = [now - step * d for d in distances if d <= max(ends, pointer_frames - 1)]
        taken = [f for f in within if f in conditioning or f == now - step or reliable(f)]
        old = {*anchors} - conditioning - {now - step}
        stay = [f for f in within if f in old and (now - f) * step < ends][: (slots - 1) // 2]
        # a conditioning frame takes up a rank: it has a place of its own
        ranked = enumerate([f for f in taken if f not in stay][: slots - 1 - len(stay)])
        ranks = [(f, rank) for rank, f in ranked if f not in conditioning]
        latest = [(f, slots - 1) for f in reversed(stay)] + ranks[::-1]
        recent = [(f, n) for n, f in enumerate(taken[: pointer_frames - 1], start=1) if f not in conditioning]
    maps = [(f, slots - 1) for f in prompted] + latest
    return SelectedMemories(tuple(maps), tuple(past + recent))


@dataclass(frozen=True)
class Memories:
    """M spatial memories and P object pointers of B objects."""

    maps: Tensor  # [B, M, memory dim, h, w], M at least 1
    slots: Tensor  # [M] int64, the place of each in the memory bank
    pointers: Tensor  # [B, P, dim]
    distances: Tensor  # [P] float32 frames, divided by the longest distance; negative where the frame is to come
    keys: Tensor | None = None  # [B, M, layers, h * w, dim] of the maps, if they are kept; see `SAM2.keys_of`

    @classmethod
    def of(
        cls,
        maps: Sequence[tuple[Tensor, int]],
        pointers: Sequence[tuple[Tensor, int]],
        *,
        dim: int,
        pointer_frames: int,
        keys: Sequence[Tensor] | None = None,
    ) -> Memories:
        """Put together what was chosen.

        Args:
            maps: memories [B, memory dim, h, w] from `SAM2.remember`, each with its slot; at least one.
            pointers: object pointers [B, dim], each with its distance in frames.
            dim: of pointers.
            pointer_frames: how far pointers may reach back, the unit of their distances.
            keys: [B, layers, h * w, dim] of each map, if they are kept.
        """
        first, reach = maps[0][0], max(pointer_frames - 1, 1)
        return cls(
            maps=torch.stack([m for m, _ in maps], dim=1),
            slots=_sent([slot for _, slot in maps], torch.int64, first.device),
            pointers=torch.stack([p for p, _ in pointers], dim=1) if pointers else first.new_zeros(len(first), 0, dim),
            distances=_sent([d for _, d in pointers], torch.float32, first.device) / reach,
            keys=None if keys is None else torch.stack(list(keys), dim=1),
        )


def _sent(values: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device; from pinned memory, so that nobody waits for a GPU."""
    here = torch.tensor(values, dtype=dtype)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)
