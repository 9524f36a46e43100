"""The keys that memory attention makes of a memory, kept for all frames that recall it.

After tracked_frame.py, which makes them; before memory_attention.py, which adds those of the slot. They take far more
memory than the memory itself, so only a part of a GPU is for them, and without them they are made again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sam2kit.model.sam2 import SAM2

_SHARE = 0.125  # of a GPU's memory
_ELSEWHERE = 2**30  # bytes


class KeptKeys:
    """Keys by the memory that they were made of; they go when it goes.

    Args:
        model: whose keys they are.
        wanted: whether to keep any; None does on a CUDA GPU.
    """

    def __init__(self, model: SAM2, wanted: bool | None) -> None:
        self._model = model
        self._kept = WeakTensorKeyDictionary()  # memory [memory dim, h, w] -> keys [layers, h * w, dim]
        self._each = 0  # bytes of the keys of one
        self.wanted = model.device.type == "cuda" if wanted is None else wanted

    @property
    def has_room(self) -> bool:
        """Whether keys of one more memory may be kept."""
        return self.wanted and (1 + len(self._kept)) * self._each <= self._room()

    def _room(self) -> float:
        device = self._model.device
        return _SHARE * torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else _ELSEWHERE

    def kept_apart(self, memories: Tensor, keys: Tensor | None) -> list[Tensor]:
        """Memories [B, ...] one by one, each in its own place so that one can be forgotten, and so their keys."""
        apart = [m.clone() for m in memories]
        if keys is not None and self.wanted:
            self._each = keys[0].nbytes
            self._kept.update(zip(apart, (k.clone() for k in keys), strict=True))
        return apart

    def of(self, memories: Sequence[Tensor]) -> list[Tensor] | None:
        """The keys [layers, h * w, dim] of some memories; None if those of one are not here."""
        found = [keys for memory in memories if (keys := self._kept.get(memory)) is not None]
        return found if len(found) == len(memories) else None

    def give_up(self) -> None:
        """Keep none any more: the device is full."""
        self.wanted = False
        self._kept.clear()
