"""The loop and the simulated interaction at toy size: what is learnt, where gradients go, interrupting, going on."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2kit.config import SAM2Config
from sam2kit.model.sam2 import SAM2
from sam2kit.nano.recipe import initialise
from sam2kit.processes import join_processes
from sam2kit.training.interaction import SupervisionOptions, clip_losses
from sam2kit.training.losses import LossWeights
from sam2kit.training.sampling import PromptPlan, TrainingClip
from sam2kit.training.trained_parameters import parameter_groups, slower
from sam2kit.training.trainer import Backward, LoopOptions, Trainer
from tests.toy_model import TOY


def two_squares() -> TrainingClip:
    """Two pictures, each with a bright and a dark square."""
    pixels = torch.zeros(2, 3, 64, 64)
    masks = torch.zeros(2, 2, 64, 64, dtype=torch.bool)
    for i, (y, x) in enumerate(((8, 8), (20, 30))):
        masks[i, 0, y : y + 16, x : x + 16] = True
        masks[i, 1, 44:60, 6 : 6 + 20 + 10 * i] = True
        pixels[i, :, masks[i, 0]] = 2.0
        pixels[i, :, masks[i, 1]] = -2.0
    return TrainingClip(pixels[None], masks[None])


def moving_squares() -> TrainingClip:
    """Two clips of five frames with two squares each; the first one vanishes on frame 3."""
    masks = torch.zeros(5, 2, 2, 64, 64, dtype=torch.bool)
    for t in range(5):
        masks[t, :, 0, 8:24, 4 + 4 * t : 20 + 4 * t] = t != 3
        masks[t, :, 1, 36:56, 30 - 3 * t : 50 - 3 * t] = True
    pixels = torch.randn(5, 2, 3, 64, 64) * 0.1 + masks.float().sum(2, keepdim=True)
    return TrainingClip(pixels, masks)


@pytest.mark.parametrize("kind", ["mask", "click", "box"])
def test_gradients_reach_the_memory(toy: SAM2, kind: str) -> None:
    options = SupervisionOptions(weights=LossWeights(focal=8, balanced=0.2), true_presence=True)
    plans, generator = [PromptPlan(((0, kind),), ((0, 1), (2, 1)))] * 4, torch.Generator().manual_seed(0)
    losses = clip_losses(toy.train(), moving_squares(), plans, options, generator)
    losses.total.backward()
    assert 0 <= losses.means()["missed"] <= 1
    for part in (toy.memory_encoder, toy.memory_attention, toy.obj_ptr_proj, toy.image_encoder):
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0
    assert toy.maskmem_tpos_enc.grad.abs().sum() > 0
    assert toy.no_obj_embed_spatial.grad.abs().sum() > 0, "an object was absent"
    assert (toy.mask_downsample.weight.grad is not None) == (kind == "mask")


def test_parts_can_learn_slower(toy: SAM2) -> None:
    groups = parameter_groups(toy, 0.1, slower("image_encoder.", 0.5))
    assert {(g["weight_decay"], g["share"]) for g in groups} == {(0.1, 1.0), (0.0, 1.0), (0.1, 0.5), (0.0, 0.5)}
    slow = {id(p) for g in groups if g["share"] == 0.5 for p in g["params"]}
    assert slow == {id(p) for p in toy.image_encoder.parameters()}


def train(folder: Path, steps: int, *, total: int = 40) -> tuple[SAM2, list[float]]:
    """Train a toy on two_squares up to `steps` of a budget of `total`."""
    torch.manual_seed(0)
    model = SAM2(SAM2Config.from_dict(TOY.as_dict()))
    initialise(model)
    losses: list[float] = []

    def training_step(step: int, progress: float, backward: Backward) -> dict[str, float]:
        if step == steps:
            raise KeyboardInterrupt
        kinds = ("click", "box", "corrupted mask", "click")
        plans = [PromptPlan(((0, kind),), ((0, step % 2),)) for kind in kinds]
        options = SupervisionOptions(weights=LossWeights(focal=2, balanced=1), loss_stride=2, single_too=True)
        generator = torch.Generator().manual_seed(step)
        loss = clip_losses(model, two_squares(), plans, options, generator).total / 4
        backward(loss)
        losses.append(loss.item())
        return {"loss": loss.item()}

    options = LoopOptions(steps=total, learning_rate=3e-3, warmup_steps=5, average=0.9, save_every=10)
    trainer = Trainer(model, training_step, options, folder, join_processes("cpu"))
    with suppress(KeyboardInterrupt):
        trainer.run()
    return trainer.kept, losses


@pytest.mark.slow
def test_the_loss_falls_and_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, losses = train(tmp_path / "whole", 40)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    train(tmp_path / "parts", 20)
    resumed, rest = train(tmp_path / "parts", 40)
    assert len(rest) == 20
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    torch.manual_seed(0)
    untrained = SAM2(SAM2Config.from_dict(TOY.as_dict())).memory_encoder.state_dict()
    assert all(torch.equal(untrained[k], v) for k, v in whole.memory_encoder.state_dict().items()), "it was frozen"
    (tmp_path / "parts" / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="is damaged; delete it to begin anew"):
        train(tmp_path / "parts", 40)


@pytest.mark.parametrize("scales", [False, True])
def test_float16_scales_the_loss_and_clips_what_is_not_scaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scales: bool
) -> None:
    """As on an older GPU, whose gradients would else vanish. The clipped norms are 3, whatever the scale."""
    layer, gradients, norms = torch.nn.Linear(1, 1, bias=False), [], []
    torch.nn.init.ones_(layer.weight)
    accelerator = join_processes("cpu")
    if scales:  # accelerate itself does so for GPUs alone
        monkeypatch.setitem(vars(accelerator.state), "_mixed_precision", "fp16")
        accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu", init_scale=2.0**16)
        monkeypatch.setattr(accelerator, "autocast", nullcontext)

    def training_step(step: int, progress: float, backward: Backward) -> dict[str, float]:
        loss = (3 * layer.weight).sum()
        backward(loss)
        gradients.append(layer.weight.grad.item())
        return {"loss": loss.item()}

    def clipped(parameters: list[torch.nn.Parameter], most: float) -> torch.Tensor:
        norms.append(float(clip(parameters, most)))
        return torch.tensor(norms[-1])

    clip = accelerator.clip_grad_norm_
    monkeypatch.setattr(accelerator, "clip_grad_norm_", clipped)
    options = LoopOptions(steps=3, learning_rate=0.1, warmup_steps=0, average=0.0)
    Trainer(layer, training_step, options, tmp_path, accelerator).run()
    assert gradients == [3.0 * (2**16 if scales else 1)] * 3
    assert norms == [3.0] * 3
    assert layer.weight.item() == pytest.approx(0.7885, abs=1e-4)


def test_what_cannot_be_trained(toy: SAM2, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 0"):
        Trainer(toy, lambda *_: {"loss": float("nan")}, LoopOptions(steps=3), tmp_path, join_processes("cpu")).run()
    with pytest.raises(ValueError, match="steps or minutes"):
        LoopOptions()
