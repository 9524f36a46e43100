"""One training of a visitor: a thread that follows its events, and what a page shows of them at any time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from contextvars import copy_context
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from sam2kit.teaching import (
    DONE,
    EXAM,
    EXAM_BEFORE,
    FAILED,
    LOADING,
    STOPPED,
    TRAINING,
    WAITING,
    TeachPlan,
    left_by,
    train_events,
)

Events = Callable[[TeachPlan], Generator[dict[str, Any], None, None]]

_BINS = 100  # of the loss curve, at most twice as many
_REACH = 2  # bins to either side that a point of the curve is the mean of
MEASURES = {"click1": "1 click", "click3": "3 clicks", "click5": "5 clicks", "box": "box"}
_CURVES = ("click1", "click3", "box")
_WORDS = {
    WAITING: "Waiting until another training has ended …",
    LOADING: "Loading the model …",
    EXAM_BEFORE: "Evaluating the model as it is: photo {photo} of {of} …",
    EXAM: "Evaluating the fine-tuned model: photo {photo} of {of} …",
    TRAINING: "Training: step {step}, {progress:.0%} of the time.",
}


class TeachRun:
    """A training from its start to its end.

    Args:
        name: of the result.
        plan: what to teach.
        events: carries the plan out, here or elsewhere, and tells what happens; see `train_events`.
    """

    def __init__(self, name: str, plan: TeachPlan, events: Events = train_events) -> None:
        self.name, self.plan, self._events = name, plan, events
        self.finished = Event()
        self.error: str | None = None  # a sentence
        self.before: dict[str, float] = {}  # the base model's measures
        self.after: dict[str, float] = {}  # of the best so far, once the run has ended
        self._now: dict[str, Any] = {"phase": WAITING}
        self._losses = LossCurve()
        self._exams: list[tuple[float, dict[str, float]]] = []  # minutes and measures; the first is the base model's
        self._stopping, self._lock = False, Lock()
        # a thread of our own would not know on whose behalf it asks for a GPU
        self._thread = Thread(target=copy_context().run, args=(self._follow,), name=f"teach {name}", daemon=True)

    def start(self) -> TeachRun:
        """Begin; returns itself."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ask it to end after the current step, and to keep the best so far."""
        if not self.finished.is_set() and self.plan.stop_file.parent.is_dir():
            self._stopping = True
            self.plan.stop_file.touch()

    @property
    def folder(self) -> Path | None:
        """Where the result is, for `load_model`; None as long as there is none, or if none was kept."""
        return self.plan.out if self.after else None

    @property
    def phase(self) -> str:
        """One of `teaching.PHASES`."""
        return self._now["phase"]

    @property
    def progress(self) -> float:
        """Share of the time that is used up, 0..1."""
        return 1.0 if self.finished.is_set() else self._now.get("progress", 0.0)

    def says(self) -> str:
        """What happens, in a sentence or two."""
        with self._lock:
            now, exams = self._now, list(self._exams)
        if self.finished.is_set():
            return self._ending(now)
        if self._stopping:
            return "Stopping after this step; the best so far is kept."
        photo = min(now.get("done", -1) + 1, now.get("of", 0)) or now.get("of", 1)
        words = _WORDS[now["phase"]].format(**{"of": 1, "step": 0, "progress": 0.0, **now, "photo": photo})
        return f"{words} {_best_so_far(exams)}".strip()

    def curve(self) -> list[dict[str, float | str]]:
        """Points {"minutes", "value" 0..1, "measure"}: the loss as a share of its highest value, and mIoU in exams."""
        with self._lock:
            losses, exams = self._losses.points(), list(self._exams)
        highest = max((loss for _, loss in losses), default=0.0) or 1.0
        rows: list[dict[str, float | str]] = [
            {"minutes": at, "value": loss / highest, "measure": "loss"} for at, loss in losses
        ]
        for name in _CURVES:
            measure = MEASURES[name]
            rows += [{"minutes": at, "value": exam[name], "measure": measure} for at, exam in exams if name in exam]
        return rows

    def _follow(self) -> None:
        try:
            with closing(self._events(self.plan)) as events:
                for event in events:
                    self._take(event)
            if self.phase not in (DONE, STOPPED, FAILED):
                self._take(left_by(self.plan))
        except Exception as error:  # of what carries the events: a GPU that is not lent, or was taken away
            self.error = getattr(error, "message", None) or str(error)
            self._take(left_by(self.plan))
        finally:
            self.finished.set()

    def _take(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._now = event
            minutes = event.get("seconds", 0.0) / 60
            if "loss" in event:
                self._losses.add(minutes, event["loss"])
            if "exam" in event:
                self._exams.append((minutes, event["exam"]))
            if event["phase"] in (DONE, STOPPED):
                self.before, self.after = event.get("before", {}), event.get("after", {})
            if event["phase"] == FAILED:
                self.error = event["error"]

    def _ending(self, last: dict[str, Any]) -> str:
        if self.error is not None and not self.after:
            return f"Training failed: {self.error}."
        if not self.after:
            return "Stopped before the first evaluation, so nothing was kept."
        minutes = f"{last['seconds'] / 60:.1f} minutes"
        begun = (
            f"Stopped after {minutes}; the best so far is kept." if last["phase"] == STOPPED else f"Done: {minutes}."
        )
        if self.after["score"] <= self.before["score"]:
            return f"{begun} On the held-out photos it is no better than before: keep using the model you had."
        return f"{begun} {_one_click(self.before, self.after)}"


class LossCurve:
    """A loss by time, thinned: when there are too many points, neighbours become one."""

    def __init__(self) -> None:
        self._bins: list[tuple[float, float, int]] = []  # sums of minutes and losses, and how many
        self._size = 1  # points that make a bin

    def add(self, minutes: float, loss: float) -> None:
        """One more point."""
        if self._bins and self._bins[-1][2] < self._size:
            self._bins[-1] = _sum(self._bins[-1], (minutes, loss, 1))
        else:
            self._bins.append((minutes, loss, 1))
        if len(self._bins) >= 2 * _BINS:
            self._bins = [_sum(a, b) for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)]
            self._size *= 2

    def points(self) -> list[tuple[float, float]]:
        """(minutes, loss), each loss a mean with those beside it."""
        points = []
        for i, (minutes, _, count) in enumerate(self._bins):
            near = self._bins[max(i - _REACH, 0) : i + _REACH + 1]
            points.append((minutes / count, sum(b[1] for b in near) / sum(b[2] for b in near)))
        return points


def _sum(a: tuple[float, float, int], b: tuple[float, float, int]) -> tuple[float, float, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _best_so_far(exams: list[tuple[float, dict[str, float]]]) -> str:
    if len(exams) < 2:
        return ""
    return _one_click(exams[0][1], max((exam for _, exam in exams[1:]), key=lambda exam: exam["score"]))


def _one_click(before: dict[str, float], after: dict[str, float]) -> str:
    return f"Held-out photos, mIoU with one click: {before['click1']:.0%} before, {after['click1']:.0%} now."
