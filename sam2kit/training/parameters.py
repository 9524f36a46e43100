"""Which parameters learn, how fast, and which of them decay.

Rates are shares of one learning rate, so that the schedule is a single number. The published fine-tuning lets the image
encoder learn slower, and its early blocks slower still.

Source: SAM 2, arXiv:2408.00714, training appendix (layer decay as in BEiT, arXiv:2106.08254).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from sam2kit.config import SAM2Config

ShareOf = Callable[[str], float]  # a parameter's name in the model -> its share of the learning rate

_TRUNK = "image_encoder.trunk."


def everything_alike(_: str) -> float:
    """All parameters learn at the same rate."""
    return 1.0


def slower(prefix: str, share: float) -> ShareOf:
    """Parameters whose names begin with `prefix` learn at a share of the rate."""
    return lambda name: share if name.startswith(prefix) else 1.0


def layer_decay(config: SAM2Config, decay: float, encoder_share: float) -> ShareOf:
    """The image encoder learns at a share of the rate, each trunk block at `decay` times the rate of the one above it.

    Position embeddings are exempt from the decay, the neck has none.
    """
    depth = sum(config.trunk.blocks_per_stage)

    def share_of(name: str) -> float:
        if not name.startswith("image_encoder."):
            return 1.0
        if not name.startswith(_TRUNK) or name.startswith(_TRUNK + "pos_embed"):
            return encoder_share
        below = name.removeprefix(_TRUNK + "blocks.").split(".")[0]
        layer = int(below) + 1 if below.isdigit() else 0
        return encoder_share * decay ** (depth + 1 - layer)

    return share_of


def parameter_groups(
    model: nn.Module, weight_decay: float, share_of: ShareOf = everything_alike
) -> list[dict[str, Any]]:
    """Trainable parameters by what they share, for an optimiser: "params", "weight_decay" and "share".

    Biases and plain layer norms do not decay; those over channels, which derive from them, do, as published.
    """
    norms = {id(p) for m in model.modules() if type(m) is nn.LayerNorm for p in m.parameters(recurse=False)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if "bias" in name or id(parameter) in norms else weight_decay
            groups.setdefault((decay, share_of(name)), []).append(parameter)
    return [{"params": p, "weight_decay": decay, "share": share} for (decay, share), p in groups.items()]
