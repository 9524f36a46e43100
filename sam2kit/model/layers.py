"""Small pieces that several boxes share: channel LayerNorm, MLP, stochastic depth, tensors that follow from weights.

Surprise: float16 ends at 65504, and beyond is infinity, of which the next layer makes NaN. Wherever numbers can grow
large, `within_range` holds them below.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = torch.finfo(torch.float16).max  # 65504
Part = TypeVar("Part", bound=nn.Module)
Made = TypeVar("Made")


def module_list(modules: Iterable[Part]) -> Sequence[Part]:
    """A ModuleList that tells a type checker what it holds; torch's own does not."""
    return cast("Sequence[Part]", nn.ModuleList(modules))


def within_range(x: Tensor) -> Tensor:
    """The same, but no number larger than float16 can hold, wherever float16 is computed in.

    That is in tensors of float16, and in those of float32 under an autocast to float16, whose next layer would make
    float16 of them. In every other precision x itself comes back.
    """
    if x.dtype == torch.float16 or (x.dtype == torch.float32 and _casts_to_float16(x.device.type)):
        return x.clamp(-LARGEST, LARGEST)
    return x


def _casts_to_float16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def resize_smoothly(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear with antialias: [B, C, H, W] -> [B, C, *size_hw]; on the CPU for Apple's GPUs, which have none."""
    source = maps.cpu() if maps.device.type == "mps" else maps
    return F.interpolate(source, size=size_hw, mode="bilinear", antialias=True, align_corners=False).to(maps.device)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a [B, C, H, W] map (eps 1e-6)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(within_range(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Linear layers with an activation between them: [..., in_dim] -> [..., out_dim]."""

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        *,
        layers: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (layers - 1), out_dim]
        self.layers = module_list(nn.Linear(a, b) for a, b in pairwise(dims))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.layers
        for layer in inner:
            x = self.activation(within_range(layer(x)))
        return within_range(last(x))


class StochasticDepth(nn.Module):
    """In training, drop a residual branch for whole samples; scale the others up (arXiv:1603.09382)."""

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < keep
        return x * kept.to(x.dtype) / keep


class Derived:
    """What follows from weights, and from nothing of any picture: made again only after these have changed.

    Where gradients flow into the weights it is made every time.
    """

    def __init__(self) -> None:
        self._kept: tuple[Hashable, Any] | None = None

    def get(self, make: Callable[[], Made], weights: Sequence[Tensor], key: Hashable = None) -> Made:
        """The tensor, or whatever `make` gives.

        Args:
            make: computes it.
            weights: what it follows from.
            key: whatever else it depends on, such as a size.
        """
        if torch.compiler.is_compiling():  # nothing is kept in compiled code
            return make()
        learning = torch.is_grad_enabled() and any(w.requires_grad for w in weights)
        if learning or any(w.is_inference() for w in weights):  # those do not tell of changes
            return make()
        now = (key, *((w.data_ptr(), w._version, w.device, w.dtype) for w in weights))
        kept = self._kept  # another thread may replace it at any time
        if kept is None or kept[0] != now:
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept = (now, make())
        return cast("Made", kept[1])
