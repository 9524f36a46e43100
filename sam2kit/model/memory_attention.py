"""The current frame looks at what it remembers.

After image_encoder.py and memory_encoder.py; before mask_decoder.py, which gets the changed features.

Each layer: the frame attends to itself, then to the memories, then passes an MLP. Places turn queries and
keys (axial rotary embedding); object pointers have no place, so they are not turned. What a map's tokens are, and how
their keys are turned, is the memory's business: whole maps, or latents (spatial_perceiver.py).

Source: SAM 2, arXiv:2408.00714, section 4 "Memory attention" and appendix; RoPE, arXiv:2104.09864.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import MemoryConfig
from sam2kit.model.attention import Attention, attend
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
        map_rotary: Tensor,
        pointer_tokens: int,
        map_keys: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Condition a frame on its memories.

        Args:
            features: [B or 1, dim, h, w] raw stride-16 features of the frame; one frame serves all objects, and what
                it sees in itself is worked out once.
            memory: [B, L, memory dim]: whole maps of T tokens each, then `pointer_tokens` pieces of pointers.
            memory_positions: [B, L, memory dim], added to the keys only.
            map_rotary: [T, dim / 2, 2] turns of a map's keys.
            pointer_tokens: how many of the last tokens have no place in the picture.
            map_keys: for each layer [B, 1, M * T, dim] keys of the M maps, if they are kept.
        Returns:
            [B, dim, h, w].
        """
        channels, height, width = features.shape[1:]
        device = features.device
        places = sine_map(height, width, channels, device=device).to(features.dtype)
        x = (features + _POSITION_STRENGTH * places).flatten(2).transpose(1, 2)  # [B, C, h, w] -> [B, h*w, C]
        rotary = rotary_table(height, width, channels, device=device)
        maps = (memory.shape[1] - pointer_tokens) // len(map_rotary)
        placed_memory = within_range(memory + memory_positions)
        for i, layer in enumerate(self.layers):
            rotaries = rotary, map_rotary
            x = layer(x, memory, placed_memory, rotaries, maps, None if map_keys is None else map_keys[i])
        return self.norm(x).transpose(1, 2).unflatten(2, (height, width))

    def keys_of(self, placed_map: Tensor, rotary: Tensor) -> Tensor:
        """The keys of a map without its slot.

        Projection and rotation are linear, so those of a slot can be added later, see `map_keys`; a memory that is
        recalled on several frames needs its own only once.

        Args:
            placed_map: [B, T, memory dim] memory with its places in the picture.
            rotary: [T, dim / 2, 2] turns.
        Returns:
            [B, layers, T, dim].
        """
        return torch.stack([layer.cross_attn_image.keys(placed_map, rotary)[:, 0] for layer in self.layers], dim=1)

    def map_keys(self, keys: Tensor, slots: Tensor, embeddings: Tensor, rotary: Tensor) -> list[Tensor]:
        """What `forward` takes of kept keys.

        Args:
            keys: [B, M, layers, T, dim] of `keys_of`.
            slots: [M] int64, the place of each map in the memory bank.
            embeddings: [all slots, 1, 1, memory dim], learned.
            rotary: [T, dim / 2, 2] turns.
        """

        def made() -> Tensor:
            with torch.autocast(keys.device.type, enabled=False):
                projected = torch.stack([F.linear(embeddings[:, 0, 0], weight) for weight in weights], dim=1)
                return rotate(projected[:, :, None].expand(-1, -1, len(rotary), -1), rotary).to(keys.dtype)

        weights = [layer.cross_attn_image.k_proj.weight for layer in self.layers]
        added = self._slot_keys.get(made, [embeddings, *weights], (len(rotary), keys.dtype))[slots]
        return [within_range(keys[:, :, i] + added[:, i]).flatten(1, 2)[:, None] for i in range(keys.shape[2])]


class PooledAttention(Attention):
    """Attention to memories whose keys and values are averaged over 2x2 places, once there are two or more of them.

    As one key then stands for four, its share grows by four: ln 4 is added to its scores, or, as `shifts_keys`, twice
    ln 2 to each of its channels, which depends on the query and is what the weights were trained with.

    Source: EfficientTAM, arXiv:2411.18933, section 3 "Efficient memory cross-attention".
    """

    shifts_keys = False

    def _attended(self, q: Tensor, k: Tensor, value: Tensor, maps: int) -> Tensor:
        if maps < 2:
            return super()._attended(q, k, value, maps)
        side = math.isqrt(q.shape[2])  # of the frame's own map, and of all that are recalled
        pooled = maps * (side // 2) ** 2
        k, v = (_pooled(x, maps, side) for x in (k, self._split(within_range(self.v_proj(value)))))
        if self.shifts_keys:
            k = torch.cat([k[:, :, :pooled] + 2 * math.log(2), k[:, :, pooled:]], dim=2)
            return self._joined(attend(q, k, v))
        more = F.pad(q.new_full((pooled,), math.log(4)), (0, k.shape[2] - pooled))
        return self._joined(F.scaled_dot_product_attention(q, k, v, attn_mask=more.expand(q.shape[2], -1)))


def _pooled(x: Tensor, maps: int, side: int) -> Tensor:
    """[B, 1, S, D] keys or values, averaged over 2x2 places of each map; those of pointers stay."""
    placed = maps * side**2
    cells = x[:, 0, :placed].unflatten(1, (maps, side // 2, 2, side // 2, 2)).mean((3, 5))  # [B, maps, h/2, w/2, D]
    return torch.cat([cells.flatten(1, 3)[:, None], x[:, :, placed:]], dim=2)


class MemoryAttentionLayer(nn.Module):
    """Pre-norm self-attention, cross-attention to memories, MLP."""

    def __init__(self, config: MemoryConfig, dim: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads=1)
        pooled = PooledAttention if config.pooled else Attention
        self.cross_attn_image = pooled(dim, heads=1, key_dim=config.dim)
        if isinstance(self.cross_attn_image, PooledAttention):
            self.cross_attn_image.shifts_keys = config.pooled == "keys"
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
        rotaries: tuple[Tensor, Tensor],
        maps: int,
        map_keys: Tensor | None = None,
    ) -> Tensor:
        rotary, map_rotary = rotaries  # of the frame's places, and of a map's
        normed = self.norm1(x)
        x = within_range(x + self.self_attn(normed, normed, normed, rotary=rotary, rotary_key=rotary))
        cross, normed = self.cross_attn_image, self.norm2(x)
        if map_keys is None:
            seen = cross(normed, placed_memory, memory, rotary=rotary, rotary_key=map_rotary, maps=maps)
        else:
            keys = torch.cat([map_keys, cross.keys(placed_memory[:, map_keys.shape[2] :])], dim=2)
            seen = cross.attend_to(normed, keys, memory, rotary=rotary, maps=maps)
        x = within_range(x + seen)
        return within_range(x + self.linear2(F.relu(within_range(self.linear1(self.norm3(x))), inplace=True)))
