"""A small clip, and a model with strong answers for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2kit.model.sam2 import SAM2

FRAMES = 20


@pytest.fixture(scope="session")
def clip() -> np.ndarray:
    """[20, 48, 64, 3]: two soft spots that move."""
    y, x = np.mgrid[0:48, 0:64]
    frames = []
    for t in range(FRAMES):
        first = np.exp(-((x - 10 - 2 * t) ** 2 + (y - 20) ** 2) / 60)
        second = np.exp(-((x - 50 + 2 * t) ** 2 + (y - 34) ** 2) / 40)
        frames.append(np.stack([200 * first, 30 + 200 * second, 90 + 40 * np.sin(x / 5)], axis=2))
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


@pytest.fixture
def present(toy: SAM2) -> SAM2:
    return with_strong_answers(toy)


def with_strong_answers(toy: SAM2) -> SAM2:
    """A model whose objects are always present, with large logits, and to which memories matter."""
    with torch.no_grad():
        toy.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
        for mlp in toy.sam_mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 100
        toy.memory_encoder.mask_downsampler.encoder[-1].weight *= 30
        toy.memory_encoder.out_proj.weight *= 5
        for layer in toy.memory_attention.layers:
            layer.cross_attn_image.q_proj.weight *= 10
            layer.cross_attn_image.k_proj.weight *= 10
            layer.cross_attn_image.out_proj.weight *= 40
    return toy
