"""Fine-tune SAM 2 on your own pictures or clips: one call, numbers before and after, one folder that loads.

    result = finetune("sam2.1-hiera-tiny", "my_pictures", "lora", out="runs/mine", epochs=10)
    print(result.text())
    model = load_model("runs/mine")

The base model is evaluated on held-out samples first; then each epoch is followed by the same evaluation. The best
weights so far are in the folder at any time, so nothing is lost when a run is stopped, and the same call goes on with
it. A run that has ended goes on, too, when the same call gives it more epochs or minutes.

A budget of minutes holds everything: an evaluation takes an eighth of it at most, the forgetting check before and after
a sixteenth each, and between two evaluations there is three times as much training.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import Dataset
from sam2kit.data.splitting import content_keys, fingerprint
from sam2kit.evaluation.found_objects import evaluate_detection
from sam2kit.evaluation.reports import ObjectRow, means_of
from sam2kit.finetuned import FineTuning, add_detection_head, save_finetuned, this_environment, with_metrics
from sam2kit.finetuned import fingerprint as weights_fingerprint
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.detector import Detector
from sam2kit.predict.image import ImagePredictor
from sam2kit.processes import join_processes
from sam2kit.training.callbacks import (
    DETECTION,
    EVALUATION,
    EVALUATION_BEFORE,
    FORGETTING_CHECK,
    Callback,
    ProgressBar,
    TensorBoard,
    TrainingEvent,
    announce,
)
from sam2kit.training.configuration import TrainingConfig, recipe_named
from sam2kit.training.detection import classes_of, train_detection, worth_detecting
from sam2kit.training.memory_plan import MicroBatch, free_bytes, micro_batch_for
from sam2kit.training.trained_parameters import lora_pairs, plain_state
from sam2kit.training.trainer import MIXED_PRECISION, LoopOptions, Trainer, dtype_for_all
from sam2kit.training.training_report import (
    History,
    Result,
    about_held_out,
    intervals_of,
    notes_on,
    write_curves,
    write_predictions,
)
from sam2kit.training.training_step import KEPT_SHARE, FineTuningSteps, encoder_parameters
from sam2kit.training.validation import (
    Validation,
    forgetting_rows,
    forgetting_samples,
    held_out_means,
    held_out_rows,
    parts_of,
    some_of,
)
from sam2kit.weights import choose_device, load_model

_LEAST_STEPS = 25  # per epoch: a handful of pictures is gone through several times before the next evaluation
_EVALUATION_SHARE, _CHECK_SHARE = 1 / 8, 1 / 16  # of a budget of minutes, at most
_DETECTION_SHARE = 1 / 4  # of a budget of minutes, where objects are to be found; else as long as the masks took, or
_DETECTION_STEPS = 600  # at most
_LEAST_DETECTION = 1200.0  # so many seconds, if that is more
_TRAINING_PER_EVALUATION = 3.0  # as much time between two evaluations, at least, as one takes


def finetune(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset,
    recipe: str | TrainingConfig | None = None,
    *,
    out: str | os.PathLike[str],
    callbacks: Sequence[Callback] | None = None,
    **overrides: Any,
) -> Result:
    """Fine-tune a model and keep the best of it.

    Args:
        model: the base, as for `load_model`.
        data: a dataset, or what `open_dataset` opens.
        recipe: a name out of RECIPES or a configuration; None takes "memory" for clips and "lora" for pictures.
        out: folder for the result; a run that was interrupted there, or is to last longer than it did, goes on.
        callbacks: what follows the training and may end it; None shows progress bars.
        overrides: fields of the configuration to set anew, such as `epochs=3`; see `TrainingConfig.changed`.
    Raises:
        ValueError: if data, recipe and model do not fit together, or the minutes are over before the first step.
        FloatingPointError: if a loss is not a number; names the sample.
        KeyboardInterrupt: when stopped; the same call goes on.
    """
    data = data if isinstance(data, Dataset) else open_dataset(data)
    if not isinstance(recipe, TrainingConfig):
        recipe = recipe_named(recipe or ("memory" if data.clips else "lora"))
    run = _FineTuningRun(os.fspath(model), data, recipe.changed(**overrides), Path(out))
    return run.run([ProgressBar()] if callbacks is None else callbacks)


class _FineTuningRun:
    """One run, from the base model to the result."""

    def __init__(self, base: str, data: Dataset, config: TrainingConfig, out: Path) -> None:
        self.base, self.data, self.config, self.out = base, data, config, out
        self.accelerator, self.model = load_base(base, config)
        self.dtype = self.model.compute_dtype or torch.float32
        train, self.held_out = parts_of(data, overfit=config.overfit, held_out=config.held_out, seed=config.seed)
        config.check_fit(train, self.model)
        self.train = train.samples
        self.detects = worth_detecting(train) if config.detect is None else config.detect
        some = some_of(self.held_out, config.evaluated_samples, config.seed)
        self.validation = Validation(some, self.accelerator, held_out_rows)
        self.check = Validation([], self.accelerator, forgetting_rows)
        self.base_state = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        about = {"base": weights_fingerprint(self.base_state), "data": fingerprint(data)}
        self.history = History.read(out, about | config.identity())
        self.steps_per_epoch = max(math.ceil(len(self.train) / config.batch), _LEAST_STEPS)
        self.trainer: Trainer | None = None
        self.seconds = 0.0  # that the evaluation of the base took

    def run(self, callbacks: Sequence[Callback]) -> Result:
        """Evaluation, training with evaluations, result."""
        self.started = time.monotonic()
        self.callbacks = [*callbacks, TensorBoard(self.out)] if self.accelerator.is_main_process else []
        try:
            return self._run()
        finally:
            for callback in self.callbacks:
                callback.close()

    def _run(self) -> Result:
        config, history = self.config, self.history
        if config.forgetting_check:
            self.check.samples = forgetting_samples(clips=bool(self.data.clips) and self.model.memory_is_trained)
        if not history.before:
            self._evaluate_base()
        elif "held out" in history.evaluated:
            self.validation.only(history.evaluated["held out"])
            self.check.only(history.evaluated["forgetting"] or [s.name for s in self.check.samples])
        self.seen = {"training": content_keys(self.train), "validation": content_keys(self.validation.samples)}
        history.notes = notes_on(self.data, self.held_out, config.overfit, self.model, self.seen)
        options = self._loop_options()
        torch.manual_seed(config.seed)  # LoRA begins at random, and alike on all processes
        config.prepare(self.model)
        if self.detects or any(p.requires_grad for p in encoder_parameters(self.model)):
            self.model.set_classes(())  # the base's head, if there is one, only knows the base's features
        if history.micro_batch:  # a run that goes on takes the same: with another one it would be another training
            size = MicroBatch(**history.micro_batch)
        else:
            size = micro_batch_for(self.model, config, self.train, self.accelerator)
        history.micro_batch = asdict(size)
        self._write_history()
        steps = FineTuningSteps(self.model, self.train, config, size, self.accelerator)
        try:
            self.model.compute_dtype = None  # the loop's autocast decides
            self.trainer = trainer = Trainer(
                self.model,
                steps.training_step,
                options,
                self.out,
                self.accelerator,
                callbacks=self.callbacks,
                describe=steps.describe,
                shrink=steps.shrink,
            )
            if trainer.step == 0:
                trainer.seconds = time.monotonic() - self.started  # what came before is part of the budget, too
            self._epochs(trainer, steps)
        finally:
            steps.close()
        return self._result(trainer.seconds, steps)

    def _loop_options(self) -> LoopOptions:
        """With a budget of minutes, what the end will take is left free."""
        minutes, seconds = self.config.minutes, self.history.seconds
        if minutes is not None and self.detects:
            minutes *= 1 - _DETECTION_SHARE
        if minutes is not None:  # the end may have as much as it takes, but half of what the evaluation has left
            left = 60 * minutes - seconds.get("held out", 0.0) - seconds.get("forgetting", 0.0)
            at_the_end = min(sum(seconds.values()), max(left, 0.0) / 2)
            minutes = max(minutes - at_the_end / 60, minutes / 100)
        return self.config.loop_options(self.model.config, self.steps_per_epoch, minutes)

    def _epochs(self, trainer: Trainer, steps: FineTuningSteps) -> None:
        """Train, evaluate, keep the best, until the budget ends or nothing gets better any more."""
        history = self.history
        history.drop_after(trainer.step)
        self.began = trainer.seconds
        while not history.stands_still(self.config.patience):
            last = history.evaluations[-1] if history.evaluations else {"epoch": 0, "step": 0}
            if trainer.finished and trainer.step == last["step"]:
                break
            epoch = int(last["epoch"]) + 1
            try:
                trainer.run(until=epoch * self.steps_per_epoch)
                while not self._worth_an_evaluation(trainer):
                    epoch += 1
                    trainer.run(until=epoch * self.steps_per_epoch)
            finally:
                history.micro_batch = asdict(steps.micro_batch)
                self._write_history()
            self._end_epoch(epoch, trainer)
        if not history.evaluations:
            raise ValueError(
                f"the evaluation of the base model took {trainer.seconds:.0f} seconds, and the last one needs as long: "
                f"the whole budget of {self.config.minutes:g} minutes, so nothing was trained; give more minutes"
            )

    def _worth_an_evaluation(self, trainer: Trainer) -> bool:
        """Whether there was enough training since the last one: a budget of minutes is for training."""
        if self.config.minutes is None or trainer.finished:
            return True
        last = self.history.evaluations[-1]["seconds"] if self.history.evaluations else self.began
        return trainer.seconds - last >= _TRAINING_PER_EVALUATION * self.history.seconds["held out"]

    def _end_epoch(self, epoch: int, trainer: Trainer) -> None:
        """Evaluate, and keep the weights if they are the best."""
        history, rows = self.history, self._evaluate(self.validation, EVALUATION, epoch)
        history.seconds["held out"] = self.validation.seconds
        scores = held_out_means(rows)
        history.evaluations.append({"epoch": epoch, "step": trainer.step, "seconds": trainer.seconds, **scores})
        if history.latest_is_best:  # first the weights: the history must not know of any that are not there
            history.rows["best"] = [row.as_dict() for row in rows]
            self._save(history.result(self.out, trainer.seconds).metrics)
        self._write_history()
        if self.accelerator.is_main_process:
            write_curves(history, self.out / "curves.png")
        self._announce(EVALUATION, epoch, scores=scores, saved=history.latest_is_best)

    def _evaluate_base(self) -> None:
        """Scores of the base model, and the forgetting check; as many samples as the budget has time for."""
        history, seconds = self.history, 60 * (self.config.minutes or 0)
        limit = seconds * _EVALUATION_SHARE or None
        rows = self._evaluate(self.validation, EVALUATION_BEFORE, limit=limit, kept="held out")
        history.before = held_out_means(rows)
        self._announce(EVALUATION_BEFORE, scores=dict(history.before))
        history.about_held_out = about_held_out(self.validation.samples, self.held_out, len(rows))
        if self.check.samples:
            limit = seconds * _CHECK_SHARE or None
            checked = self._evaluate(self.check, FORGETTING_CHECK, limit=limit, kept="general")
            history.before |= means_of(checked)
            self._announce(FORGETTING_CHECK, scores=means_of(checked))
            rows = rows + checked
        history.rows["before"] = [row.as_dict() for row in rows]
        both = {"held out": self.validation, "forgetting": self.check}
        history.evaluated = {name: [sample.name for sample in one.samples] for name, one in both.items()}
        history.seconds = {name: one.seconds for name, one in both.items()}
        shown = min(1, self.config.pictures / len(self.validation.samples))
        history.seconds["pictures"] = self.validation.seconds * shown
        self._write_history()

    def _evaluate(
        self, validation: Validation, phase: str, epoch: int = 0, *, limit: float | None = None, kept: str = ""
    ) -> list[ObjectRow]:
        """Scores of the model as it is now, in the precision of its later use; a base's are `kept` under a name."""
        before, self.model.compute_dtype = self.model.compute_dtype, self.dtype
        clock = self.trainer or self
        spent, started = clock.seconds, time.monotonic()
        self.model.eval()

        def goes_on(done: int, total: int) -> None:
            clock.seconds = spent + time.monotonic() - started  # evaluations are part of the budget
            self._announce(phase, epoch, done=done, total=total)

        try:
            rows = validation.evaluate(self.model, goes_on, limit=limit, kept=kept)
        finally:
            self.model.compute_dtype = before
        clock.seconds = spent + time.monotonic() - started
        return rows

    def _announce(self, phase: str, epoch: int = 0, **content: Any) -> None:
        """Tell the callbacks; if one wants to stop, do: several processes finish an evaluation, as they wait for it."""
        step, seconds = (self.trainer.step, self.trainer.seconds) if self.trainer else (0, self.seconds)
        options = self.trainer.options if self.trainer else self._loop_options()
        event = TrainingEvent(phase, step, seconds, options.progress(step, seconds), epoch, **content)
        if announce(self.callbacks, event) and self.accelerator.num_processes == 1:
            raise KeyboardInterrupt

    def _save(self, metrics: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        about = FineTuning(
            base=self.base,
            recipe=asdict(self.config),
            data={
                "format": self.data.format,
                "name": self.data.path.name,
                "fingerprint": self.history.identity["data"],
                "training": len(self.train),
                "held_out": len(self.validation.samples),
                "held_out_words": self.history.about_held_out,
                "notes": self.history.notes,
                "seen": self.seen,
            },
            metrics=metrics,
            environment=this_environment(self.accelerator.device),
            seed=self.config.seed,
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

    def _write_history(self) -> None:
        if self.accelerator.is_main_process:
            self.history.write(self.out)

    def _result(self, seconds: float, steps: FineTuningSteps) -> Result:
        """Check what the best model has forgotten, and complete the result."""
        config = self.config
        self.accelerator.wait_for_everyone()
        skipped = set().union(*gather_object([steps.skipped | self.validation.skipped]))
        result = self.history.result(self.out, seconds, sorted(skipped))
        assert self.trainer is not None, "the masks were trained"
        still = self.history.stands_still(config.patience) and not self.trainer.finished
        result = replace(result, stood_still=still)
        best = load_model(self.out, self.accelerator.device, self.dtype, trainable=True)  # to compare like with like
        if self.check.samples:
            self.model = best
            checked = self._evaluate(self.check, FORGETTING_CHECK)
            self._announce(FORGETTING_CHECK, scores=means_of(checked))
            rows = self.history.rows_of("best") + checked
            known = intervals_of(self.history.rows_of("before"), rows)
            result = replace(result, after=result.after | means_of(checked), intervals=known)
        if self.accelerator.is_main_process:
            if self.detects:
                result = replace(result, found=self._detection(best, seconds))
            with_metrics(self.out, result.metrics)
            (self.out / "result.md").write_text(result.text() + "\n")
            if config.pictures:
                base = load_model(self.base, best.device, self.dtype, side=config.side, trainable=True)
                both = ImagePredictor(base), ImagePredictor(best)
                rows, path = self.history.rows_of("best"), self.out / "predictions.jpg"
                end = time.monotonic() + (60 * config.minutes * _CHECK_SHARE if config.minutes else math.inf)
                count, samples = config.pictures, self.validation.samples
                write_predictions(path, samples, rows, *both, count=count, enough=lambda: time.monotonic() > end)
        return result

    def _detection(self, best: SAM2, seconds: float) -> dict[str, float]:
        """Let the best model learn to find objects; what it finds on held-out samples, see `figures_of`."""
        minutes, clock = self.config.minutes, self.trainer
        assert clock is not None, "the masks were trained"
        limit = 60 * minutes * _DETECTION_SHARE if minutes is not None else max(seconds, _LEAST_DETECTION)
        most_bytes = KEPT_SHARE * free_bytes(torch.device("cpu"), self.accelerator)

        def progress(done: int, total: int) -> None:
            self._announce(DETECTION, done=done, total=total)

        classes = classes_of(self.train)
        train_detection(
            best,
            self.train,
            classes,
            seed=self.config.seed,
            seconds=0.8 * limit,
            steps=_DETECTION_STEPS,
            most_bytes=most_bytes,
            progress=progress,
        )
        add_detection_head(self.out, best)
        end, samples = time.monotonic() + 0.2 * limit, self.validation.samples
        report = evaluate_detection(Detector(best), samples, enough=lambda: time.monotonic() > end)
        return dict(report.totals) | {"pictures": float(len({row.sample for row in report.rows}))}


def load_base(base: str, config: TrainingConfig) -> tuple[Accelerator, SAM2]:
    """The processes, and the base model on this one's device."""
    device = choose_device(config.device)
    dtype = dtype_for_all(config.precision, device)
    accelerator = join_processes(device=device, mixed_precision=MIXED_PRECISION[dtype])
    return accelerator, load_model(base, accelerator.device, dtype, side=config.side, trainable=True)
