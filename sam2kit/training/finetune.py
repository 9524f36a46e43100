"""Fine-tune SAM 2 on somebody's own pictures or clips: one call, numbers before and after, one folder that loads.

    result = finetune("sam2.1-hiera-tiny", "my_pictures", recipe="lora", out="runs/mine")
    print(result.text())
    model = load_model("runs/mine")

The base model takes the exam on held-out samples first; then each epoch is followed by the same exam. The best weights
so far are in the folder at any time, so nothing is lost when a run is stopped, and the same call goes on with it. A run
that has ended goes on, too, when the same call gives it more epochs or minutes.

A budget of minutes holds everything: an exam takes an eighth of it at most, the forgetting check before and after a
sixteenth each, and between two exams there is three times as much training.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from sam2kit.datasets.fingerprint import content_keys, fingerprint
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.samples import Dataset
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.finetuned import FineTuning, save_finetuned, this_environment, with_metrics
from sam2kit.finetuned import fingerprint as weights_fingerprint
from sam2kit.model.sam2 import SAM2
from sam2kit.training.budget import Budget
from sam2kit.training.exams import Exam, general_rows, general_samples, held_out_rows, means_of, plain_means
from sam2kit.training.kept_scores import KeptScores
from sam2kit.training.lora import lora_pairs, plain_state
from sam2kit.training.predictions import write_predictions
from sam2kit.training.preparation import (
    about_held_out,
    check_fit,
    choose_recipe,
    load_base,
    notes_on,
    parts_of,
    prepare,
    room_for,
    some_of,
    train_options,
)
from sam2kit.training.recipes import Recipe
from sam2kit.training.report import Board, History, Result, intervals_of, result_of, write_curves
from sam2kit.training.room import Room
from sam2kit.training.school import School
from sam2kit.training.trainer import Trainer, TrainOptions
from sam2kit.training.witness import Witness
from sam2kit.weights import load_model

_LEAST_STEPS = 25  # per epoch: a handful of pictures is gone through several times before the next exam
_EXAM_SHARE, _GENERAL_SHARE = 1 / 8, 1 / 16  # of a budget of minutes, at most
_TRAINING_PER_EXAM = 3.0  # as much time between two exams, at least, as an exam takes


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
        out: folder for the result; if a run was interrupted there, or is to last longer than it did, this goes on with
            it.
        budget: how long, how much, where.
        watch: called with each exam: {"epoch", "step", "seconds", "score", ...}; raising KeyboardInterrupt stops.
        each_step: called on the main process with whatever happens: {"phase", "step", "seconds", "progress" 0..1} and
            in the phase "training", once when it begins, and after each step with "loss" and its terms; in "exam
            before" (the base model's) and "exam", before each sample, how many are "done" "of" all, and in the end
            {"exam": {"score", ...}}. Who gives one sees no progress bars.
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
        self.dtype = self.model.compute_dtype or torch.float32
        learnt, held_out = parts_of(self.data, budget)
        check_fit(self.recipe, learnt, self.model)
        self.learnt = learnt.samples
        some = some_of(held_out, budget.exam_samples, budget.seed)
        self.exam = Exam(some, self.accelerator, held_out_rows)
        self.general = Exam([], self.accelerator, general_rows)
        self.held_out = held_out
        self.base_state = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        self.data_fingerprint = fingerprint(self.data)
        about: dict[str, Any] = {"base": weights_fingerprint(self.base_state), "data": self.data_fingerprint}
        about |= {"recipe": self.recipe.identity(), "budget": budget.identity()}
        self.history = History.read(out, about)

    def run(self, each_step: Callable[[dict[str, Any]], None] | None, stop: Callable[[], bool]) -> Result:
        """Exam, training with exams, result."""
        started = time.monotonic()
        self.witness = Witness(each_step, stop, self.accelerator, self._options())
        self.exam.bar = self.general.bar = each_step is None
        if self.budget.general:
            self.general.samples = general_samples(clips=bool(self.data.clips) and self.model.memory_is_trained)
        if not self.history.before:
            self._examine_base()
        elif "held out" in self.history.evaluated:
            self.exam.only(self.history.evaluated["held out"])
            self.general.only(self.history.evaluated["general"] or [s.name for s in self.general.samples])
        self.seen = {"training": content_keys(self.learnt), "validation": content_keys(self.exam.samples)}
        self.history.notes = notes_on(self.data, self.held_out, self.budget, self.model, self.seen)
        options = self._options()
        torch.manual_seed(self.budget.seed)  # low-rank changes begin at random, and alike on all processes
        prepare(self.model, self.recipe)
        kept = self.history.room
        room = Room(**kept) if kept else room_for(self.model, self.recipe, self.learnt, self.accelerator)
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
        """With a budget of minutes, what the end will take is left free."""
        seconds = self.history.seconds
        at_the_end = sum(seconds.values())
        if self.budget.minutes:  # but not more than half of what the base's evaluation has left
            left = 60 * self.budget.minutes - seconds.get("held out", 0.0) - seconds.get("general", 0.0)
            at_the_end = min(at_the_end, max(left, 0.0) / 2)
        return train_options(self.recipe, self.budget, self.model.config, self._steps_per_epoch(), at_the_end)

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
        self.began = trainer.seconds

        def watch(step: int, figures: dict[str, float]) -> None:
            board.add("training", step, figures)
            self.witness.training(figures)

        trainer.watch, self.witness.trainer = watch, trainer
        while not history.stands_still(self.recipe.patience):
            if trainer.finished and trainer.step == (history.exams[-1]["step"] if history.exams else 0):
                break
            epoch = int(history.exams[-1]["epoch"]) + 1 if history.exams else 1
            self.witness.training({})
            try:
                trainer.run(until=epoch * per_epoch)
                while not self._worth_an_exam(trainer):
                    epoch += 1
                    trainer.run(until=epoch * per_epoch)
            finally:
                self._note_room(school.room)
            self._end_epoch(epoch, trainer)
            board.add("held out", trainer.step, history.exams[-1])
            self.watch(history.exams[-1])
        if not history.exams:
            raise ValueError(
                f"the exam of the base model took {trainer.seconds:.0f} seconds, and the last one needs as long: the "
                f"whole budget of {self.budget.minutes:g} minutes, so nothing was learnt; give more minutes"
            )

    def _worth_an_exam(self, trainer: Trainer[SAM2]) -> bool:
        """Whether there was enough training since the last exam: a budget of minutes is for learning."""
        if self.budget.minutes is None or trainer.finished:
            return True
        last = self.history.exams[-1]["seconds"] if self.history.exams else self.began
        return trainer.seconds - last >= _TRAINING_PER_EXAM * self.history.seconds["held out"]

    def _end_epoch(self, epoch: int, trainer: Trainer[SAM2]) -> None:
        """Take the exam, and keep the weights if they are the best."""
        started, history = time.monotonic(), self.history
        rows = self._examine(self.exam, f"evaluating epoch {epoch}")
        trainer.seconds += time.monotonic() - started  # exams are part of the budget
        history.seconds["held out"] = self.exam.seconds
        history.exams.append({"epoch": epoch, "step": trainer.step, "seconds": trainer.seconds, **means_of(rows)})
        if history.latest_is_best:  # first the weights: the history must not know of any that are not there
            history.rows["best"] = [row.as_dict() for row in rows]
            self._save(result_of(history, self.out, trainer.seconds).metrics)
        self._write_history()

    def _examine_base(self) -> None:
        """The exam of the base model, and the forgetting check; as many samples as the budget has time for."""
        history, seconds = self.history, 60 * (self.budget.minutes or 0)
        rows = self._examine(self.exam, "evaluating the base model", seconds * _EXAM_SHARE or None, "held out")
        history.before = means_of(rows)
        if self.general.samples:
            general = self._examine(self.general, "forgetting check", seconds * _GENERAL_SHARE or None, "general")
            history.before |= plain_means(general)
            rows = rows + general
        history.rows["before"] = [row.as_dict() for row in rows]
        exams = {"held out": self.exam, "general": self.general}
        history.evaluated = {name: [sample.name for sample in exam.samples] for name, exam in exams.items()}
        history.seconds = {name: exam.seconds for name, exam in exams.items()}
        history.seconds["pictures"] = self.exam.seconds * min(1, self.budget.pictures / len(self.exam.samples))
        history.about_held_out = about_held_out(self.exam.samples, self.held_out, int(history.before["objects"]))
        self._write_history()

    def _examine(self, exam: Exam, words: str, limit: float | None = None, kept: str | None = None) -> list[ObjectRow]:
        """An exam of the model as it is now, in the precision that it will be used in.

        Args:
            limit: seconds.
            kept: names the measures of the base model, whose scores are kept on disk.
        """
        before, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        self.model.eval()
        own = exam is self.exam
        if own:
            self.witness.exam_begins()
        scores = KeptScores(self.model, kept) if kept else None
        goes_on = self.witness.exam_goes_on if own else lambda done, of: None
        try:
            rows = exam.rows(self.model, goes_on, words=words, limit=limit, kept=scores)
        finally:
            self.model.compute_dtype = before
            if scores is not None:
                scores.write()
        if own:
            self.witness.exam_taken(means_of(rows))
        return rows

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
                "held_out_words": self.history.about_held_out,
                "notes": self.history.notes,
                "seen": self.seen,
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
        skipped = sorted({name for names in gather_object([school.skipped | self.exam.skipped]) for name in names})
        result = result_of(self.history, self.out, seconds, skipped)
        best = load_model(self.out, self.accelerator.device, self.dtype, trainable=True)  # to compare like with like
        if self.general.samples:
            general = self.general.rows(best, words="forgetting check")
            rows = self.history.rows_of("best") + general
            known = intervals_of(self.history.rows_of("before"), rows)
            result = replace(result, after=result.after | plain_means(general), intervals=known)
        if self.accelerator.is_main_process:
            with_metrics(self.out, result.metrics)
            (self.out / "result.md").write_text(result.text() + "\n")
            if self.budget.pictures:
                self._write_predictions(best)
        return result

    def _write_predictions(self, best: SAM2) -> None:
        side = self.budget.side
        base = load_model(self.base, self.accelerator.device, self.dtype, side=side, trainable=True)
        rows, path, count = self.history.rows_of("best"), self.out / "predictions.jpg", self.budget.pictures
        limit = 60 * self.budget.minutes * _GENERAL_SHARE if self.budget.minutes else None
        write_predictions(self.exam.samples, rows, base, best, path, count=count, limit=limit)

    def _steps_per_epoch(self) -> int:
        return max(math.ceil(len(self.learnt) / self.recipe.batch), _LEAST_STEPS)
