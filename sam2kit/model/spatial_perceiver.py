"""A memory pressed into two small maps of latents, which later frames attend to at an eighth of the cost: EdgeTAM.

After memory_encoder.py; before memory_attention.py.

    memory [B, C, h, w] --(all of it)----------> 16 x 16 global latents, which have no place
                        --(a window for each)--> 16 x 16 local latents, each in its place

Both kinds go through the same layers: latents attend to the memory, then to each other, with an MLP after each. They
are stored as one map, the global ones above the local ones.

Surprises:
- Places are added to keys *and* values, after their projection, and only for the global latents.
- A local latent sees no other, so its attention to "each other" is an attention to itself.

Source: EdgeTAM, arXiv:2501.07256, section 3 "2D spatial perceiver".
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from sam2kit.config import MemoryConfig
from sam2kit.model.attention import attend
from sam2kit.model.hiera import to_windows
from sam2kit.model.layers import module_list, within_range
from sam2kit.model.positions import rotary_table, sine_map

_LAYERS = 2


class SpatialPerceiver(nn.Module):
    """Memory [B, C, h, w] -> [B, C, 2 * edge, edge]."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.edge = config.latents_edge
        self.latents = nn.Parameter(trunc_normal_(torch.empty(self.edge**2, config.dim)))
        self.latents_2d = nn.Parameter(trunc_normal_(torch.empty(self.edge**2, config.dim)))
        self.layers = module_list(PerceiverLayer(config.dim) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, memory: Tensor) -> Tensor:
        """Compress the memories of B objects."""
        batch, channels, height, width = memory.shape
        x = memory.permute(0, 2, 3, 1)  # [B, h, w, C]
        places = sine_map(height, width, channels, device=memory.device).flatten(1).T.to(memory.dtype)
        everywhere = self._pressed(self.latents.expand(batch, -1, -1), x.flatten(1, 2), places)
        windows = to_windows(x, height // self.edge)[0].flatten(1, 2)  # [B * edge * edge, window, C]
        here = self._pressed(self.latents_2d.repeat(batch, 1)[:, None], windows, None).unflatten(0, (batch, -1))
        both = torch.cat([everywhere, here.flatten(1, 2)], dim=1)
        return both.transpose(1, 2).unflatten(2, (2 * self.edge, self.edge))

    def _pressed(self, latents: Tensor, memory: Tensor, places: Tensor | None) -> Tensor:
        for layer in self.layers:
            latents = layer(latents, memory, places)
        return self.norm(latents)


class PerceiverLayer(nn.Module):
    """Latents [B, L, C] attend to memory [B, S, C], and then to themselves; an MLP after each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn = LatentAttention(dim, to_memory=True)
        self.ff = feed_forward(dim)
        self.self_attn = LatentAttention(dim, to_memory=False)
        self.self_ff = feed_forward(dim)

    def forward(self, latents: Tensor, memory: Tensor, places: Tensor | None) -> Tensor:
        latents = within_range(latents + self.attn(latents, memory, places))
        latents = within_range(latents + self.ff(latents))
        latents = within_range(latents + self.self_attn(latents, None, None))
        return within_range(latents + self.self_ff(latents))


class LatentAttention(nn.Module):
    """One head, no biases; the norms come first."""

    def __init__(self, dim: int, *, to_memory: bool) -> None:
        super().__init__()
        if to_memory:
            self.norm_x, self.norm_latents = nn.LayerNorm(dim), nn.LayerNorm(dim)
        else:
            self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, latents: Tensor, memory: Tensor | None, places: Tensor | None) -> Tensor:
        if memory is None:
            normed = seen = self.norm(latents)
        else:
            normed, seen = self.norm_latents(latents), self.norm_x(memory)
        key, value = self.to_kv(seen).chunk(2, dim=-1)
        if places is not None:
            key, value = key + places, value + places
        return self.to_out(attend(self.to_q(normed)[:, None], key[:, None], value[:, None])[:, 0])


def feed_forward(dim: int) -> nn.Sequential:
    """A norm and an MLP, under the checkpoint's numbers."""
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
    )


@cache
@torch.inference_mode(False)  # kept tables serve training, too
def latent_places(edge: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """[2 * edge * edge, channels] float32 positions of a stored memory: zeros of the global latents, a sine map."""
    return F.pad(sine_map(edge, edge, channels, device=device).flatten(1).T, (0, 0, edge**2, 0))


@cache
@torch.inference_mode(False)
def latent_rotary(edge: int, head_dim: int, *, device: torch.device | None = None) -> Tensor:
    """[2 * edge * edge, head_dim / 2, 2] float32 turns of a stored memory's keys: none of the global latents."""
    local = rotary_table(edge, edge, head_dim, device=device)
    unmoved = torch.tensor([1.0, 0.0], device=device).expand_as(local)
    return torch.cat([unmoved, local])
