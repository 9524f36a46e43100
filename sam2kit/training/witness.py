"""Somebody who watches a training, step by step, and may end it: a page with a curve and a Stop button."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that the names of the phases come without accelerate
    from accelerate import Accelerator

    from sam2kit.model.sam2 import SAM2
    from sam2kit.training.trainer import Trainer, TrainOptions

EXAM_BEFORE, TRAINING, EXAM = "exam before", "training", "exam"  # phases


@dataclass
class Witness:
    """Tells what happens on the main process, and asks there whether to stop.

    Args:
        each_step: called with each event, see `finetune`.
        stop: asked after each event.
        accelerator: the processes.
        options: say how far the training is.
    """

    each_step: Callable[[dict[str, Any]], None] | None
    stop: Callable[[], bool]
    accelerator: Accelerator
    options: TrainOptions
    trainer: Trainer[SAM2] | None = None  # from the first step on
    _since: float = field(default_factory=time.monotonic)

    def training(self, figures: dict[str, float]) -> None:
        """After a step, or without figures before the first of an epoch; asks the trainer to end."""
        assert self.trainer is not None, "there is no step without a trainer"
        self._tell(TRAINING, self.trainer.seconds, figures)
        if self.stop():
            self.trainer.stop()

    def exam_begins(self) -> None:
        """From here on, time counts as the exam's."""
        self._since = time.monotonic()

    def exam_goes_on(self, done: int, of: int) -> None:
        """Before each sample of an exam, of which so many are done.

        Raises:
            KeyboardInterrupt: if it is to stop. Several processes finish the exam first: they wait for each other.
        """
        self._tell_of_exam({"done": done, "of": of})
        if self.accelerator.num_processes == 1 and self.stop():
            raise KeyboardInterrupt

    def exam_taken(self, exam: dict[str, float]) -> None:
        """When an exam is over."""
        self._tell_of_exam({"exam": exam})

    def _tell_of_exam(self, figures: dict[str, Any]) -> None:
        seconds = time.monotonic() - self._since + (self.trainer.seconds if self.trainer else 0.0)
        self._tell(EXAM if self.trainer else EXAM_BEFORE, seconds, figures)

    def _tell(self, phase: str, seconds: float, figures: dict[str, Any]) -> None:
        if self.each_step is not None and self.accelerator.is_main_process:
            step = self.trainer.step if self.trainer else 0
            where = {"step": step, "seconds": seconds, "progress": self.options.progress(step, seconds)}
            self.each_step({**figures, "phase": phase, **where})
