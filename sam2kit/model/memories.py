"""What a frame recalls, as tensors.

After memory_bank.py, which chooses by frame numbers; before memory_attention.py, which looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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
            pointer_frames: how far pointers may look back, the unit of their distances.
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
