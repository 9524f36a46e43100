"""What a frame recalls, as tensors.

After memory_bank.py, which chooses by frame numbers; before memory_attention.py, which looks.

As a video begins, there is more to recall from frame to frame, and shapes grow. Where the work of a frame is compiled
or recorded they have to stay, so there can be room for what will come; `known` then tells memories from empty places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Memories:
    """M spatial memories and P object pointers of B objects."""

    maps: Tensor  # [B, M, memory dim, h, w], M at least 1
    slots: Tensor  # [M] int64, the place of each in the memory bank
    pointers: Tensor  # [B, P, dim]
    distances: Tensor  # [P] float32 frames, divided by the longest distance; negative where the frame is to come
    known: Tensor | None = None  # [M + P] bool, False for empty places; None where there are none

    @classmethod
    def of(
        cls,
        maps: Sequence[tuple[Tensor, int]],
        pointers: Sequence[tuple[Tensor, int]],
        *,
        dim: int,
        pointer_frames: int,
    ) -> Memories:
        """Put together what was chosen.

        Args:
            maps: memories [B, memory dim, h, w] from `SAM2.remember`, each with its slot; at least one.
            pointers: object pointers [B, dim], each with its distance in frames.
            dim: of pointers.
            pointer_frames: how far pointers may look back, the unit of their distances.
        """
        first, reach = maps[0][0], max(pointer_frames - 1, 1)
        return cls(
            maps=torch.stack([m for m, _ in maps], dim=1),
            slots=torch.tensor([slot for _, slot in maps], device=first.device),
            pointers=torch.stack([p for p, _ in pointers], dim=1) if pointers else first.new_zeros(len(first), 0, dim),
            distances=torch.tensor([d for _, d in pointers], dtype=torch.float32, device=first.device) / reach,
        )

    def with_room(self, maps: int, pointers: int) -> Memories:
        """The same among empty places, as many as are missing to so many maps and pointers."""
        now = self.maps.shape[1], self.pointers.shape[1]
        more_maps, more_pointers = max(0, maps - now[0]), max(0, pointers - now[1])
        if not more_maps and not more_pointers:
            return self
        taken = [torch.arange(n + more) < n for n, more in zip(now, (more_maps, more_pointers), strict=True)]
        return Memories(
            F.pad(self.maps, (0, 0, 0, 0, 0, 0, 0, more_maps)),
            F.pad(self.slots, (0, more_maps)),
            F.pad(self.pointers, (0, 0, 0, more_pointers)),
            F.pad(self.distances, (0, more_pointers)),
            torch.cat(taken).to(self.maps.device),
        )
