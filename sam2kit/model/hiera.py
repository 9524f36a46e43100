"""The trunk of SAM 2: Hiera, a vision transformer with windows that halves its map three times.

First part of image_encoder.py. It works on [B, H, W, C], between a picture [B, 3, S, S] and four maps of strides 4, 8,
16, 32:

    patches (stride 4) + positions -> stage 1 -> stage 2 -> stage 3 -> stage 4
                                       C          2C         4C         8C

Surprises:
- Each later stage opens with a block that doubles the channels and halves the map. That block pools its
  *queries* inside the windows, and still uses the window size of the stage before.
- Its skip path pools the *normalised* input.
- Windows that reach over the border are filled with zeros, and these take part in the attention.

Source: Hiera, arXiv:2306.00989; its position embedding is that of arXiv:2311.05613; SAM 2, arXiv:2408.00714, section 4
"Image encoder".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from sam2kit.config import HieraConfig
from sam2kit.model.attention import attend
from sam2kit.model.layers import MLP, Derived, StochasticDepth, module_list, within_range

_TOKENS = 4096  # of the windows that go through the network together, on a CPU


class Hiera(nn.Module):
    """Four stages of windowed attention blocks.

    Args:
        config: sizes of the trunk.
        drop_path: stochastic depth of the last block, in training; it grows linearly from 0.
    """

    def __init__(self, config: HieraConfig, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.embed_dim)
        grid, window = config.position_grid, config.window_per_stage[0]
        self.pos_embed = nn.Parameter(trunc_normal_(torch.empty(1, config.embed_dim, grid, grid), std=0.02))
        self.pos_embed_window = nn.Parameter(trunc_normal_(torch.empty(1, config.embed_dim, window, window), std=0.02))
        plan = block_plan(config)
        last = max(len(plan) - 1, 1)
        self.blocks = module_list(Block(**options, drop_path=drop_path * i / last) for i, options in enumerate(plan))
        self._places = Derived()
        self.stage_ends = [total - 1 for total in accumulate(config.blocks_per_stage)]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised pixels -> four [B, C, H, W] maps of strides 4, 8, 16, 32."""
        x = self.patch_embed(pixels)
        x = within_range(x + self._positions(x.shape[1], x.shape[2]).to(x.dtype))
        maps: list[Tensor] = []
        first = 0
        while first < len(self.blocks):
            beyond = first if self.training else self._end_of_run(first, x.shape[1:3])
            done = self._in_windows(x, range(first, beyond)) if beyond > first else {first: self.blocks[first](x)}
            first, x = max(done) + 1, done[max(done)]
            maps += [done[i].permute(0, 3, 1, 2) for i in done if i in self.stage_ends]
        return maps

    def _end_of_run(self, first: int, size_hw: Sequence[int]) -> int:
        """The block after the run of blocks, beginning with `first`, that never look beyond the same windows.

        A block that opens a stage halves windows and map alike. There is no such run where windows do not fill the
        map exactly.
        """
        window = self.blocks[first].window
        if not window or size_hw[0] % window or size_hw[1] % window:
            return first
        beyond = first
        while beyond < len(self.blocks) and self.blocks[beyond].window == window:
            window //= 2 if self.blocks[beyond].pool else 1
            beyond += 1
        return beyond

    def _in_windows(self, x: Tensor, run: range) -> dict[int, Tensor]:
        """Some windows through all blocks of a run, then the next ones: their tokens stay near the processor.

        Returns:
            block -> map [B, H, W, C], for the last block of the run and those that end a stage.
        """
        windows, size_hw = to_windows(x, self.blocks[run[0]].window)
        parts: dict[int, list[Tensor]] = {i: [] for i in run if i == run[-1] or i in self.stage_ends}
        together = max(1, _TOKENS // windows[0, ..., 0].numel()) if x.device.type == "cpu" else len(windows)
        for part in windows.split(together):
            for i in run:
                part = self.blocks[i].attend_within(part)
                if i in parts:
                    parts[i].append(part)
        shrunk = {i: windows.shape[1] // found[0].shape[1] for i, found in parts.items()}
        sizes = {i: (size_hw[0] // n, size_hw[1] // n) for i, n in shrunk.items()}
        return {i: from_windows(torch.cat(p), p[0].shape[1], sizes[i], sizes[i]) for i, p in parts.items()}

    def _positions(self, height: int, width: int) -> Tensor:
        """A coarse map stretched over the picture plus one window's pattern repeated: [1, H, W, C]."""
        weights = [self.pos_embed, self.pos_embed_window]
        return self._places.get(lambda: self._made_positions(height, width), weights, (height, width))

    def _made_positions(self, height: int, width: int) -> Tensor:
        coarse = F.interpolate(self.pos_embed.float(), size=(height, width), mode="bicubic", align_corners=False)
        window = self.pos_embed_window.shape[-1]
        tiled = self.pos_embed_window.tile(1, 1, -(-height // window), -(-width // window))
        return (coarse + tiled[:, :, :height, :width]).permute(0, 2, 3, 1)


class BlockOptions(TypedDict):
    """What tells one block from another; see `Block`."""

    in_dim: int
    dim: int
    heads: int
    window: int
    pool: bool


def block_plan(config: HieraConfig) -> list[BlockOptions]:
    """The options of every block, in order."""
    plan: list[BlockOptions] = []
    for stage, count in enumerate(config.blocks_per_stage):
        dim, heads = config.embed_dim << stage, config.heads << stage
        for i in range(count):
            opens_stage = stage > 0 and i == 0
            window = config.window_per_stage[stage - 1 if opens_stage else stage]
            window = 0 if len(plan) in config.global_blocks else window
            in_dim = dim // 2 if opens_stage else dim
            plan.append(BlockOptions(in_dim=in_dim, dim=dim, heads=heads, window=window, pool=opens_stage))
    return plan


class PatchEmbed(nn.Module):
    """Patches of pixels, overlapping here: [B, 3, S, S] -> [B, S/stride, S/stride, C]."""

    def __init__(self, dim: int, *, kernel: int = 7, stride: int = 4, padding: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel, stride, padding)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Window (or global) attention and an MLP, each with a residual.

    Args:
        in_dim, dim: channels in and out; they differ where a stage opens.
        heads: attention heads.
        window: edge of the windows in tokens; 0 attends over the whole map.
        pool: halve the map, by pooling the queries and the skip path.
        drop_path: stochastic depth of this block.
    """

    def __init__(self, *, in_dim: int, dim: int, heads: int, window: int, pool: bool, drop_path: float) -> None:
        super().__init__()
        self.window, self.pool = window, pool
        self.norm1 = nn.LayerNorm(in_dim, eps=1e-6)
        self.attn = WindowAttention(in_dim, dim, heads=heads, pool=pool)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, 4 * dim, dim, layers=2, activation=F.gelu)
        if in_dim != dim:
            self.proj = nn.Linear(in_dim, dim)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] maps; windows are cut and put together again."""
        if not self.window:
            return self.attend_within(x)
        normed = self.norm1(x)
        skip = self._skip(x, normed)
        windows, padded_hw = to_windows(normed, self.window)
        attended, shrink = self.attn(windows), 2 if self.pool else 1
        shrunk_hw = [n // shrink for n in padded_hw]
        return self._finish(skip, from_windows(attended, self.window // shrink, shrunk_hw, skip.shape[1:3]))

    def attend_within(self, windows: Tensor) -> Tensor:
        """The same for [N, w, w, C] windows that are cut already, or for whole maps."""
        normed = self.norm1(windows)
        return self._finish(self._skip(windows, normed), self.attn(normed))

    def _skip(self, x: Tensor, normed: Tensor) -> Tensor:
        return pool2x2(within_range(self.proj(normed))) if self.pool else x

    def _finish(self, skip: Tensor, attended: Tensor) -> Tensor:
        x = within_range(skip + self.drop_path(attended))
        return within_range(x + self.drop_path(self.mlp(self.norm2(x))))


class WindowAttention(nn.Module):
    """Self-attention inside each [H, W] window, whose queries may be pooled 2x2."""

    def __init__(self, in_dim: int, dim: int, *, heads: int, pool: bool) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.qkv = nn.Linear(in_dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, in_dim] -> [B, H, W, dim], or half of H and W when pooling."""
        height, width = x.shape[1:3]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool:
            q = pool2x2(q)
            height, width = q.shape[1:3]
        # [B, H, W, C] -> [B, heads, H*W, C/heads]
        q, k, v = (t.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = attend(q, k, v).transpose(1, 2).flatten(2)
        return self.proj(out).unflatten(1, (height, width))


def pool2x2(x: Tensor) -> Tensor:
    """Maximum over 2x2 cells: [B, H, W, C] -> [B, H/2, W/2, C]."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def to_windows(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut a map into square windows, filling up with zeros at the right and the bottom.

    Returns:
        [B * windows, window, window, C], and the filled-up height and width.
    """
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    padded_hw = (x.shape[1], x.shape[2])
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # [B, rows, w, columns, w, C]
    return x.permute(0, 1, 3, 2, 4, 5).flatten(0, 2), padded_hw


def from_windows(x: Tensor, window: int, padded_hw: Sequence[int], size_hw: Sequence[int]) -> Tensor:
    """Put windows back together and crop the filling: -> [B, H, W, C]."""
    rows, columns = padded_hw[0] // window, padded_hw[1] // window
    x = x.unflatten(0, (-1, rows, columns)).permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
    return x[:, : size_hw[0], : size_hw[1]]
