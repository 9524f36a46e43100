"""What a fine-tuning tells: a history that survives interruptions, curves, and a table before and after."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam2kit.files import make_folder, read_json, written_whole
from sam2kit.media.exports import write_json

_FILE = "history.json"
ABOUT_TIME = ("epoch", "step", "seconds")
_COUNTS = ("objects",)


@dataclass
class History:
    """All exams of one run."""

    identity: dict[str, Any]  # what has to be the same for the run to go on
    before: dict[str, float] = field(default_factory=dict)  # the base model's exam
    exams: list[dict[str, float]] = field(default_factory=list)  # one for each epoch, with "epoch", "step", "seconds"
    room: dict[str, int] = field(default_factory=dict)  # what went through the network at once, see room.py

    @classmethod
    def read(cls, folder: Path, identity: dict[str, Any]) -> History:
        """The history in a folder, to go on with; a new one if there is none.

        Raises:
            ValueError: if the folder holds another run, or its history cannot be read.
        """
        path = folder / _FILE
        if not path.exists():
            return cls(identity)
        try:
            content = read_json(path)
            there = cls(content["identity"], content["before"], content["exams"], content["room"])
            parts = (there.identity, there.before, *there.exams, there.room)
            if not all(isinstance(part, dict) for part in parts) or not all("score" in exam for exam in there.exams):
                raise ValueError("it is of another shape")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); choose another folder or delete this one") from error
        known = json.loads(json.dumps(identity))
        other = [name for name in known if there.identity.get(name) != known[name]]
        if other:
            raise ValueError(
                f"{folder} holds a run with another {' and '.join(other)}; choose another folder for --out"
            )
        return there

    def write(self, folder: Path) -> None:
        """Write it; a crash while writing leaves the one before."""
        make_folder(folder)
        write_json(asdict(self), folder / _FILE)

    def drop_after(self, step: int) -> None:
        """Forget exams of steps that will be taken again."""
        self.exams = [exam for exam in self.exams if exam["step"] <= step]

    @property
    def best(self) -> dict[str, float]:
        """The exam with the highest score, the earliest of several."""
        return max(self.exams, key=lambda exam: exam["score"])

    @property
    def latest_is_best(self) -> bool:
        """Whether the last exam is the best so far."""
        return self.best is self.exams[-1]

    def stands_still(self, patience: int) -> bool:
        """Whether the best exam is at least `patience` epochs old."""
        return bool(self.exams) and self.exams[-1]["epoch"] - self.best["epoch"] >= patience


@dataclass(frozen=True)
class Result:
    """What came out of a fine-tuning."""

    folder: Path  # for `load_model`
    recipe: str
    before: dict[str, float]  # the base model's exam, and what it knows in general
    after: dict[str, float]  # of the best epoch
    best_epoch: int
    epochs: int
    seconds: float
    skipped: list[str] = field(default_factory=list)  # samples that could not be used

    @property
    def better(self) -> bool:
        """Whether training helped on held-out samples."""
        return self.after["score"] > self.before["score"]

    def text(self) -> str:
        """The table for people."""
        lines = [before_and_after(self.before, self.after)]
        lines.append(f"best of {self.epochs} epochs: {self.best_epoch}; {self.seconds / 60:.1f} minutes; {self.folder}")
        if not self.better:
            lines.append("No epoch was better than the base model on held-out samples: keep using the base model.")
        if self.skipped:
            lines.append(f"{len(self.skipped)} samples could not be used; `sam2kit data check` says why.")
        return "\n".join(lines)


def result_so_far(folder: Path) -> Result | None:
    """What a run that was stopped has left in its folder; None if it did not come to its first exam."""
    history = History.read(folder, {})
    if not history.exams:
        return None
    best = {name: value for name, value in history.best.items() if name not in ABOUT_TIME}
    last, recipe = history.exams[-1], history.identity["recipe"]["name"]
    best_epoch = int(history.best["epoch"])
    return Result(folder, recipe, history.before, best, best_epoch, len(history.exams), float(last["seconds"]))


class Board:
    """TensorBoard files of a run, if tensorboard is installed.

    Args:
        folder: of the run; the files go to its `tensorboard` folder.
        writes: False on all processes but one.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self._writer = None
        if writes:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                warnings.warn("no TensorBoard files are written: pip install tensorboard")
            else:
                self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, group: str, step: int, figures: dict[str, float]) -> None:
        """Figures of a step, "training" or "held out"."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()


def write_curves(history: History, path: Path) -> None:
    """Held-out scores over the epochs as a PNG, with the base model at epoch 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    points = [{"epoch": 0, **history.before}, *history.exams]
    names = [n for n in history.before if n not in (*ABOUT_TIME, *_COUNTS) and all(n in p for p in points[1:])]
    for name in names:
        bold = 2.5 if name == "score" else 1.2
        axes.plot([p["epoch"] for p in points], [p[name] for p in points], label=name, linewidth=bold, marker=".")
    axes.set(xlabel="epoch", ylabel="held-out samples", ylim=(0, 1))
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")


def before_and_after(before: dict[str, float], after: dict[str, float]) -> str:
    """A Markdown table of all measures that both have, in percent."""
    lines = ["| measure | base | fine-tuned | change |", "|---|---|---|---|"]
    for name, value in before.items():
        if name in after and name not in _COUNTS:
            change = 100 * (after[name] - value)
            lines.append(f"| {name} | {100 * value:.1f} | {100 * after[name]:.1f} | {change:+.1f} |")
    return "\n".join(lines)
