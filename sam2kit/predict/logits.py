"""Low-res mask logits in little space: an 8-bit PNG, a tenth of the floats or less.

A video leaves logits for every object on every frame. They are cut off at +-8, where the sigmoid is flat, and rounded
to 1/16, far below what moves an edge. Everything that happens afterwards, memories included, is computed from the
rounded logits, so a memory that is made again later comes out the same.

Packing takes longer than a GPU's frame, so threads do it, and nobody waits for them.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from threading import BoundedSemaphore

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2kit.threads import usable_cores

_LIMIT, _STEPS = 8.0, 16  # logits; steps per logit
_HEADER = struct.Struct(">8sI4sIIBB")  # of a PNG: signature, length, "IHDR", width, height, bits, kind of colour
_SIGNATURE, _GREY = b"\x89PNG\r\n\x1a\n", 0
_WAITING = BoundedSemaphore(256)  # maps that are to be packed, 64 kB each; more are packed at once


def levels_of(logits: Tensor) -> Tensor:
    """Logits of any shape -> uint8 of the same: cut off and rounded."""
    whole = ((logits.float().clamp(-_LIMIT, _LIMIT) + _LIMIT) * _STEPS).round()
    return whole.clamp(max=255).to(torch.uint8)


def logits_of(levels: Tensor) -> Tensor:
    """uint8 levels -> float32 logits."""
    return levels.float() / _STEPS - _LIMIT


class CompactLogits:
    """One map of logits as PNG."""

    def __init__(self, png: bytes) -> None:
        self._png: bytes | None = png
        self._levels: np.ndarray | None = None  # uint8 [h, w], until they are packed

    @classmethod
    def of(cls, logits: Tensor) -> CompactLogits:
        """[h, w] float logits -> rounded, and packed by another thread soon, or by who asks for it before."""
        made = cls(b"")
        made._png, made._levels = None, levels_of(logits).cpu().numpy()
        if _WAITING.acquire(blocking=False):
            _packers().submit(made._pack).add_done_callback(lambda _: _WAITING.release())
        else:
            made._pack()
        return made

    def _pack(self) -> None:
        levels = self._levels  # two threads may do it, with the same result
        if levels is not None:
            packed, png = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            assert packed, "OpenCV packs every map of bytes"
            self._png, self._levels = png.tobytes(), None

    @property
    def png(self) -> bytes:
        """The packed bytes."""
        self._pack()
        assert self._png is not None, "it is packed now"
        return self._png

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompactLogits) and self.png == other.png

    def __hash__(self) -> int:
        return hash(self.png)

    def __reduce__(self) -> tuple[type[CompactLogits], tuple[bytes]]:
        return CompactLogits, (self.png,)

    def check(self, size_hw: tuple[int, int]) -> None:
        """Raises ValueError unless this is a grey PNG of this size; for bytes that came from a file."""
        header = _HEADER.unpack(self.png[: _HEADER.size]) if len(self.png) > _HEADER.size else ()
        if header[:1] + header[2:] != (_SIGNATURE, b"IHDR", size_hw[1], size_hw[0], 8, _GREY):
            raise ValueError(f"logits must be an 8-bit grey PNG of {size_hw[1]}x{size_hw[0]} pixels")

    def tensor(self) -> Tensor:
        """[h, w] float32 logits on the CPU."""
        levels = self._levels
        if levels is not None:
            return logits_of(torch.from_numpy(levels))
        whole = cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_UNCHANGED)
        if whole is None:
            raise ValueError("packed logits are damaged; track this frame again")
        return logits_of(torch.from_numpy(whole))


@cache
def _packers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, usable_cores()), thread_name_prefix="pack logits")


@dataclass
class ExactLogits:
    """One map of logits as it came, for bit-exact comparisons."""

    values: Tensor  # [h, w] float32 on the CPU
    at_hand: Tensor | None = field(default=None, compare=False)  # the same on a GPU, while its frame is the latest

    @classmethod
    def of(cls, logits: Tensor) -> ExactLogits:
        """[h, w] logits, copied to the CPU."""
        return cls(logits.detach().float().cpu().clone())

    def check(self, size_hw: tuple[int, int]) -> None:
        """Raises ValueError unless this is a map of finite numbers of this size."""
        got = self.values
        if tuple(got.shape) != size_hw or got.dtype != torch.float32 or not bool(got.isfinite().all()):
            raise ValueError(f"logits must be finite float32 {list(size_hw)}, got {got.dtype} {list(got.shape)}")

    def tensor(self) -> Tensor:
        """[h, w] float32 logits on the CPU."""
        return self.values
