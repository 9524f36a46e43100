"""Callbacks: objects that follow a training, to show it, store it or end it.

    class Printer(Callback):
        def on_event(self, event):
            print(event.phase, event.step, event.figures or event.scores)

    finetune("nano", "my_pictures", out="mine", callbacks=[Printer()])

They are called on the main process, on the thread that trains. A page puts the events into a queue and answers
`should_stop` when its Stop button is pressed; progress bars and TensorBoard files are callbacks, too. Nothing heavy is
imported, so that a page has the names of the phases before a training begins.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

EVALUATION_BEFORE, TRAINING, EVALUATION = "evaluation before", "training", "evaluation"  # phases
FORGETTING_CHECK = "forgetting check"  # before and after, on other data than the user's
DETECTION = "learning to find objects"  # after the training of the masks


@dataclass(frozen=True)
class TrainingEvent:
    """Something that happened."""

    phase: str  # EVALUATION_BEFORE (of the base model), TRAINING, EVALUATION, FORGETTING_CHECK, DETECTION
    step: int = 0  # steps taken so far
    seconds: float = 0.0  # of the time that counts for a budget of minutes
    progress: float = 0.0  # 0..1
    epoch: int = 0  # that is evaluated
    figures: dict[str, float] = field(default_factory=dict)  # of a step: "loss", its terms, ...; empty as a part begins
    # samples that are evaluated, of this process's `total`; an event comes before each. Of DETECTION, steps
    done: int = 0
    total: int = 0
    scores: dict[str, float] = field(default_factory=dict)  # when an evaluation is over: "score", its measures, ...
    saved: bool = False  # then: these weights are the best so far, and in the folder


class Callback:
    """Follows a training. Subclass it and override what you need."""

    def on_event(self, event: TrainingEvent) -> None:
        """After each step, before each evaluated sample, and when an evaluation is over."""

    def should_stop(self) -> bool:
        """Asked after each event; True ends the training as Ctrl-C does. Several processes end an evaluation first."""
        return False

    def close(self) -> None:
        """When the training is over, however it ended."""


def announce(callbacks: Iterable[Callback], event: TrainingEvent) -> bool:
    """Tell every callback; returns whether one of them wants to stop."""
    stops = False
    for callback in callbacks:
        callback.on_event(event)
        stops = callback.should_stop() or stops
    return stops


class EventLog(Callback):
    """Keeps all events, for a notebook."""

    def __init__(self) -> None:
        self.events: list[TrainingEvent] = []

    def on_event(self, event: TrainingEvent) -> None:
        """Add it to the list."""
        self.events.append(event)


class ProgressBar(Callback):
    """A bar in the terminal for each part of the training."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._part = ""  # that the bar is for

    def on_event(self, event: TrainingEvent) -> None:
        """Move the bar on; begin a new one for another part."""
        if event.phase == TRAINING:
            self._show("training", 100, round(100 * event.progress, 2), "%", event.figures)
        elif event.total:
            words = {EVALUATION: f"evaluating epoch {event.epoch}", EVALUATION_BEFORE: "evaluating the base model"}
            unit = "step" if event.phase == DETECTION else "sample"
            self._show(words.get(event.phase, event.phase), event.total, event.done, unit, {})
        elif event.scores and self._bar is not None:
            self._bar.update(self._bar.total - self._bar.n)
            self.close()

    def _show(self, part: str, total: int, done: float, unit: str, figures: dict[str, float]) -> None:
        if self._bar is None or part != self._part:
            self.close()
            self._part, self._bar = part, tqdm(total=total, initial=done, desc=part, unit=unit)
        if figures:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
        self._bar.total = total  # of a limit of time it is guessed
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar that is there."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TensorBoard(Callback):
    """Files for TensorBoard in the `tensorboard` folder of a run's folder, if tensorboard is installed."""

    def __init__(self, folder: Path) -> None:
        self._writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            warnings.warn("no TensorBoard files are written: pip install tensorboard")
        else:
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def on_event(self, event: TrainingEvent) -> None:
        """Add the figures of a step, or the scores of an epoch."""
        scores = event.scores if event.phase == EVALUATION else {}
        for group, values in (("training", event.figures), ("held out", scores)):
            for name, value in values.items():
                if self._writer is not None:
                    self._writer.add_scalar(f"{group}/{name}", value, event.step)

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()
