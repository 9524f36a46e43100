"""The current frame looks at what it remembers.

After image_encoder.py and memory_encoder.py; before mask_decoder.py, which gets the changed features.

Each layer: the frame attends to itself, then to the memories, then passes an MLP. Places turn queries and
keys (axial rotary embedding); object pointers have no place, so they are not turned.

Source: SAM 2, arXiv:2408.00714, section 4 "Memory attention" and appendix; RoPE, arXiv:2104.09864.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import MemoryConfig
from sam2kit.model.attention import Attention
from sam2kit.model.positions import rotary_table, sine_map

_POSITION_STRENGTH = 0.1  # of the sine map that is added to the frame once, at the entrance


class MemoryAttention(nn.Module):
    """Stride-16 features conditioned on memories."""

    def __init__(self, config: MemoryConfig, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(config, dim) for _ in range(config.attention_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        features: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        *,
        pointer_tokens: int,
    ) -> Tensor:
        """Condition a frame on its memories.

        Args:
            features: [B or 1, dim, h, w] raw stride-16 features of the frame; one frame serves all objects, and what
                it sees in itself is worked out once.
            memory: [B, L, memory dim]: whole maps of h * w tokens each, then `pointer_tokens` pieces of pointers.
            memory_positions: [B, L, memory dim], added to the keys only.
            pointer_tokens: how many of the last tokens have no place in the picture.
        Returns:
            [B, dim, h, w].
        """
        channels, height, width = features.shape[1:]
        device = features.device
        places = sine_map(height, width, channels, device=device).to(features.dtype)
        x = (features + _POSITION_STRENGTH * places).flatten(2).transpose(1, 2)  # [B, C, h, w] -> [B, h*w, C]
        rotary = rotary_table(height, width, channels, device=device)
        maps = (memory.shape[1] - pointer_tokens) // (height * width)
        placed_memory = memory + memory_positions
        for layer in self.layers:
            x = layer(x, memory, placed_memory, rotary, maps)
        return self.norm(x).transpose(1, 2).unflatten(2, (height, width))


class MemoryAttentionLayer(nn.Module):
    """Pre-norm self-attention, cross-attention to memories, MLP."""

    def __init__(self, config: MemoryConfig, dim: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads=1)
        self.cross_attn_image = Attention(dim, heads=1, key_dim=config.dim)
        self.linear1 = nn.Linear(dim, config.attention_mlp_dim)
        self.linear2 = nn.Linear(config.attention_mlp_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, memory: Tensor, placed_memory: Tensor, rotary: Tensor, maps: int) -> Tensor:
        turned = {"rotary": rotary, "rotary_key": rotary}
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, normed, **turned)
        x = x + self.cross_attn_image(self.norm2(x), placed_memory, memory, **turned, maps=maps)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x)), inplace=True))
