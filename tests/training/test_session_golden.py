"""The official training step: losses, logits, scores, memories and gradients against golden values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sam2kit.config import preset
from sam2kit.model.mask_decoder import Candidates
from sam2kit.model.sam2 import ABSENT_LOGIT, SAM2
from sam2kit.training.interaction import SupervisionOptions, interaction_losses
from sam2kit.training.sampling import PromptPlan
from tests.golden import weights
from tests.golden.training import recipes
from tests.golden_models import GOLDEN, compare

FOLDER = GOLDEN / "training"
ARRAYS = np.load(FOLDER / "train_forward.npz")
FACTS = json.loads((FOLDER / "train_forward.json").read_text())
EXACT = SupervisionOptions(shown_only=True, inverted_boxes=True, sum_passes=True, centre_clicks=True, from_truth=0.0)


def golden_tiny() -> SAM2:
    model = SAM2(preset("sam2.1-hiera-tiny")).train()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    made = {name: weights.make(name, shape, weights.TRAINING_GAINS) for name, shape in shapes.items()}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in made.items()})
    return model


def plan_of(case: str) -> PromptPlan:
    facts = FACTS[case]
    by_box = recipes.TRAIN_CASES[case]["model"].get("prob_to_use_box_input_for_train")
    kind = ("box" if by_box else "click") if facts["use_pt_input"] else "mask"
    return PromptPlan(
        tuple((t, kind) for t in facts["init_cond_frames"]), tuple((t, 7) for t in sorted(facts["corrected_frames"]))
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", recipes.TRAIN_CASES)
def test_the_official_step(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_tiny()
    frames, masks = (torch.from_numpy(a) for a in recipes.train_inputs(case))
    plan = plan_of(case)
    passes, memories = record(model, monkeypatch)
    encoded = model.encode_image(frames)
    features = [encoded[t : t + 1] for t in range(len(frames))]
    objects = masks.shape[1]
    done = interaction_losses(model, features, masks, [plan] * objects, EXACT, torch.Generator())
    (done.total / objects).backward()
    check_answers(case, plan, passes)
    if len(frames) > 1:
        for t, memory in zip(plan.order(len(frames)), memories, strict=True):
            compare("training: memories", memory[:, ::2, ::2, ::2], ARRAYS[f"{case}/t{t}/maskmem_s2"], 1e-3)
    check_losses(case, done.total / objects, {k: v / objects for k, v in done.terms.items()})
    check_gradients(case, model)


def record(model: SAM2, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Candidates], list[torch.Tensor]]:
    """Everything that the decoder answers and that is remembered from now on."""
    passes, memories = [], []
    decode, remember = model.decode, model.remember

    def noted_decode(*arguments: object) -> Candidates:
        passes.append(decode(*arguments))
        return passes[-1]

    def noted_remember(*arguments: object, **options: object) -> torch.Tensor:
        memories.append(remember(*arguments, **options))
        return memories[-1]

    monkeypatch.setattr(model, "decode", noted_decode)
    monkeypatch.setattr(model, "remember", noted_remember)
    return passes, memories


def check_answers(case: str, plan: PromptPlan, passes: list[Candidates]) -> None:
    remaining = iter(passes)
    kinds = dict(plan.prompts)
    for t in plan.order(len(FACTS[case]["frames"])):
        for s, step in enumerate(FACTS[case]["frames"][t]["steps"]):
            answer = next(remaining)
            if kinds.get(t) == "mask":
                continue  # the decoder only made a pointer
            answer = answer.keep(slice(1, None)) if step["num_masks"] == 3 else answer.keep(slice(0, 1))
            key = f"{case}/t{t}/s{s}"
            compare("training: object scores", answer.object_score, ARRAYS[f"{key}/obj"], 1e-4)
            compare("training: predicted IoU", answer.predicted_iou, ARRAYS[f"{key}/ious"], 1e-4)
            shown = torch.where(answer.object_score[..., None, None] > 0, answer.mask_logits, ABSENT_LOGIT)
            compare("training: mask logits", shown[..., ::4, ::4], ARRAYS[f"{key}/low_res_s4"], 1e-3)
            if f"{key}/low_res" in ARRAYS:
                compare("training: mask logits", shown, ARRAYS[f"{key}/low_res"], 1e-3)
    assert next(remaining, None) is None


def check_losses(case: str, total: torch.Tensor, terms: dict[str, torch.Tensor]) -> None:
    wanted = FACTS[case]["losses"]
    names = {"focal": "loss_mask", "dice": "loss_dice", "iou": "loss_iou", "object_score": "loss_class"}
    compare("training: total loss, relative", total / wanted["core_loss"], np.ones(()), 1e-4)
    for ours, theirs in names.items():
        compare(f"training: {theirs}, relative", terms[ours] / wanted[theirs], np.ones(()), 1e-4)


def check_gradients(case: str, model: SAM2) -> None:
    facts = FACTS[case]
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert {n for n, g in gradients.items() if g is None} == set(facts["no_grad_parameters"])
    for group, wanted in facts["grad_norm_groups"].items():
        if wanted == 0:
            continue
        parts = [g.norm() for name, g in gradients.items() if g is not None and name.startswith(group)]
        compare("training: gradient norms of modules, relative", torch.stack(parts).norm() / wanted, np.ones(()), 1e-2)
    for name, wanted in facts["grad_norm_parameters"].items():
        if wanted > 1e-2:
            compare(
                "training: gradient norms of parameters, relative", gradients[name].norm() / wanted, np.ones(()), 1e-2
            )
    for name in recipes.GRAD_SLICES:
        key = f"{case}/grad/{name}"
        if key in ARRAYS and facts["grad_norm_parameters"][name] > 1e-2:
            wanted = ARRAYS[key]
            got = gradients[name].flatten()[: wanted.size].reshape(wanted.shape)
            scale = facts["grad_norm_parameters"][name]
            compare("training: gradients, share of the norm", got / scale, wanted / scale, 1e-2)
