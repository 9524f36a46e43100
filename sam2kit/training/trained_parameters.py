"""Which parameters are trained, how fast, and which of them decay; and LoRA, slim additions to frozen layers.

    add_lora(model, rank=8, alpha=16)
    ...                                          training, as with any other model
    save_finetuned(folder, plain_state(model), base_state, about, lora_pairs(model), config=model.config)

Rates are shares of one learning rate, so that the schedule is a single number. The published fine-tuning lets the image
encoder learn slower, and its early blocks slower still. peft makes the LoRA layers; nothing else needs it, so that
results load, merge and export without it.

Source: LoRA, arXiv:2106.09685; SAM 2, arXiv:2408.00714, training appendix (layer decay as in BEiT, arXiv:2106.08254).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from sam2kit.checkpoints import LORA_BASE
from sam2kit.config import RepViTConfig, SAM2Config
from sam2kit.finetuned import LowRank
from sam2kit.model.sam2 import SAM2

TRUNK_LINEAR = tuple(
    f"image_encoder.trunk.{part}"
    for part in (
        *(f"blocks.*.{part}" for part in ("attn.qkv", "attn.proj", "mlp.layers.*")),
        *(f"body.*.{part}.conv*.c" for part in ("channel_mixer", "ffn")),
    )
)
_ADAPTER = "default"
_TRUNK = "image_encoder.trunk."

ShareOf = Callable[[str], float]  # a parameter's name in the model -> its share of the learning rate


def slower(prefix: str, share: float) -> ShareOf:
    """Parameters whose names begin with `prefix` learn at a share of the rate; the others at the rate."""
    return lambda name: share if name.startswith(prefix) else 1.0


def layer_decay(config: SAM2Config, decay: float, encoder_share: float) -> ShareOf:
    """The image encoder learns at a share of the rate, each trunk block at `decay` times the rate of the one above it.

    Position embeddings are exempt from the decay, the neck has none.
    """
    depth = config.trunk.blocks

    def share_of(name: str) -> float:
        if not name.startswith("image_encoder."):
            return 1.0
        if not name.startswith(_TRUNK) or name.startswith(_TRUNK + "pos_embed"):
            return encoder_share
        return encoder_share * decay ** (depth + 1 - _layer_of(config, name.removeprefix(_TRUNK)))

    return share_of


def _layer_of(config: SAM2Config, name: str) -> int:
    """The number of the trunk's block that a parameter belongs to, from 1; 0 of what comes before all blocks."""
    stage, block = re.match(r"(?:body\.stages_(\d+)\.)?(?:blocks\.(\d+)\.)?", name).groups()  # type: ignore[union-attr]
    before = 0
    if stage is not None and isinstance(config.trunk, RepViTConfig):
        before = sum(config.trunk.blocks_per_stage[: int(stage)])
    return before if block is None else before + int(block) + 1


def parameter_groups(model: nn.Module, weight_decay: float, share_of: ShareOf) -> list[dict[str, Any]]:
    """Trainable parameters by what they share, for an optimiser: "params", "weight_decay" and "share".

    Biases and plain layer norms do not decay; those over channels, which derive from them, do, as published.
    """
    plain = (nn.LayerNorm, nn.BatchNorm2d)
    norms = {id(p) for m in model.modules() if type(m) in plain for p in m.parameters(recurse=False)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if "bias" in name or id(parameter) in norms else weight_decay
            groups.setdefault((decay, share_of(name)), []).append(parameter)
    return [{"params": p, "weight_decay": decay, "share": share} for (decay, share), p in groups.items()]


def add_lora(model: SAM2, *, rank: int, alpha: float, targets: tuple[str, ...] = TRUNK_LINEAR) -> None:
    """Give linear layers and convolutions a trainable addition of low rank, in place.

    The layers themselves are frozen. Which other parameters are trained is left as it is. At first the additions are
    zero.

    Args:
        rank: r of the additions, at most this many independent directions each.
        alpha: the additions count alpha / rank times.
        targets: which layers: names with "*" for any part, such as `TRUNK_LINEAR`.
    Raises:
        ValueError: if an argument cannot be used, no layer has such a name, the model has LoRA already, or
            peft is not installed.
    """
    if rank < 1 or alpha <= 0:
        raise ValueError(f"LoRA wants a rank of at least 1 and a positive alpha, got {rank} and {alpha}")
    if _lora_layers(model):
        raise ValueError("the model has LoRA layers already; merge_lora(model) makes them part of its weights")
    layers = [name for name, module in model.named_modules() if _can_have_lora(module)]
    names = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in targets)]
    if not names:
        raise ValueError(f"no linear layer or convolution has a name like {targets!r}; see TRUNK_LINEAR for examples")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("LoRA needs peft, which is not installed: pip install 'sam2kit[train]'") from error
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    exactly = "|".join(map(re.escape, names))  # a list would also match the ends of longer names
    # peft says that alpha is an int, and only divides it by the rank
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=exactly)  # type: ignore[arg-type]
    inject_adapter_in_model(config, model, _ADAPTER)
    for name, parameter in model.named_parameters():
        if ".lora_" not in name and LORA_BASE not in name:
            parameter.requires_grad_(trained[name])  # peft has frozen them all
    for layer in _lora_layers(model).values():
        layer.train(layer.base_layer.training)


def _can_have_lora(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _lora_layers(model: nn.Module) -> dict[str, Any]:
    """peft's layers, by the official name of the layer that each wraps."""
    modules = model.named_modules()
    return {name: module for name, module in modules if hasattr(module, "lora_A") and hasattr(module, "base_layer")}


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
