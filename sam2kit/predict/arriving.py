"""Tensors on their way from a GPU to the CPU."""

from __future__ import annotations

import torch
from torch import Tensor


class Arriving:
    """Copies that were begun; who asks for them waits for them alone, not for work that was begun later.

    Args:
        tensors: all on one device. What is on the CPU is there at once, uncopied.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensors[0].device.type == "cuda":
            self._tensors = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
            for target, source in zip(self._tensors, tensors, strict=True):
                target.copy_(source, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._tensors = [t.cpu() for t in tensors]

    def wait(self) -> list[Tensor]:
        """The tensors, on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors
