"""What comes before the first step of a fine-tuning: recipe, base model, what is learnt and what is held out."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator

from sam2kit.datasets.samples import Dataset, Sample
from sam2kit.datasets.splitting import split
from sam2kit.evaluation.processes import join_processes
from sam2kit.model.sam2 import SAM2
from sam2kit.training.budget import Budget
from sam2kit.training.lora import add_lora
from sam2kit.training.recipes import Recipe, recipe_named
from sam2kit.weights import choose_device, choose_dtype, load_model


def choose_recipe(recipe: str | Recipe | None, data: Dataset) -> Recipe:
    """The recipe that was asked for, or else the usual one for the data."""
    if isinstance(recipe, Recipe):
        return recipe
    return recipe_named(recipe or ("memory" if data.clips else "lora"))


def load_base(base: str, budget: Budget) -> tuple[Accelerator, SAM2]:
    """The processes, and the base model on this one's device."""
    device = choose_device(budget.device)
    dtype = choose_dtype(budget.precision, device)
    names = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
    accelerator = join_processes(cpu=device.type == "cpu", mixed_precision=names[dtype])
    return accelerator, load_model(base, accelerator.device, dtype, side=budget.side)


def parts_of(data: Dataset, budget: Budget) -> tuple[Dataset, Dataset]:
    """What to learn from, and what to be examined on."""
    if budget.overfit:
        some = [s.name for s in data.samples][: budget.overfit]
        return data.subset(some), data.subset(some)
    return split(data, budget.held_out, budget.seed)


def some_of(data: Dataset, count: int, seed: int) -> list[Sample]:
    """At most so many samples, drawn evenly; half of them clips where there are both."""
    kinds = [kind for kind in (data.pictures, data.clips) if kind]
    drawn: list[Sample] = []
    for kind in kinds:
        chosen = np.random.default_rng([seed, 3]).permutation(len(kind))[: max(count // len(kinds), 1)]
        drawn += [kind[n] for n in sorted(chosen)]
    return drawn


def check_fit(recipe: Recipe, learnt: Dataset, model: SAM2) -> None:
    """Raise ValueError if recipe, data and model do not go together."""
    if recipe.needs_clips and not learnt.clips:
        raise ValueError(f"the {recipe.name} recipe needs clips, and {learnt.path} has pictures; take lora or decoder")
    if learnt.clips and not model.memory_is_trained:
        raise ValueError("these weights only know pictures, and the data has clips; take weights that can track")


def prepare(model: SAM2, recipe: Recipe) -> None:
    """Freeze what the recipe does not train, and add its low-rank changes."""
    recipe.freeze(model)
    if recipe.low_rank:
        add_lora(model, rank=recipe.low_rank.rank, alpha=recipe.low_rank.alpha, targets=recipe.low_rank.layers)
