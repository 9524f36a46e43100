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
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from sam2kit.datasets.fingerprint import fingerprint
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.samples import ClipSample, Dataset
from sam2kit.finetuned import FineTuning, save_finetuned, this_environment, with_metrics
from sam2kit.finetuned import fingerprint as weights_fingerprint
from sam2kit.model.sam2 import SAM2
from sam2kit.training.budget import Budget
from sam2kit.training.exams import Exam, general_knowledge
from sam2kit.training.lora import lora_pairs, plain_state
from sam2kit.training.preparation import check_fit, choose_recipe, load_base, parts_of, prepare, some_of
from sam2kit.training.recipes import Recipe
from sam2kit.training.report import ABOUT_TIME, Board, History, Result, write_curves
from sam2kit.training.room import Room, free_bytes, measure_needs, plan_room
from sam2kit.training.school import School
from sam2kit.training.trainer import Trainer, TrainOptions
from sam2kit.training.witness import Witness
from sam2kit.weights import choose_dtype, load_model

_SAVE_EVERY = 200  # steps, besides the end of each epoch
_LEAST_STEPS = 25  # per epoch: a handful of pictures is gone through several times before the next exam


def finetune(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset,
    recipe: str | Recipe | None = None,
    *,
    out: str | os.PathLike[str],
    budget: Budget | None = None,
    watch: Callable[[dict[str, float]], None] = lambda _: None,
    each_step: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Fine-tune a model and keep the best of it.

    Args:
        model: the base, as for `load_model`.
        data: a dataset, or what `open_dataset` opens.
        recipe: a name out of RECIPES or a recipe; None takes "memory" for clips and "lora" for pictures.
        out: folder for the result; if a run was interrupted there, this goes on with it.
        budget: how long, how much, where.
        watch: called with each exam: {"epoch", "step", "seconds", "score", ...}; raising KeyboardInterrupt stops.
        each_step: called on the main process with whatever happens: {"phase", "step", "seconds", "progress" 0..1} and
            in the phase "training", once when it begins, and after each step with "loss" and its terms; in "exam
            before" (the base model's) and "exam", before each sample, how many are "done" "of" all, and in the end
            {"exam": {"score", ...}}. Who gives one sees no progress bar.
        stop: asked after each of these; True ends the run as Ctrl-C does. Several processes finish an exam first.
    Raises:
        ValueError: if data, recipe and model do not fit together, or the budget is over before the first step.
        FloatingPointError: if a loss is not a number; names the sample.
        KeyboardInterrupt: when stopped; the same call goes on.
    """
    run = _FineTuning(model, data, recipe, Path(out), budget or Budget(), watch)
    return run.run(each_step, stop)


class _FineTuning:
    """One run, from the base model to the result."""

    def __init__(
        self,
        base: str | os.PathLike[str],
        data: str | os.PathLike[str] | Dataset,
        recipe: str | Recipe | None,
        out: Path,
        budget: Budget,
        watch: Callable[[dict[str, float]], None],
    ) -> None:
        self.base, self.out, self.budget, self.watch = os.fspath(base), out, budget, watch
        self.data = data if isinstance(data, Dataset) else open_dataset(data)
        self.recipe = budget.changed(choose_recipe(recipe, self.data))
        self.accelerator, self.model = load_base(self.base, budget)
        self.dtype = choose_dtype(budget.precision, self.accelerator.device)
        learnt, held_out = parts_of(self.data, budget)
        check_fit(self.recipe, learnt, self.model)
        self.learnt = learnt.samples
        self.exam = Exam(some_of(held_out, budget.exam_samples, budget.seed), self.accelerator)
        self.base_state = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        self.data_fingerprint = fingerprint(self.data)
        about: dict[str, Any] = {"base": weights_fingerprint(self.base_state), "data": self.data_fingerprint}
        about |= {"recipe": self.recipe.as_dict(), "budget": budget.identity()}
        self.history = History.read(out, about)

    def run(self, each_step: Callable[[dict[str, Any]], None] | None, stop: Callable[[], bool]) -> Result:
        """Exam, training with exams, result."""
        started = time.monotonic()
        options = self._options()
        self.witness = Witness(each_step, stop, self.accelerator, options)
        if not self.history.before:
            self.history.before = self._examine() | self._general(self.model)
            self._write_history()
        torch.manual_seed(self.budget.seed)  # low-rank changes begin at random, and alike on all processes
        prepare(self.model, self.recipe)
        room = self._room()
        self._note_room(room)
        school = School(self.model, self.learnt, self.recipe, room, self.budget.seed, self.accelerator)
        board = Board(self.out, self.accelerator.is_main_process)
        try:
            trainer = self._trainer(school, options)
            if trainer.step == 0:
                trainer.seconds = time.monotonic() - started  # the first exam is part of the budget, too
            self._epochs(trainer, school, board)
        finally:
            board.close()
            school.close()
        return self._result(trainer.seconds, school)

    def _options(self) -> TrainOptions:
        recipe, budget, config = self.recipe, self.budget, self.model.config
        return TrainOptions(
            steps=None if budget.minutes else self._steps_per_epoch() * recipe.epochs,
            minutes=budget.minutes,
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

    def _trainer(self, school: School, options: TrainOptions) -> Trainer[SAM2]:
        self.model.compute_dtype = None  # the loop's autocast decides
        return Trainer(
            self.model,
            school.play,
            options,
            self.out,
            accelerator=self.accelerator,
            about_step=school.about_step,
            make_room=school.make_room,
            bar=self.witness.each_step is None,
        )

    def _epochs(self, trainer: Trainer[SAM2], school: School, board: Board) -> None:
        """Train, examine, keep the best, until the budget ends or nothing gets better any more."""
        history, per_epoch = self.history, self._steps_per_epoch()
        history.drop_after(trainer.step)

        def watch(step: int, figures: dict[str, float]) -> None:
            board.add("training", step, figures)
            self.witness.training(figures)

        trainer.watch, self.witness.trainer = watch, trainer
        while not history.stands_still(self.recipe.patience):
            if trainer.finished and trainer.step == (history.exams[-1]["step"] if history.exams else 0):
                break
            epoch = len(history.exams) + 1
            self.witness.training({})
            try:
                trainer.run(until=epoch * per_epoch)
            finally:
                self._note_room(school.room)
            self._end_epoch(epoch, trainer)
            board.add("held out", trainer.step, history.exams[-1])
            self.watch(history.exams[-1])
        if not history.exams:
            raise ValueError(
                f"the exam of the base model took {trainer.seconds:.0f} seconds, which is the whole budget of "
                f"{self.budget.minutes:g} minutes, so nothing was learnt; give more minutes"
            )

    def _end_epoch(self, epoch: int, trainer: Trainer[SAM2]) -> None:
        """Take the exam, and keep the weights if they are the best."""
        started = time.monotonic()
        exam = self._examine()
        trainer.seconds += time.monotonic() - started  # exams are part of the budget
        self.history.exams.append({"epoch": epoch, "step": trainer.step, "seconds": trainer.seconds, **exam})
        if self.history.latest_is_best:  # first the weights: the history must not know of any that are not there
            self._save({"before": self.history.before, "after": exam})
        self._write_history()

    def _examine(self) -> dict[str, float]:
        """The exam of the model as it is now, in the precision that it will be used in."""
        before, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        self.model.eval()
        self.witness.exam_begins()
        try:
            exam = self.exam.take(self.model, self.witness.exam_goes_on)
        finally:
            self.model.compute_dtype = before
        self.witness.exam_taken(exam)
        return exam

    def _general(self, model: SAM2) -> dict[str, float]:
        return general_knowledge(model, clips=bool(self.data.clips)) if self.budget.general else {}

    def _save(self, metrics: dict[str, Any]) -> None:
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
        after = {name: value for name, value in best.items() if name not in ABOUT_TIME}
        if self.budget.general:
            after |= self._general(load_model(self.out, self.accelerator.device, self.dtype))
        result = Result(
            self.out,
            self.recipe.name,
            self.history.before,
            after,
            int(best["epoch"]),
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
