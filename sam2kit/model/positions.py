"""Where things are: sine maps, random Fourier points, rotary tables, sine of time.

All of it is computed in float32, whatever precision the network runs in: positions are small
differences of large phases, and half precision would blur neighbouring pixels together. What depends on sizes
alone is made once and kept, for every frame needs it again, and recorded CUDA graphs read
it where it is: nobody may change what these functions return.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from sam2kit.model.layers import Derived, within_range


@cache
@torch.inference_mode(False)  # kept tables serve training, too
def sine_map(height: int, width: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """Fixed 2-D position encoding of a feature map.

    Returns:
        [channels, height, width] float32: first half tells y, second half x, sines and cosines interleaved.
    Source: DETR, arXiv:2005.12872, in the normalised form (coordinates 1..n scaled to 2 pi).
    """
    half = channels // 2
    exponent = 2 * torch.div(torch.arange(half, device=device), 2, rounding_mode="floor") / half
    wavelength = 10000.0**exponent

    def phases(n: int) -> Tensor:
        position = torch.arange(1, n + 1, dtype=torch.float32, device=device) / (n + 1e-6) * (2 * math.pi)
        angle = position[:, None] / wavelength
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)  # [n, half]

    y = phases(height).T[:, :, None].expand(half, height, width)
    x = phases(width).T[:, None, :].expand(half, height, width)
    return torch.cat([y, x])


def sine_of_time(distance: Tensor, channels: int) -> Tensor:
    """Encode how long ago something was.

    Args:
        distance: [N] float, frames divided by the longest distance that a pointer may have.
    Returns:
        [N, channels] float32: sines, then cosines (not interleaved).
    """
    half = channels // 2
    exponent = 2 * torch.div(torch.arange(half, device=distance.device), 2, rounding_mode="floor") / half
    angle = distance.float()[:, None] / 10000.0**exponent
    return torch.cat([angle.sin(), angle.cos()], dim=1)


@cache
@torch.inference_mode(False)
def rotary_table(height: int, width: int, head_dim: int, *, device: torch.device | None = None) -> Tensor:
    """Axial rotation angles for the tokens of a map, in row-major order.

    Returns:
        [height * width, head_dim / 2, 2] float32, cosine and sine: the first half of the pairs turns with the column,
        the second with the row.
    Source: axial RoPE as in arXiv:2403.13298, used by SAM 2's memory attention.
    """
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 4, dtype=torch.float32, device=device) / head_dim)
    row, column = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    angle = torch.cat([column.reshape(-1, 1) * frequency, row.reshape(-1, 1) * frequency], dim=1)
    return torch.view_as_real(torch.polar(torch.ones_like(angle), angle))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x [..., L, D] by a table [L, D / 2, 2] of cosines and sines.

    Real numbers throughout, which compilers fuse and every GPU knows; a CPU multiplies complex ones several times
    faster, with the same result.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    if x.device.type == "cpu":
        turned = torch.view_as_complex(pairs.contiguous()) * torch.view_as_complex(table)
        return torch.view_as_real(turned).flatten(-2).to(x.dtype)
    (first, second), (cosine, sine) = pairs.unbind(-1), table.unbind(-1)
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return within_range(turned.flatten(-2).to(x.dtype))


def rotate_maps(x: Tensor, table: Tensor, maps: int) -> Tensor:
    """Turn the tokens of whole maps at the beginning of x; those behind them have no place and stay.

    Args:
        x: [B, heads, L, D]. On a CPU it is changed in place where there are no gradients: the keys of a full memory
            are large.
        table: [h * w, D / 2, 2] of one map.
        maps: how many.
    """
    placed = maps * len(table)
    if x.device.type != "cpu" or x.dtype != torch.float32 or (x.requires_grad and torch.is_grad_enabled()):
        first = rotate(x[:, :, :placed].unflatten(2, (maps, -1)), table).flatten(2, 3)
        return torch.cat([first, x[:, :, placed:]], dim=2)
    torch.view_as_complex(x[:, :, :placed].unflatten(-1, (-1, 2)).unflatten(2, (maps, -1))).mul_(
        torch.view_as_complex(table)
    )
    return x


class FourierPositions(nn.Module):
    """Positions in the unit square as random Fourier features.

    The random matrix is part of the checkpoint: prompts and image share it, so that a click
    finds its place in the picture by a dot product.

    Source: arXiv:2006.10739, used by SAM (arXiv:2304.02643) for prompts.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))
        self._grid = Derived()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FourierPositions:
        """`half()` and the like leave the matrix in float32: it would move clicks by whole pixels."""
        exact = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's own has no types
        moved = self.positional_encoding_gaussian_matrix
        if moved.dtype != exact.dtype:
            self.positional_encoding_gaussian_matrix = exact.to(moved.device)
        return self

    def forward(self, points_unit: Tensor) -> Tensor:
        """[..., 2] points (x, y) in 0..1 -> [..., channels] float32."""
        matrix = self.positional_encoding_gaussian_matrix.float()
        centred = 2.0 * points_unit.float() - 1.0
        # two products instead of a matmul: autocast would run a matmul in half precision
        phase = 2 * math.pi * (centred[..., :1] * matrix[0] + centred[..., 1:] * matrix[1])
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def grid(self, side: int) -> Tensor:
        """[1, channels, side, side] float32: the encoding of every cell's centre."""
        return self._grid.get(lambda: self._made_grid(side), [self.positional_encoding_gaussian_matrix], side)

    def _made_grid(self, side: int) -> Tensor:
        centre = (torch.arange(side, device=self.positional_encoding_gaussian_matrix.device) + 0.5) / side
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        return self(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]
