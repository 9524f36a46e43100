"""What comes before the first step of a fine-tuning: recipe, base model, what is learnt and held out, how much fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sam2kit.config import SAM2Config
from sam2kit.datasets.samples import ClipSample, Dataset, Sample, counted
from sam2kit.datasets.splitting import split
from sam2kit.evaluation.processes import join_processes, started_together
from sam2kit.model.sam2 import SAM2
from sam2kit.training.budget import Budget
from sam2kit.training.lora import add_lora
from sam2kit.training.recipes import Recipe, recipe_named
from sam2kit.training.room import Room, free_bytes, measure_needs, plan_room
from sam2kit.training.trainer import TrainOptions
from sam2kit.weights import choose_device, choose_dtype, load_model

MIXED_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}  # as accelerate calls them
_SAVE_EVERY = 200  # steps, besides the end of each epoch


def choose_recipe(recipe: str | Recipe | None, data: Dataset) -> Recipe:
    """The recipe that was asked for, or else the usual one for the data."""
    if isinstance(recipe, Recipe):
        return recipe
    return recipe_named(recipe or ("memory" if data.clips else "lora"))


def load_base(base: str, budget: Budget) -> tuple[Accelerator, SAM2]:
    """The processes, and the base model on this one's device."""
    device = choose_device(budget.device)
    dtype = dtype_for_all(budget.precision, device)
    accelerator = join_processes(device=device, mixed_precision=MIXED_PRECISION[dtype])
    return accelerator, load_model(base, accelerator.device, dtype, side=budget.side, trainable=True)


def dtype_for_all(precision: str, device: torch.device) -> torch.dtype:
    """The precision to train in; several processes need the same, so it is one that all GPUs here compute in."""
    devices = [device]
    if device == torch.device("cuda") and started_together():
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    dtypes = {choose_dtype(precision, one) for one in devices}
    return dtypes.pop() if len(dtypes) == 1 else torch.float16


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


def train_options(
    recipe: Recipe, budget: Budget, config: SAM2Config, per_epoch: int, seconds_at_the_end: float
) -> TrainOptions:
    """What the loop is told.

    Args:
        per_epoch: steps.
        seconds_at_the_end: that are kept free of a budget of minutes, for what follows the training.
    """
    minutes = budget.minutes
    if minutes is not None:
        minutes = max(minutes - seconds_at_the_end / 60, minutes / 100)
    return TrainOptions(
        steps=None if minutes else per_epoch * recipe.epochs,
        minutes=minutes,
        learning_rate=budget.rate or recipe.rate_for(config),
        final_share=recipe.final_share,
        warmup_share=recipe.warmup,
        warmup_steps=0,
        betas=(0.9, 0.999),
        weight_decay=recipe.weight_decay,
        share_of=recipe.share_of(config),
        clip=recipe.clip,
        average=0.0,
        save_every=_SAVE_EVERY,
        log_every=1,
    )


def room_for(model: SAM2, recipe: Recipe, learnt: Sequence[Sample], accelerator: Accelerator) -> Room:
    """What fits the device at once, for this model and recipe."""
    side = model.config.side
    frames = recipe.frames if any(isinstance(s, ClipSample) for s in learnt) else 1
    corrected = recipe.habits.corrected_frames if frames > 1 else 1
    wanted = Room(side, frames, recipe.objects)
    room = plan_room(measure_needs(model, recipe), wanted, corrected, free_bytes(accelerator.device, accelerator))
    if accelerator.num_processes > 1:  # they all take what the smallest of them can
        room = min(gather_object([room]), key=lambda r: (r.side, r.frames, r.objects))
    if (room.side, room.frames) != (side, frames):
        warnings.warn(f"the device is small; training with {room}")
    return room


def about_held_out(evaluated: Sequence[Sample], held_out: Dataset, objects: int) -> str:
    """What the numbers are measured on, in a sentence or two."""
    clips = sum(isinstance(sample, ClipSample) for sample in evaluated)
    kinds = [counted(n, kind) for n, kind in ((len(evaluated) - clips, "picture"), (clips, "clip")) if n]
    few = f" (of {len(held_out)})" if len(evaluated) < len(held_out) else ""
    return f"Held-out samples: {' and '.join(kinds)}{few} with {counted(objects, 'object')}."


def notes_on(
    data: Dataset, held_out: Dataset, budget: Budget, base: SAM2, seen: Mapping[str, Sequence[str]]
) -> list[str]:
    """Sentences about how far the numbers can be trusted.

    Args:
        base: says what it was trained on itself.
        seen: content keys of the samples for "training" and "validation".
    """
    if budget.overfit:
        return ["It was trained and evaluated on the same samples (overfit): this only says that training works."]
    test = [s for s in data.samples if s.split == "test" and s.name not in {h.name for h in held_out.samples}]
    advice = (
        f"Its test split ({counted(len(test), 'sample')}) was left alone: `sam2kit evaluate … --split test`."
        if test
        else "A split named test would be left alone here, for `sam2kit evaluate` in the end."
    )
    notes = [f"The best epoch was chosen on these same samples, so expect a little less on new ones. {advice}"]
    known = len(base.seen.get("training", frozenset()) & set(seen["validation"]))
    if known:
        notes.append(
            f"The base model itself was trained on {known} of the {len(seen['validation'])} held-out samples, so all "
            "numbers on them are flattered; hold out the same ones (--held-out, --seed) as when it was trained."
        )
    return notes
