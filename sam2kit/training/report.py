"""What a fine-tuning tells: a history that survives interruptions, curves, and the result in words and numbers."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sam2kit.evaluation.rows import ObjectRow, paired
from sam2kit.files import make_folder, read_json, written_whole
from sam2kit.media.exports import write_json
from sam2kit.score_table import COUNTS, JUDGED, UNITS, score_table

_FILE = "history.json"
ABOUT_TIME = ("epoch", "step", "seconds")


@dataclass
class History:
    """All exams of one run."""

    identity: dict[str, Any]  # what has to be the same for the run to go on
    before: dict[str, float] = field(default_factory=dict)  # the base model's exam
    exams: list[dict[str, float]] = field(default_factory=list)  # one for each epoch, with "epoch", "step", "seconds"
    room: dict[str, int] = field(default_factory=dict)  # what went through the network at once, see room.py
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # "before", "best": every object's scores
    evaluated: dict[str, list[str]] = field(default_factory=dict)  # "held out", "general": names of samples
    about_held_out: str = ""  # in words, for people
    notes: list[str] = field(default_factory=list)  # sentences about how far the numbers can be trusted
    seconds: dict[str, float] = field(default_factory=dict)  # "held out", "general", "pictures": that each takes

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
            there = cls(**{f.name: content[f.name] for f in fields(cls)})
            parts = (there.identity, there.before, *there.exams, there.room, there.rows, there.evaluated, there.seconds)
            if not all(isinstance(part, dict) for part in parts) or not all("score" in exam for exam in there.exams):
                raise ValueError("it is of another shape")
            there.rows_of("before"), there.rows_of("best")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); choose another folder or delete this one") from error
        known = json.loads(json.dumps(identity))
        other = [name for name in known if there.identity.get(name) != known[name]]
        if other:
            raise ValueError(
                f"{folder} holds a run with another {' and '.join(other)}; choose another folder for --out"
            )
        return there

    def rows_of(self, which: str) -> list[ObjectRow]:
        """The objects' scores: of the base, "before", or of the "best" epoch."""
        return [ObjectRow.from_dict(row) for row in self.rows.get(which, [])]

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
    intervals: dict[str, dict[str, Any]] = field(default_factory=dict)  # by measure, see score_table.py
    held_out: str = ""  # what was evaluated on, in words
    notes: list[str] = field(default_factory=list)  # sentences about how far the numbers can be trusted

    @property
    def better(self) -> bool:
        """Whether training helped on held-out samples."""
        return self.after["score"] > self.before["score"]

    @property
    def metrics(self) -> dict[str, Any]:
        """What finetuned.json keeps of it."""
        return {"before": self.before, "after": self.after, "intervals": self.intervals}

    def table(self) -> str:
        """All measures before and after, with their intervals, as Markdown."""
        return score_table(self.metrics)

    def text(self, *, aligned: bool = False) -> str:
        """The table, and what it means, for people; aligned for a terminal."""
        epochs = f"epoch {self.best_epoch} of {self.epochs} is kept"
        lines = [
            f"{self.held_out} {UNITS}".strip(),
            score_table(self.metrics, aligned=aligned),
            f"{epochs}; {self.seconds / 60:.1f} minutes; {self.folder}",
            *self.notes,
        ]
        change = self.intervals.get("score", {}).get("change")
        if not self.better:
            lines.append("No epoch was better than the base model on held-out samples: keep using the base model.")
        elif change and change[0] <= 0:
            lines.append(
                "The change of the score may be chance: its interval holds 0. Hold out more objects, or train longer."
            )
        if self.skipped:
            lines.append(f"{len(self.skipped)} samples could not be used; `sam2kit data check` says why.")
        return "\n\n".join(line for line in lines if line)


def intervals_of(before: list[ObjectRow], after: list[ObjectRow]) -> dict[str, dict[str, Any]]:
    """95 % intervals of every measure and of its change, over the objects; see score_table.py."""
    found = paired(_with_score(before), _with_score(after))
    ends = {name: dict(zip(("before", "after", "change"), parts, strict=True)) for name, parts in found.items()}
    return {
        name: {key: [s.low, s.high] for key, s in parts.items()} | {"objects": parts["change"].objects}
        for name, parts in ends.items()
    }


def _with_score(rows: list[ObjectRow]) -> list[ObjectRow]:
    """Rows with the score, where it is a mean over objects: not where some have other measures than the rest."""
    kinds = {tuple(name for name in JUDGED if name in row.scores) for row in rows}
    kinds.discard(())  # of the forgetting check
    if len(kinds) != 1:
        return rows
    (judged,) = kinds
    return [
        replace(row, scores={"score": sum(row.scores[n] for n in judged) / len(judged), **row.scores})
        if judged[0] in row.scores
        else row
        for row in rows
    ]


def result_so_far(folder: Path) -> Result | None:
    """What a run that was stopped has left in its folder; None if it did not come to its first exam."""
    history = History.read(folder, {})
    if not history.exams:
        return None
    return result_of(history, folder, float(history.exams[-1]["seconds"]))


def result_of(history: History, folder: Path, seconds: float, skipped: list[str] | None = None) -> Result:
    """The result of the best epoch so far."""
    best = history.best
    before, after = history.rows_of("before"), history.rows_of("best")
    return Result(
        folder,
        history.identity["recipe"]["name"],
        history.before,
        {name: value for name, value in best.items() if name not in ABOUT_TIME},
        int(best["epoch"]),
        int(history.exams[-1]["epoch"]),
        seconds,
        skipped or [],
        intervals_of(before, after),
        history.about_held_out,
        list(history.notes),
    )


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
    names = [n for n in history.before if n not in (*ABOUT_TIME, *COUNTS) and all(n in p for p in points[1:])]
    for name in names:
        bold = 2.5 if name == "score" else 1.2
        axes.plot([p["epoch"] for p in points], [p[name] for p in points], label=name, linewidth=bold, marker=".")
    axes.set(xlabel="epoch", ylabel="held-out samples", ylim=(0, 1))
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
