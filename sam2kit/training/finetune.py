"""Fine-tune SAM 2 on somebody's own pictures or clips: one call, numbers before and after, one folder that loads.

    result = finetune("sam2.1-hiera-tiny", "my_pictures", recipe="lora", out="runs/mine")
    print(result.text())
    model = load_model("runs/mine")

The base model takes the exam on held-out samples first; then each epoch is followed by the same exam. The best weights
so far are in the folder at any time, so nothing is lost when a run is stopped, and the same call goes on with it.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object

from sam2kit.datasets.fingerprint import fingerprint
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.samples import ClipSample, Dataset, PictureSample
from sam2kit.datasets.splitting import split
from sam2kit.finetuned import FineTuning, save_finetuned, this_environment, with_metrics
from sam2kit.finetuned import fingerprint as weights_fingerprint
from sam2kit.model.sam2 import SAM2
from sam2kit.training.budget import Budget
from sam2kit.training.exams import Exam, general_knowledge
from sam2kit.training.lora import add_lora, lora_pairs, plain_state
from sam2kit.training.recipes import Recipe, recipe_named
from sam2kit.training.report import ABOUT_TIME, Board, History, Result, write_curves
from sam2kit.training.room import Room, free_bytes, measure_needs, plan_room
from sam2kit.training.school import School
from sam2kit.training.trainer import Trainer, TrainOptions
from sam2kit.weights import choose_device, choose_dtype, load_model

_SAVE_EVERY = 200  # steps, besides the end of each epoch
_LEAST_STEPS = 25  # per epoch: a handful of pictures is gone through several times before the next exam


def finetune(
    model: str | os.PathLike,
    data: str | os.PathLike | Dataset,
    recipe: str | Recipe | None = None,
    *,
    out: str | os.PathLike,
    budget: Budget | None = None,
    watch: Callable[[dict], None] = lambda _: None,
) -> Result:
    """Fine-tune a model and keep the best of it.

    Args:
        model: the base, as for `load_model`.
        data: a dataset, or what `open_dataset` opens.
        recipe: a name out of RECIPES or a recipe; None takes "memory" for clips and "lora" for pictures.
        out: folder for the result; if a run was interrupted there, this goes on with it.
        budget: how long, how much, where.
        watch: called with each exam: {"epoch", "step", "seconds", "score", ...}; raising KeyboardInterrupt stops.
    Raises:
        ValueError: if data, recipe and model do not fit together.
        FloatingPointError: if a loss is not a number; names the sample.
        KeyboardInterrupt: when stopped; the same call goes on.
    """
    return _FineTuning(model, data, recipe, Path(out), budget or Budget(), watch).run()


class _FineTuning:
    """One run, from the base model to the result."""

    def __init__(
        self,
        base: str | os.PathLike,
        data: str | os.PathLike | Dataset,
        recipe: str | Recipe | None,
        out: Path,
        budget: Budget,
        watch: Callable[[dict], None],
    ) -> None:
        self.base, self.out, self.budget, self.watch = os.fspath(base), out, budget, watch
        self.data = data if isinstance(data, Dataset) else open_dataset(data)
        self.recipe = budget.changed(_choose_recipe(recipe, self.data))
        self.accelerator, self.model = _load(self.base, budget)
        self.dtype = self.model.compute_dtype
        learnt, held_out = _parts(self.data, budget)
        _check_fit(self.recipe, learnt, self.model)
        self.learnt = [*learnt.pictures, *learnt.clips]
        self.exam = Exam(_some(held_out, budget.exam_samples, budget.seed), self.accelerator)
        self.base_state = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        self.data_fingerprint = fingerprint(self.data)
        about = {"base": weights_fingerprint(self.base_state), "data": self.data_fingerprint}
        about |= {"recipe": self.recipe.as_dict(), "budget": asdict(replace(budget, device="auto"))}
        self.history = History.read(out, about)

    def run(self) -> Result:
        """Exam, training with exams, result."""
        started = time.monotonic()
        if not self.history.before:
            self.history.before = self._examine() | general_knowledge(self.model, clips=bool(self.data.clips))
            self._write_history()
        torch.manual_seed(self.budget.seed)  # low-rank changes begin at random, and alike on all processes
        prepare(self.model, self.recipe)
        room = self._room()
        self._note_room(room)
        school = School(self.model, self.learnt, self.recipe, room, self.budget.seed, self.accelerator)
        trainer = self._trainer(school)
        if trainer.step == 0:
            trainer.seconds = time.monotonic() - started  # the first exam is part of the budget, too
        self._epochs(trainer, school)
        return self._result(trainer.seconds, school)

    def _trainer(self, school: School) -> Trainer:
        per_epoch, recipe, budget = self._steps_per_epoch(), self.recipe, self.budget
        steps = per_epoch * recipe.epochs
        options = TrainOptions(
            steps=None if budget.minutes else steps,
            minutes=budget.minutes,
            learning_rate=budget.rate or recipe.rate_for(self.model.config),
            final_share=recipe.final_share,
            warmup_share=recipe.warmup,
            warmup_steps=0,
            betas=(0.9, 0.999),
            weight_decay=recipe.weight_decay,
            share_of=recipe.share_of(self.model.config),
            clip=recipe.clip,
            average=0.0,
            save_every=_SAVE_EVERY,
            log_every=1,
        )
        self.model.compute_dtype = None  # the loop's autocast decides
        return Trainer(
            self.model,
            school.play,
            options,
            self.out,
            accelerator=self.accelerator,
            about_step=school.about_step,
            make_room=school.make_room,
        )

    def _epochs(self, trainer: Trainer, school: School) -> None:
        """Train, examine, keep the best, until the budget ends or nothing gets better any more."""
        history, per_epoch = self.history, self._steps_per_epoch()
        history.drop_after(trainer.step)
        board = Board(self.out, self.accelerator.is_main_process)
        trainer.watch = lambda step, figures: board.add("training", step, figures)
        while not history.stands_still(self.recipe.patience):
            epoch = len(history.exams) + 1
            if trainer.finished and trainer.step < epoch * per_epoch:
                break
            try:
                trainer.run(until=epoch * per_epoch)
            finally:
                self._note_room(school.room)
            started = time.monotonic()
            exam = self._examine()
            trainer.seconds += time.monotonic() - started  # exams are part of the budget
            history.exams.append({"epoch": epoch, "step": trainer.step, "seconds": trainer.seconds, **exam})
            if history.latest_is_best:  # first the weights: the history must not know of any that are not there
                self._save({"before": history.before, "after": exam})
            self._write_history()
            board.add("held out", trainer.step, exam)
            self.watch(history.exams[-1])
        board.close()
        school.close()

    def _examine(self) -> dict[str, float]:
        """The exam of the model as it is now, in the precision that it will be used in."""
        before, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        self.model.eval()
        try:
            return self.exam.take(self.model)
        finally:
            self.model.compute_dtype = before

    def _save(self, metrics: dict) -> None:
        if not self.accelerator.is_main_process:
            return
        about = FineTuning(
            base=self.base,
            recipe=self.recipe.as_dict(),
            data={
                "format": self.data.format,
                "name": self.data.path.name,
                "fingerprint": self.data_fingerprint,
                "learnt": len(self.learnt),
                "held_out": len(self.exam.samples),
            },
            metrics=metrics,
            environment=this_environment(self.accelerator.device),
            seed=self.budget.seed,
        )
        model = self.model
        save_finetuned(
            self.out,
            plain_state(model),
            self.base_state,
            about,
            lora_pairs(model),
            config=model.config,
            memory_is_trained=model.memory_is_trained,
        )

    def _note_room(self, room: Room) -> None:
        """A run that goes on takes the same room again: in another one it would be another training."""
        self.history.room = room.as_dict()
        if self.accelerator.is_main_process:
            self.history.write(self.out)

    def _write_history(self) -> None:
        if self.accelerator.is_main_process:
            self.history.write(self.out)
            write_curves(self.history, self.out / "curves.png")

    def _result(self, seconds: float, school: School) -> Result:
        """Ask the best model what it still knows of everything else, and complete the result."""
        self.accelerator.wait_for_everyone()
        best = self.history.best
        kept = load_model(self.out, self.accelerator.device, self.dtype)
        after = {name: value for name, value in best.items() if name not in ABOUT_TIME}
        after |= general_knowledge(kept, clips=bool(self.data.clips))
        result = Result(
            self.out,
            self.recipe.name,
            self.history.before,
            after,
            best["epoch"],
            len(self.history.exams),
            seconds,
            sorted({name for names in gather_object([school.skipped | self.exam.skipped]) for name in names}),
        )
        if self.accelerator.is_main_process:
            with_metrics(self.out, {"before": result.before, "after": after})
            (self.out / "result.md").write_text(result.text() + "\n")
        return result

    def _steps_per_epoch(self) -> int:
        return max(math.ceil(len(self.learnt) / self.recipe.batch), _LEAST_STEPS)

    def _room(self) -> Room:
        """What fits the device at once, for this model and recipe."""
        if self.history.room:
            return Room(**self.history.room)
        recipe, side = self.recipe, self.model.config.side
        frames = recipe.frames if any(isinstance(s, ClipSample) for s in self.learnt) else 1
        corrected = recipe.habits.corrected_frames if frames > 1 else 1
        wanted = Room(side, frames, recipe.objects)
        free = free_bytes(self.accelerator.device, self.accelerator)
        room = plan_room(measure_needs(self.model, recipe), wanted, corrected, free)
        if self.accelerator.num_processes > 1:  # they all take what the smallest of them can
            room = min(gather_object([room]), key=lambda r: (r.side, r.frames, r.objects))
        if (room.side, room.frames) != (side, frames):
            warnings.warn(f"the device is small; training with {room}")
        return room


def prepare(model: SAM2, recipe: Recipe) -> None:
    """Freeze what the recipe does not train, and add its low-rank changes."""
    recipe.freeze(model)
    if recipe.low_rank:
        add_lora(model, rank=recipe.low_rank.rank, alpha=recipe.low_rank.alpha, targets=recipe.low_rank.layers)


def _choose_recipe(recipe: str | Recipe | None, data: Dataset) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return recipe_named(recipe or ("memory" if data.clips else "lora"))


def _load(base: str, budget: Budget) -> tuple[Accelerator, SAM2]:
    """The processes, and the base model on this one's device."""
    device = choose_device(budget.device)
    dtype = choose_dtype(budget.precision, device)
    names = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # it would insist on an earlier run's precision
    # without `cpu`, several processes on CPUs do not find each other
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=names[dtype])
    return accelerator, load_model(base, accelerator.device, dtype, side=budget.side)


def _parts(data: Dataset, budget: Budget) -> tuple[Dataset, Dataset]:
    """What to learn from, and what to be examined on."""
    if budget.overfit:
        some = [s.name for s in (*data.pictures, *data.clips)][: budget.overfit]
        return data.subset(some), data.subset(some)
    return split(data, budget.held_out, budget.seed)


def _some(data: Dataset, count: int, seed: int) -> list[PictureSample | ClipSample]:
    """At most so many samples, drawn evenly; half of them clips where there are both."""
    kinds = [kind for kind in (data.pictures, data.clips) if kind]
    drawn = []
    for kind in kinds:
        chosen = np.random.default_rng([seed, 3]).permutation(len(kind))[: max(count // len(kinds), 1)]
        drawn += [kind[n] for n in sorted(chosen)]
    return drawn


def _check_fit(recipe: Recipe, learnt: Dataset, model: SAM2) -> None:
    if recipe.needs_clips and not learnt.clips:
        raise ValueError(f"the {recipe.name} recipe needs clips, and {learnt.path} has pictures; take lora or decoder")
    if learnt.clips and not model.memory_is_trained:
        raise ValueError("these weights only know pictures, and the data has clips; take weights that can track")
