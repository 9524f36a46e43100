"""Rates, decay and schedule of the published recipe, against golden values; and its short AdamW runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sam2kit.config import preset
from sam2kit.model.sam2 import SAM2
from sam2kit.training.configuration import RECIPES
from sam2kit.training.interaction import SupervisionOptions, interaction_losses
from sam2kit.training.trained_parameters import parameter_groups
from sam2kit.training.trainer import LoopOptions
from tests.golden.training import recipes
from tests.golden_models import GOLDEN, compare
from tests.training.test_session_golden import EXACT, golden_tiny, plan_of

FACTS = json.loads((GOLDEN / "training" / "param_groups.json").read_text())
STEPS = json.loads((GOLDEN / "training" / "train_forward.json").read_text())
OFFICIAL = RECIPES["official"]


@pytest.mark.slow
def test_every_parameter_has_the_published_rate_and_decay() -> None:
    model = SAM2(preset("sam2.1-hiera-tiny"))
    groups = parameter_groups(model, OFFICIAL.weight_decay, OFFICIAL.share_of(model.config))
    found = {id(p): (OFFICIAL.published_rate * g["share"], g["weight_decay"]) for g in groups for p in g["params"]}
    names = dict(model.named_parameters())
    assert names.keys() == FACTS["parameters"].keys()
    for name, (rate, decay) in FACTS["parameters"].items():
        assert found[id(names[name])] == (pytest.approx(rate, rel=1e-9), decay), name


def test_the_schedule() -> None:
    options = LoopOptions(
        steps=1000, learning_rate=OFFICIAL.published_rate, final_share=OFFICIAL.final_share, warmup_steps=0
    )
    for share, wanted in FACTS["base_lr_at_fraction"].items():
        assert options.rate(0, float(share)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["image_click", "video_click"])
def test_a_few_steps_of_adamw(case: str) -> None:
    golden, model = STEPS[case]["adamw"], golden_tiny()
    frames, masks = (torch.from_numpy(a) for a in recipes.train_inputs(case))
    groups = parameter_groups(model, OFFICIAL.weight_decay, OFFICIAL.share_of(model.config))
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    losses, norms, steps = [], [], len(golden["grad_norm_before_clip"])
    options = LoopOptions(steps=steps, learning_rate=golden["base_lr"], final_share=0.1, warmup_steps=0)
    for step in range(steps + 1):
        for group in groups:
            group["lr"] = group["share"] * options.rate(step, step / steps)
        for group, live in zip(groups, optimizer.param_groups, strict=True):
            live["lr"] = group["lr"]
        encoded = model.encode_image(frames)
        features = [encoded[t : t + 1] for t in range(len(frames))]
        plans = [plan_of(case)] * masks.shape[1]
        assert OFFICIAL.supervision.weights == EXACT.weights
        loss = interaction_losses(model, features, masks, plans, EXACT, torch.Generator()).total
        losses.append((loss / masks.shape[1]).item())
        optimizer.zero_grad()
        (loss / masks.shape[1]).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), golden["clip"])
        norms.append(norm.item())
        optimizer.step()
    wanted = np.array(golden["loss_before_each_step"])
    compare("training: losses of a short AdamW run, relative", np.array(losses) / wanted, np.ones(len(wanted)), 0.02)
    wanted = np.array(golden["grad_norm_before_clip"])
    compare("training: gradient norms of a short AdamW run, relative", norms[:steps] / wanted, np.ones(steps), 0.02)


def test_recipes_train_what_they_say() -> None:
    model = SAM2(preset("nano"))
    trained = {}
    for name, recipe in RECIPES.items():
        recipe.freeze(model)
        trained[name] = {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith(("image_encoder", "memory")) or "conv_s" in n for n in trained["decoder"])
    assert "memory_attention.norm.weight" in trained["memory"]
    assert not any(n.startswith("image_encoder") for n in trained["memory"])
    assert trained["full"] == trained["official"] == {n for n, _ in model.named_parameters()}
    assert OFFICIAL.supervision == SupervisionOptions(shown_only=True, inverted_boxes=True, sum_passes=True)
    assert (OFFICIAL.prompts.corrections, OFFICIAL.prompts.plans, OFFICIAL.clip) == (7, 1, 0.1)
    rates = [RECIPES["decoder"].loop_options(preset(n), 1, None).learning_rate for n in ("sam2.1-hiera-large", "nano")]
    assert rates == [1e-4, 2e-4], "a narrow model takes larger steps"
