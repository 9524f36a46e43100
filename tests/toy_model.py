"""A complete model of a few thousand weights: everything runs, and nothing takes long."""

from __future__ import annotations

import torch

from sam2kit.config import DecoderConfig, HieraConfig, MemoryConfig, SAM2Config
from sam2kit.model.sam2 import SAM2

TOY = SAM2Config(
    side=64,
    hidden_dim=32,
    trunk=HieraConfig(embed_dim=8, blocks_per_stage=(1, 1, 2, 1), window_per_stage=(4, 4, 4, 2), global_blocks=(3,)),
    decoder=DecoderConfig(heads=2, mlp_dim=32),
    memory=MemoryConfig(dim=16, attention_layers=1, attention_mlp_dim=32, fuser_layers=1),
)


def toy_model() -> SAM2:
    """The same weights every time."""
    torch.manual_seed(0)
    return SAM2(TOY).eval()
