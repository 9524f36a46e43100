"""Attention with separate projections, as the mask decoder and the memory attention use it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.model.positions import rotate


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for [B, heads, L, D] tensors.

    While training on a CPU the plain form is used: the backward of the fused CPU kernel is several
    times slower on small windows.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad:
        weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return weights.softmax(dim=-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value)


class Attention(nn.Module):
    """Multi-head attention between two sequences of different widths.

    Args:
        dim: channels of the queries and of the result.
        heads: number of heads; must divide the inner width.
        downsample: dim / inner width.
        key_dim: channels of keys and values; None means `dim`.
    """

    def __init__(self, dim: int, *, heads: int, downsample: int = 1, key_dim: int | None = None) -> None:
        super().__init__()
        inner, key_dim = dim // downsample, key_dim or dim
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide the attention width {inner}")
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(key_dim, inner)
        self.v_proj = nn.Linear(key_dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        rotary: Tensor | None = None,
        rotary_key: Tensor | None = None,
    ) -> Tensor:
        """Attend from query [B, L, dim] to key and value [B, S, key_dim].

        Args:
            rotary: [L, D / 2] complex angles of the queries; None for no rotation.
            rotary_key: [S', D / 2] angles of the first S' <= S keys; later keys are not rotated.
        Returns:
            [B, L, dim].
        """
        q, k, v = (self._split(p(x)) for p, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value)))
        if rotary is not None:
            q = rotate(q, rotary)
        if rotary_key is not None:
            placed = rotary_key.shape[0]
            k = torch.cat([rotate(k[:, :, :placed], rotary_key), k[:, :, placed:]], dim=2)
        out = attend(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))  # [B, heads, L, D] -> [B, L, heads * D]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, L, C] -> [B, heads, L, C / heads]
