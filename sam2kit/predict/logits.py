"""Low-res mask logits in little space: an 8-bit PNG, a tenth of the floats or less.

A video leaves logits for every object on every frame. They are cut off at +-8, where the sigmoid is flat, and rounded
to 1/16, far below what moves an edge. Everything that happens afterwards, memories included, is computed from the
rounded logits, so a memory that is made again later comes out the same.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

_LIMIT, _STEPS = 8.0, 16  # logits; steps per logit
_HEADER = struct.Struct(">8sI4sIIBB")  # of a PNG: signature, length, "IHDR", width, height, bits, kind of colour
_SIGNATURE, _GREY = b"\x89PNG\r\n\x1a\n", 0


def levels_of(logits: Tensor) -> Tensor:
    """Logits of any shape -> uint8 of the same: cut off and rounded."""
    whole = ((logits.float().clamp(-_LIMIT, _LIMIT) + _LIMIT) * _STEPS).round()
    return whole.clamp(max=255).to(torch.uint8)


def logits_of(levels: Tensor) -> Tensor:
    """uint8 levels -> float32 logits."""
    return levels.float() / _STEPS - _LIMIT


@dataclass(frozen=True)
class CompactLogits:
    """One map of logits as PNG."""

    png: bytes

    @classmethod
    def of(cls, logits: Tensor) -> CompactLogits:
        """[h, w] float logits, or their levels -> rounded and packed."""
        levels = logits if logits.dtype == torch.uint8 else levels_of(logits)
        packed, png = cv2.imencode(".png", levels.cpu().numpy(), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert packed, "OpenCV packs every map of bytes"
        return cls(png.tobytes())

    def check(self, size_hw: tuple[int, int]) -> None:
        """Raises ValueError unless this is a grey PNG of this size; for bytes that came from a file."""
        header = _HEADER.unpack(self.png[: _HEADER.size]) if len(self.png) > _HEADER.size else ()
        if header[:1] + header[2:] != (_SIGNATURE, b"IHDR", size_hw[1], size_hw[0], 8, _GREY):
            raise ValueError(f"logits must be an 8-bit grey PNG of {size_hw[1]}x{size_hw[0]} pixels")

    def tensor(self) -> Tensor:
        """[h, w] float32 logits on the CPU."""
        whole = cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_UNCHANGED)
        if whole is None:
            raise ValueError("packed logits are damaged; track this frame again")
        return logits_of(torch.from_numpy(whole))


@dataclass(frozen=True)
class ExactLogits:
    """One map of logits as it came, for bit-exact comparisons."""

    values: Tensor  # [h, w] float32

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
