"""Activations of a model at work: what went into a module, what came out, and where its attention went.

    with record_calls(model, "memory_encoder", "memory_attention.layers.*.cross_attn_image") as calls:
        ...                                             # anything that runs the model
    calls["memory_encoder"][0].output                   # [B, memory dim, h, w]

Hooks note the calls and are taken off again; the model and its answers stay as they are. The fused attention of torch
never shows its weights, so they are computed once more from what was noted. attention_maps.py puts such calls together
for the mask decoder and the memory attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.config import RepViTConfig, SAM2Config, ViTConfig
from sam2kit.model.attention import Attention
from sam2kit.model.hiera import WindowAttention, block_plan, pool2x2
from sam2kit.model.positions import rotate, rotate_maps
from sam2kit.model.sam2 import SAM2


@dataclass(frozen=True)
class Call:
    """One pass through a module: the tensors themselves, not copies."""

    arguments: dict[str, Any]  # by the names in the module's `forward`; those left out have their defaults
    output: Any


@contextmanager
def record_calls(model: nn.Module, *names: str) -> Iterator[dict[str, list[Call]]]:
    """Note every call of some modules inside the `with` block, those of other threads too.

    Args:
        model: any module; unchanged afterwards, whatever happens inside the block.
        names: of modules, as in `model.named_modules()`; "*" stands for any text.
    Returns:
        module name -> its calls, in the order in which they end; it fills while the block runs.
    Raises:
        ValueError: if no module has such a name.
    """
    modules = dict(model.named_modules())
    found = {name: modules[name] for wanted in names for name in _matching(wanted, list(modules))}
    calls: dict[str, list[Call]] = {name: [] for name in found}
    with ExitStack() as hooks:
        for name, module in found.items():
            hooks.callback(module.register_forward_hook(_hook(calls[name]), with_kwargs=True).remove)
        yield calls


def _matching(wanted: str, known: list[str]) -> list[str]:
    names = [name for name in known if name and fnmatchcase(name, wanted)]
    if not names:
        near = ", ".join(get_close_matches(wanted, known, n=3, cutoff=0.4)) or "none"
        raise ValueError(f"the model has no module {wanted!r}; near it: {near}; model.named_modules() lists them all")
    return names


def _hook(calls: list[Call]) -> Callable[..., None]:
    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        bound.apply_defaults()
        calls.append(Call(dict(bound.arguments), output))

    return note


@torch.inference_mode()
def attention_weights(attention: nn.Module, call: Call, queries: Sequence[int] | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)), as the module had it in a recorded call.

    Args:
        attention: an `Attention` or a `WindowAttention` of the model.
        call: one of its recorded calls.
        queries: numbers of the queries that are wanted; None takes all of them. One row is small where the whole
            matrix would not fit: with the published sizes, a frame has 4,096 queries and up to 28,736 keys.
    Returns:
        [B, heads, L, S] float32; each row sums to 1. B counts windows for a `WindowAttention`.
    Raises:
        ValueError: if the module is not an attention.
    """
    if not isinstance(attention, (Attention, WindowAttention)):
        raise ValueError(f"only an Attention or a WindowAttention has weights, got a {type(attention).__name__}")
    with torch.autocast(next(attention.parameters()).device.type, enabled=False):
        if isinstance(attention, WindowAttention):
            query, key = _split_windows(attention, call.arguments)
        else:
            query, key = _split_sequences(attention, call.arguments)
        if queries is not None:
            query = query[:, :, list(queries)]
        return (query.float() @ key.float().transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)


def _split_sequences(attention: Attention, given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Queries and keys [B, heads, L, D], turned by their places."""
    pairs = ((attention.q_proj, given["query"]), (attention.k_proj, given["key"]))
    query, key = (_projected(p, x).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for p, x in pairs)
    query = query if given["rotary"] is None else rotate(query, given["rotary"])
    return query, key if given["rotary_key"] is None else rotate_maps(key, given["rotary_key"], given["maps"])


def _split_windows(attention: WindowAttention, given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Queries and keys [windows, heads, L, D]; where a stage opens, four queries have become one."""
    query, key, _ = _projected(attention.qkv, given["x"]).chunk(3, dim=-1)
    pair = (pool2x2(query) if attention.pool else query, key)
    query, key = (t.flatten(1, 2).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for t in pair)
    return query, key


def _projected(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer(x.to(layer.weight.dtype))  # what ran under autocast may have come in another dtype


@dataclass(frozen=True)
class BlockReach:
    """How far the places of one block of the image encoder see."""

    block: int  # from 0, over all stages
    stage: int  # 1..4
    stride: int  # pixels of the model's square per token, at the entrance of the block
    window: int  # edge of its windows in tokens; 0 has none and sees everything
    reach: int  # edge of what a place can see, in pixels of the square


def block_reaches(config: SAM2Config) -> list[BlockReach]:
    """What every block of a model's image encoder can see, in order.

    Raises:
        ValueError: if it has no blocks of attention.
    """
    if isinstance(config.trunk, RepViTConfig):
        raise ValueError("EdgeTAM's image encoder is made of convolutions: no place of it attends to others")
    if isinstance(config.trunk, ViTConfig):
        windows = [config.trunk.window_of(block) for block in range(config.trunk.blocks)]
        return [
            BlockReach(block, 1, 16, window, min(16 * window or config.side, config.side))
            for block, window in enumerate(windows)
        ]
    ends = list(accumulate(config.trunk.blocks_per_stage))
    reaches = []
    for block, options in enumerate(block_plan(config.trunk)):
        stage = 1 + sum(block >= end for end in ends)
        stride = 4 << (stage - 1 - options["pool"])  # a block that opens a stage still reads the finer map
        reach = min(options["window"] * stride or config.side, config.side)
        reaches.append(BlockReach(block, stage, stride, options["window"], reach))
    return reaches


def block_attention(model: SAM2, block: int, calls: Sequence[Call], place_unit: tuple[float, float]) -> Tensor:
    """Where one place of the picture looks, in one block of the image encoder.

    Args:
        model: the model that was recorded.
        block: its number, from 0.
        calls: all of "image_encoder.trunk.blocks.{block}.attn" for one picture, whose windows may come in several.
        place_unit: (x, y) in the model's square, each 0..1.
    Returns:
        [h, w] float32 at the entrance of the block, mean of the heads; sums to 1 (less where a window reaches over
        the border), and is 0 outside the window.
    Raises:
        ValueError: if the place lies outside the square.
    """
    if not all(0 <= u <= 1 for u in place_unit):
        raise ValueError(f"place_unit must be (x, y) within 0..1, got {tuple(place_unit)}; divide pixels by the size")
    attention = model.get_submodule(f"image_encoder.trunk.blocks.{block}.attn")
    assert isinstance(attention, WindowAttention), "all blocks have one"
    windows = torch.cat([call.arguments["x"] for call in calls])
    cells, edge = model.config.side // block_reaches(model.config)[block].stride, windows.shape[1]
    across = -(-cells // edge)  # windows per row
    column, row = (min(int(u * cells), cells - 1) for u in place_unit)
    number = row // edge * across + column // edge
    shrink = 2 if attention.pool else 1
    query = (row % edge) // shrink * (edge // shrink) + (column % edge) // shrink
    alone = Call({"x": windows[number : number + 1]}, None)
    seen = attention_weights(attention, alone, [query]).mean(dim=1).view(edge, edge)
    top, left = row // edge * edge, column // edge * edge
    after = across * edge - edge
    return F.pad(seen, (left, after - left, top, after - top))[:cells, :cells].cpu()
