"""LoRA: slim additions to frozen layers, so that little is trained and little is saved.

    add_lora(model, rank=8, alpha=16, targets=TRUNK_ATTENTION)
    ...                                          training, as with any other model
    save_finetuned(folder, plain_state(model), base_state, about, lora_pairs(model), config=model.config)

peft makes the layers; nothing else here or elsewhere needs it, so that results load, merge and export without it.

Source: LoRA, arXiv:2106.09685.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn

from sam2kit.finetuned import LowRank
from sam2kit.model.sam2 import SAM2
from sam2kit.weight_files import LORA_BASE

TRUNK_ATTENTION = ("image_encoder.trunk.blocks.*.attn.qkv", "image_encoder.trunk.blocks.*.attn.proj")
TRUNK_LINEAR = (*TRUNK_ATTENTION, "image_encoder.trunk.blocks.*.mlp.layers.*")
MEMORY_ATTENTION = ("memory_attention.layers.*_attn*_proj",)
_ADAPTER = "default"


class _LoraLayer(Protocol):
    """A layer that peft has wrapped."""

    base_layer: nn.Linear | nn.Conv2d
    lora_A: Mapping[str, nn.Linear | nn.Conv2d]  # by adapter, as all of these
    lora_B: Mapping[str, nn.Linear | nn.Conv2d]
    scaling: Mapping[str, float]

    def train(self, mode: bool) -> nn.Module:
        """Switch dropout on or off."""


def add_lora(model: SAM2, *, rank: int, alpha: float, targets: str | tuple[str, ...], dropout: float = 0.0) -> None:
    """Give linear layers and convolutions a trainable addition of low rank, in place.

    The layers themselves are frozen. Which other parameters learn is left as it is. At first the additions are zero.

    Args:
        rank: r of the additions, at most this many independent directions each.
        alpha: the additions count alpha / rank times.
        targets: which layers: a regular expression that matches whole module names, or patterns with "*",
            such as `TRUNK_ATTENTION`.
        dropout: share of a layer's inputs that its addition does not see in training.
    Raises:
        ValueError: if an argument cannot be used, no layer has such a name, the model has LoRA already, or
            peft is not installed.
    """
    if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise ValueError(
            "LoRA wants a rank of at least 1, a positive alpha and a dropout from 0 to below 1, got "
            f"{rank}, {alpha} and {dropout}"
        )
    if has_lora(model):
        raise ValueError("the model has LoRA layers already; merge_lora(model) makes them part of its weights")
    names = _layers_named(model, targets)
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    _inject(model, names, rank, alpha, dropout)
    for name, parameter in model.named_parameters():
        if ".lora_" not in name and LORA_BASE not in name:
            parameter.requires_grad_(learns[name])  # peft has frozen them all
    for layer in _lora_layers(model).values():
        layer.train(layer.base_layer.training)


def _layers_named(model: SAM2, targets: str | tuple[str, ...]) -> list[str]:
    """Names of the layers that can have LoRA and are meant."""

    def is_meant(name: str) -> bool:
        if isinstance(targets, str):
            return re.fullmatch(targets, name) is not None
        return any(fnmatchcase(name, pattern) for pattern in targets)

    try:
        names = [name for name, module in model.named_modules() if _can_have_lora(module) and is_meant(name)]
    except re.error as error:
        raise ValueError(f"targets {targets!r} is no regular expression: {error}") from error
    if not names:
        raise ValueError(
            f"no linear layer or convolution has a name like {targets!r}; see TRUNK_ATTENTION for examples"
        )
    return names


def _can_have_lora(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _inject(model: SAM2, names: list[str], rank: int, alpha: float, dropout: float) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("LoRA needs peft, which is not installed: pip install 'sam2kit[train]'") from error
    exactly = "|".join(map(re.escape, names))  # a list would also match the ends of longer names
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft says int, and only divides it by the rank
        lora_dropout=dropout,
        target_modules=exactly,
    )
    inject_adapter_in_model(config, model, _ADAPTER)


def _lora_layers(model: nn.Module) -> dict[str, _LoraLayer]:
    """peft's layers, by the official name of the layer that each wraps."""
    return {name: module for name, module in model.named_modules() if _is_lora_layer(module)}


def _is_lora_layer(module: nn.Module) -> TypeGuard[_LoraLayer]:
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def has_lora(model: nn.Module) -> bool:
    """Whether some layers have LoRA additions."""
    return bool(_lora_layers(model))


def lora_pairs(model: nn.Module) -> dict[str, LowRank]:
    """What LoRA adds, by the official name of the weight to which it is added; detached, sharing memory."""
    return {
        f"{name}.weight": LowRank(
            down=layer.lora_A[_ADAPTER].weight.detach(),
            up=layer.lora_B[_ADAPTER].weight.detach(),
            scale=float(layer.scaling[_ADAPTER]),
        )
        for name, layer in _lora_layers(model).items()
    }


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state under official names, without what LoRA adds; of a plain model just its state."""
    return {key.replace(LORA_BASE, ""): value for key, value in model.state_dict().items() if ".lora_" not in key}


@torch.no_grad()
def merge_lora(model: SAM2) -> None:
    """Make the additions part of the weights and put the plain layers back, in place; they stay frozen."""
    pairs = lora_pairs(model)
    for name, layer in _lora_layers(model).items():
        plain = layer.base_layer
        plain.weight.data = pairs[f"{name}.weight"].added_to(plain.weight)  # not in place: others may hold the old ones
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    if hasattr(model, "peft_config"):
        del model.peft_config
