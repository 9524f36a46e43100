"""One fine-tuning of a visitor: a thread that trains, and what a page shows of it at any time.

    FinetuneRun: its thread ---> train(plan, tell) ---> finetune(..., callbacks) ---> tell(event), ..., tell(end)
    on ZeroGPU:  its thread ---> a lent GPU's process, which trains in a thread and sends what is told through a queue

A plan and what is told are plain data, and a file ends a run, so the training may happen in another process than the
page. The engine is not imported before a visitor trains.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import numpy as np
import torch

from sam2kit.app.zero_gpu import GpuWork, is_zero_gpu
from sam2kit.data.opening import open_dataset
from sam2kit.hardware import is_out_of_memory
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.training.callbacks import DETECTION, EVALUATION, EVALUATION_BEFORE, TRAINING, Callback, TrainingEvent
from sam2kit.weights import choose_device, load_model

if TYPE_CHECKING:
    from sam2kit.training.training_report import Result

WAITING, LOADING, COMPARING = "waiting", "loading", "comparing"  # phases before and after those of the training
DONE, STOPPED, FAILED = "done", "stopped", "failed"  # that it ends with
MEASURES = {"click1": "1 click", "click3": "3 clicks", "click5": "5 clicks", "box": "box"}
PREDICTIONS = "predictions.jpg"
_CURVES = ("click1", "click3", "box")
_STATUS = {
    WAITING: "Waiting until another training has ended …",
    LOADING: "Loading the model …",
    EVALUATION_BEFORE: "Evaluating the model as it is: photo {photo} of {total} …",
    EVALUATION: "Evaluating the fine-tuned model: photo {photo} of {total} …",
    TRAINING: "Training: step {step}, {progress:.0%} of the time.",
    DETECTION: "Learning to find the objects without a click: step {photo} of {total} …",
    COMPARING: "Comparing on the held-out photos …",
}
_CURVE_POINTS = 150
_REACH = 2  # points of the loss curve to either side that one is the mean of
_ONE_AT_A_TIME = Lock()  # accelerate has one state for the whole process
_LOOK_AGAIN = 0.5  # seconds, while another training has its turn
_COMPARING_SHARE = 0.25  # of the minutes, as much time more at most
_SECONDS_AROUND = 40  # of a training on a lent GPU: to load models, and for the last evaluation


@dataclass(frozen=True)
class FinetunePlan:
    """What to fine-tune, and where the result goes."""

    base: str  # as for `load_model`
    data: Path  # a dataset with train and val; a run ends when it is gone
    out: Path  # a new folder
    recipe: str = "decoder"
    minutes: float = 2.0  # for evaluations and training together; the last evaluation may take a little longer
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
    side: int | None = None  # edge of the model's square, in pixels; None keeps the base's own

    @property
    def stop_file(self) -> Path:
        """As soon as it is there, the run ends and keeps the best so far."""
        return self.out.with_name(self.out.name + ".stop")

    def should_stop(self) -> bool:
        """Whether the run is to end."""
        return self.stop_file.exists() or not self.data.is_dir()


@dataclass(frozen=True)
class RunEnd:
    """The last thing that a run tells."""

    phase: str  # DONE, STOPPED or FAILED
    result: Result | None = None  # None: it was stopped before there was one, or failed
    error: str = ""  # a sentence


Tell = Callable[[TrainingEvent | RunEnd], None]
CarryOut = Callable[[FinetunePlan, Tell], None]


@dataclass
class _Follower(Callback):
    """Passes on what happens, and ends the training when the plan says so."""

    plan: FinetunePlan
    tell: Tell

    def on_event(self, event: TrainingEvent) -> None:
        self.tell(event)

    def should_stop(self) -> bool:
        return self.plan.should_stop()


def train(plan: FinetunePlan, tell: Tell) -> None:
    """Carry a plan out on this thread; `tell` hears of the training's events, and at last a RunEnd, come what may."""
    try:
        end = _ended(DONE, _finetuned(plan, tell))
    except KeyboardInterrupt:
        end = _left_by(plan)
    except Exception as error:  # a page must hear of it, whatever it is
        end = RunEnd(FAILED, error=_in_words(error))
    (plan.out / "checkpoint.pt").unlink(missing_ok=True)  # large, and no run goes on here
    _free_memory()
    if end.result is not None and plan.data.is_dir():
        tell(TrainingEvent(COMPARING))
        _draw_comparison(plan)
        _free_memory()
    tell(end)


def _finetuned(plan: FinetunePlan, tell: Tell) -> Result:
    while not _ONE_AT_A_TIME.acquire(timeout=_LOOK_AGAIN):
        tell(TrainingEvent(WAITING))
        if plan.should_stop():
            raise KeyboardInterrupt
    try:
        tell(TrainingEvent(LOADING))
        from sam2kit.training import finetune

        return finetune.finetune(
            plan.base, plan.data, plan.recipe, out=plan.out, callbacks=[_Follower(plan, tell)], minutes=plan.minutes,
            side=plan.side, device=plan.device, forgetting_check=False, pictures=0,
        )  # fmt: skip
    finally:
        _ONE_AT_A_TIME.release()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _in_words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"training needs {error.name}: pip install -r requirements.txt"
    if isinstance(error, (ValueError, OSError, HubError, FloatingPointError)):
        return str(error)
    if is_out_of_memory(error):
        return "the device has no memory left for training; take a smaller model"
    logging.getLogger(__name__).error("training broke off", exc_info=error)
    return f"training broke off ({type(error).__name__}: {error}); see the app's log"


def _draw_comparison(plan: FinetunePlan) -> None:
    """Write a picture of what the models before and after show after one click, on the held-out photos.

    On all of them that there is time for; on one, if the run was stopped.
    """
    from sam2kit.training.training_report import History, write_predictions

    try:
        device = choose_device(plan.device)
        models = load_model(plan.base, device, side=plan.side), load_model(plan.out, device)
        samples, rows = open_dataset(plan.data).of_split("val").samples, History.read(plan.out, {}).rows_of("best")
        before, after = map(ImagePredictor, models)
        end = time.monotonic() + 60 * plan.minutes * _COMPARING_SHARE

        def enough() -> bool:
            return plan.should_stop() or time.monotonic() > end

        write_predictions(plan.out / PREDICTIONS, samples, rows, before, after, count=len(samples), enough=enough)
    except Exception as error:  # there is a result all the same, unless its visitor has left
        if plan.data.is_dir():
            logging.getLogger(__name__).error("the models could not be compared", exc_info=error)


def _left_by(plan: FinetunePlan) -> RunEnd:
    """The end of a run that was stopped, or whose process was: with what there is in its folder."""
    from sam2kit.training.training_report import result_so_far

    return _ended(STOPPED, result_so_far(plan.out))


def _ended(phase: str, result: Result | None) -> RunEnd:
    if result is None:
        return RunEnd(phase)
    named = replace(result, folder=Path(result.folder.name))  # it travels; where it lay here says nothing then
    (result.folder / "result.md").write_text(named.text() + "\n", encoding="utf-8")
    return RunEnd(phase, named)


def trainer_of(model: SAM2) -> CarryOut:
    """Carries out plans on top of a model; on ZeroGPU on a GPU that is lent for as long as it is to last."""
    return partial(_train_on_lent_gpu, GpuWork.of(model)) if is_zero_gpu() else train


def _train_on_lent_gpu(gpu: GpuWork, plan: FinetunePlan, tell: Tell) -> None:
    seconds = round(60 * plan.minutes * (1 + _COMPARING_SHARE)) + _SECONDS_AROUND
    for event in gpu.run(seconds, _train_there, replace(plan, device="auto")):
        tell(event)


def _train_there(model: SAM2, plan: FinetunePlan) -> Iterator[TrainingEvent | RunEnd]:
    """In the GPU's process. The engine loads its own copy of the model; closing the iterator stops it."""
    events: SimpleQueue[TrainingEvent | RunEnd] = SimpleQueue()
    thread = Thread(target=train, args=(plan, events.put), daemon=True)
    thread.start()
    try:
        while True:
            event = events.get()
            yield event
            if isinstance(event, RunEnd):
                return
    finally:
        if thread.is_alive():
            with suppress(OSError):  # the visitor's folder is gone, which ends it, too
                plan.stop_file.touch()
        thread.join()


class FinetuneRun:
    """A training from its start to its end.

    Args:
        name: of the result.
        plan: what to train.
        carry_out: carries the plan out, here or elsewhere, and tells what happens; see `train`.
    """

    def __init__(self, name: str, plan: FinetunePlan, carry_out: CarryOut = train) -> None:
        self.name, self.plan, self._carry_out = name, plan, carry_out
        self.finished = Event()
        self.end: RunEnd | None = None
        self._now = TrainingEvent(LOADING)
        self._losses: list[tuple[float, float]] = []  # minutes, loss
        self._scores: list[tuple[float, dict[str, float]]] = []  # minutes, scores; the first is the base model's
        self._lock = Lock()

    def start(self) -> FinetuneRun:
        """Begin; returns itself."""
        # a thread with a context of its own would not know on whose behalf it asks for a GPU
        Thread(target=copy_context().run, args=(self._run,), name=f"fine-tune {self.name}", daemon=True).start()
        return self

    def stop(self) -> None:
        """Ask it to end after the current step, and to keep the best so far."""
        if not self.finished.is_set() and self.plan.stop_file.parent.is_dir():
            self.plan.stop_file.touch()

    @property
    def result(self) -> Result | None:
        """What came out; None as long as there is nothing, or if nothing was kept."""
        return self.end.result if self.end is not None else None

    @property
    def folder(self) -> Path | None:
        """Where the result is, for `load_model`; None as `result`."""
        return None if self.result is None else self.plan.out

    def status(self) -> str:
        """What happens, in a sentence or two."""
        with self._lock:
            now, scores, end = self._now, list(self._scores), self.end
        if end is not None:
            return _ending(end)
        if self.plan.stop_file.exists() and now.phase != COMPARING:
            return "Stopping after this step; the best so far is kept."
        total = max(now.total, 1)
        photo, step, progress = min(now.done + 1, total), now.step, now.progress
        status = _STATUS[now.phase].format(photo=photo, total=total, step=step, progress=progress)
        best = max((one for _, one in scores[1:]), key=lambda one: one["score"], default=None)
        return status if best is None else f"{status} {_one_click(scores[0][1], best)}"

    def curve(self) -> list[dict[str, float | str]]:
        """Points {"minutes", "value" 0..1, "measure"}: the loss as a share of its highest value, and held-out mIoU."""
        with self._lock:
            losses, scores = thinned(self._losses), list(self._scores)
        highest = max((loss for _, loss in losses), default=0.0) or 1.0
        points = [(at, loss / highest, "loss") for at, loss in losses]
        points += [(at, one[name], MEASURES[name]) for name in _CURVES for at, one in scores if name in one]
        return [{"minutes": at, "value": value, "measure": measure} for at, value, measure in points]

    def _run(self) -> None:
        try:
            self._carry_out(self.plan, self._tell)
            if self.end is None:  # the other process was ended
                self.end = _left_by(self.plan)
        except Exception as error:  # a GPU that is not lent, or was taken away
            self.end = replace(_left_by(self.plan), error=getattr(error, "message", None) or str(error))
        finally:
            self.finished.set()

    def _tell(self, event: TrainingEvent | RunEnd) -> None:
        with self._lock:
            if isinstance(event, RunEnd):
                self.end = event
                return
            self._now, minutes = event, event.seconds / 60
            if "loss" in event.figures:
                self._losses.append((minutes, event.figures["loss"]))
            if event.scores:
                self._scores.append((minutes, event.scores))


def thinned(losses: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A loss by time with at most 150 points, each loss a mean with those beside it."""
    values = np.array(losses, np.float64).reshape(-1, 2)
    parts = np.array_split(values, max(min(len(values), _CURVE_POINTS), 1)) if losses else []
    around = (np.concatenate(parts[max(i - _REACH, 0) : i + _REACH + 1]) for i in range(len(parts)))
    return [(float(own[:, 0].mean()), float(wide[:, 1].mean())) for own, wide in zip(parts, around, strict=True)]


def _ending(end: RunEnd) -> str:
    result = end.result
    if result is None:
        failed = f"Training failed: {end.error}."
        return failed if end.error else "Stopped before the first evaluation, so nothing was kept."
    minutes = f"{result.seconds / 60:.1f} minutes"
    begun = f"Stopped after {minutes}; the best so far is kept." if end.phase == STOPPED else f"Done: {minutes}."
    if not result.better:
        return f"{begun} On the held-out photos it is no better than before: keep using the model you had."
    return f"{begun} {_one_click(result.before, result.after)}"


def _one_click(before: dict[str, float], after: dict[str, float]) -> str:
    return f"Held-out photos, mIoU with one click: {before['click1']:.0%} before, {after['click1']:.0%} now."
