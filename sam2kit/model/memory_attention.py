"""The current frame looks at what it remembers.

After image_encoder.py and memory_encoder.py; before mask_decoder.py, which gets the changed features.

Each layer: the frame attends to itself, then to the memories, then passes an MLP. Places turn queries and
keys (axial rotary embedding); object pointers have no place, so they are not turned.

Source: SAM 2, arXiv:2408.00714, section 4 "Memory attention" and appendix; RoPE, arXiv:2104.09864.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import MemoryConfig
from sam2kit.model.attention import Attention
from sam2kit.model.layers import Derived, module_list, within_range
from sam2kit.model.positions import rotary_table, rotate, sine_map

_POSITION_STRENGTH = 0.1  # of the sine map that is added to the frame once, at the entrance


class MemoryAttention(nn.Module):
    """Stride-16 features conditioned on memories."""

    def __init__(self, config: MemoryConfig, dim: int) -> None:
        super().__init__()
        self.layers = module_list(MemoryAttentionLayer(config, dim) for _ in range(config.attention_layers))
        self.norm = nn.LayerNorm(dim)
        self._slot_keys = Derived()  # [slots, layers, h * w, dim]: what each slot adds to the keys of its map

    def forward(
        self,
        features: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        *,
        pointer_tokens: int,
        map_keys: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Condition a frame on its memories.

        Args:
            features: [B or 1, dim, h, w] raw stride-16 features of the frame; one frame serves all objects, and what
                it sees in itself is worked out once.
            memory: [B, L, memory dim]: whole maps of h * w tokens each, then `pointer_tokens` pieces of pointers.
            memory_positions: [B, L, memory dim], added to the keys only.
            pointer_tokens: how many of the last tokens have no place in the picture.
            map_keys: for each layer [B, 1, M * h * w, dim] keys of the M maps, if they are kept.
        Returns:
            [B, dim, h, w].
        """
        channels, height, width = features.shape[1:]
        device = features.device
        places = sine_map(height, width, channels, device=device).to(features.dtype)
        x = (features + _POSITION_STRENGTH * places).flatten(2).transpose(1, 2)  # [B, C, h, w] -> [B, h*w, C]
        rotary = rotary_table(height, width, channels, device=device)
        maps = (memory.shape[1] - pointer_tokens) // (height * width)
        placed_memory = within_range(memory + memory_positions)
        for i, layer in enumerate(self.layers):
            x = layer(x, memory, placed_memory, rotary, maps, None if map_keys is None else map_keys[i])
        return self.norm(x).transpose(1, 2).unflatten(2, (height, width))

    def keys_of(self, placed_map: Tensor, rotary: Tensor) -> Tensor:
        """The keys of a map without its slot.

        Projection and rotation are linear, so those of a slot can be added later, see `map_keys`; a memory that is
        recalled on several frames needs its own only once.

        Args:
            placed_map: [B, h * w, memory dim] memory with its places in the picture.
            rotary: [h * w, dim / 2, 2] turns.
        Returns:
            [B, layers, h * w, dim].
        """
        return torch.stack([layer.cross_attn_image.keys(placed_map, rotary)[:, 0] for layer in self.layers], dim=1)

    def map_keys(self, keys: Tensor, slots: Tensor, embeddings: Tensor, size_hw: tuple[int, int]) -> list[Tensor]:
        """What `forward` takes of kept keys.

        Args:
            keys: [B, M, layers, h * w, dim] of `keys_of`.
            slots: [M] int64, the place of each map in the memory bank.
            embeddings: [all slots, 1, 1, memory dim], learned.
        """

        def made() -> Tensor:
            rotary = rotary_table(*size_hw, keys.shape[-1], device=keys.device)
            with torch.autocast(keys.device.type, enabled=False):
                projected = torch.stack([F.linear(embeddings[:, 0, 0], weight) for weight in weights], dim=1)
                return rotate(projected[:, :, None].expand(-1, -1, len(rotary), -1), rotary).to(keys.dtype)

        weights = [layer.cross_attn_image.k_proj.weight for layer in self.layers]
        added = self._slot_keys.get(made, [embeddings, *weights], (*size_hw, keys.dtype))[slots]
        return [within_range(keys[:, :, i] + added[:, i]).flatten(1, 2)[:, None] for i in range(keys.shape[2])]


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

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        placed_memory: Tensor,
        rotary: Tensor,
        maps: int,
        map_keys: Tensor | None = None,
    ) -> Tensor:
        turned = {"rotary": rotary, "rotary_key": rotary}
        normed = self.norm1(x)
        x = within_range(x + self.self_attn(normed, normed, normed, **turned))
        if map_keys is None:
            seen = self.cross_attn_image(self.norm2(x), placed_memory, memory, **turned, maps=maps)
        else:
            pointers = self.cross_attn_image.keys(placed_memory[:, map_keys.shape[2] :])
            keys = torch.cat([map_keys, pointers], dim=2)
            seen = self.cross_attn_image.attend_to(self.norm2(x), keys, memory, rotary=rotary)
        x = within_range(x + seen)
        return within_range(x + self.linear2(F.relu(within_range(self.linear1(self.norm3(x))), inplace=True)))
