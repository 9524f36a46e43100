"""What a fine-tuning tells: a history that survives interruptions, and the result in words, numbers and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.data.sample import Dataset, Sample, counted
from sam2kit.evaluation.reports import ObjectRow, paired
from sam2kit.evaluation.semi_supervised import compare
from sam2kit.files import atomic_write, read_json, write_json
from sam2kit.media.drawing import POSITIVE
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import COUNTS, JUDGED, UNITS, found_words, score_table
from sam2kit.predict.image import ImagePredictor

_FILE = "history.json"
_PANEL = 500  # pixels of a picture's longer side, at least, in predictions.jpg
_ABOUT_TIME = ("epoch", "step", "seconds")
FEW = 5  # objects; of fewer an interval says nothing


@dataclass
class History:
    """All evaluations of one run."""

    identity: dict[str, Any]  # what has to be the same for the run to go on
    before: dict[str, float] = field(default_factory=dict)  # scores of the base model
    evaluations: list[dict[str, float]] = field(default_factory=list)  # of each epoch, with "epoch", "step", "seconds"
    micro_batch: dict[str, int] = field(default_factory=dict)  # what went through the network at once
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # "before", "best": every object's scores
    evaluated: dict[str, list[str]] = field(default_factory=dict)  # "held out", "forgetting": names of samples
    about_held_out: str = ""  # in words, for people
    notes: list[str] = field(default_factory=list)  # sentences about how far the numbers can be trusted
    seconds: dict[str, float] = field(default_factory=dict)  # "held out", "forgetting", "pictures": that each takes

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
            there = cls(**read_json(path))
            there.rows_of("before"), there.rows_of("best")
            parts = (there.before, *there.evaluations, there.micro_batch, there.evaluated, there.seconds)
            if not all(isinstance(part, dict) for part in parts):
                raise TypeError("it is of another shape")
            [(one["epoch"], one["step"], one["score"]) for one in there.evaluations]
            known = json.loads(json.dumps(identity))
            other = [name for name in known if there.identity.get(name) != known[name]]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); choose another folder or delete this one") from error
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
        write_json(asdict(self), folder / _FILE)

    def drop_after(self, step: int) -> None:
        """Forget evaluations after steps that will be taken again."""
        self.evaluations = [one for one in self.evaluations if one["step"] <= step]

    @property
    def best(self) -> dict[str, float]:
        """The evaluation with the highest score, the earliest of several."""
        return max(self.evaluations, key=lambda one: one["score"])

    @property
    def latest_is_best(self) -> bool:
        """Whether the last evaluation is the best so far."""
        return self.best is self.evaluations[-1]

    def stands_still(self, patience: int) -> bool:
        """Whether the best evaluation is at least `patience` epochs old."""
        return bool(self.evaluations) and self.evaluations[-1]["epoch"] - self.best["epoch"] >= patience

    def result(self, folder: Path, seconds: float, skipped: Sequence[str] = ()) -> Result:
        """The result of the best epoch so far."""
        best = self.best
        return Result(
            folder=folder,
            recipe=self.identity["recipe"],
            before=self.before,
            after={name: value for name, value in best.items() if name not in _ABOUT_TIME},
            best_epoch=int(best["epoch"]),
            epochs=int(self.evaluations[-1]["epoch"]),
            seconds=seconds,
            skipped=list(skipped),
            intervals=intervals_of(self.rows_of("before"), self.rows_of("best")),
            held_out=self.about_held_out,
            notes=list(self.notes),
        )


@dataclass(frozen=True)
class Result:
    """What came out of a fine-tuning."""

    folder: Path  # for `load_model`
    recipe: str
    before: dict[str, float]  # scores of the base model, also of the forgetting check
    after: dict[str, float]  # of the best epoch
    best_epoch: int
    epochs: int
    seconds: float
    skipped: list[str] = field(default_factory=list)  # samples that could not be used
    intervals: dict[str, dict[str, Any]] = field(default_factory=dict)  # by measure, see model_card.score_table
    held_out: str = ""  # what was evaluated on, in words
    notes: list[str] = field(default_factory=list)  # sentences about how far the numbers can be trusted
    stood_still: bool = False  # whether it ended because nothing got better any more
    found: dict[str, float] = field(default_factory=dict)  # what it finds by itself, see evaluation/found_objects.py

    @property
    def better(self) -> bool:
        """Whether training helped on held-out samples."""
        return self.after["score"] > self.before["score"]

    @property
    def metrics(self) -> dict[str, Any]:
        """What finetuned.json keeps of it."""
        found = {"found": self.found} if self.found else {}
        return {"before": self.before, "after": self.after, "intervals": self.intervals, **found}

    def table(self, *, aligned: bool = False) -> str:
        """All measures before and after, with their intervals, as Markdown; aligned for a terminal."""
        return score_table(self.metrics, aligned=aligned)

    @property
    def _why_it_ended(self) -> str:
        return ", and as no later one was better, training ended" if self.stood_still else ""

    @property
    def verdict(self) -> str:
        """What has to be said of the change of the score; nothing where it is plainly better."""
        known = self.intervals.get("score", {})
        change, objects = known.get("change"), int(known.get("objects", self.after.get("objects", FEW)))
        if not self.better:
            return "No epoch was better than the base model on held-out samples: keep using the base model."
        if objects < FEW:
            few = "is too few" if objects == 1 else "are too few"
            return f"{counted(objects, 'held-out object')} {few} to tell whether it got better: label more."
        if change and change[0] <= 0:
            chance = "The change of the score may be chance: its interval holds 0."
            return f"{chance} Hold out more objects, or train longer."
        return ""

    def text(self, *, aligned: bool = False) -> str:
        """The table, and what it means, for people; aligned for a terminal."""
        epochs = f"epoch {self.best_epoch} of {self.epochs} is kept"
        lines = [
            f"{self.held_out} {UNITS}".strip(),
            self.table(aligned=aligned),
            f"{epochs}{self._why_it_ended}; {self.seconds / 60:.1f} minutes; {self.folder}",
            found_words(self.found),
            *self.notes,
        ]
        if self.verdict:
            lines.append(self.verdict)
        if self.skipped:
            lines.append(f"{len(self.skipped)} samples could not be used; `sam2kit data check` says why.")
        return "\n\n".join(line for line in lines if line)


def result_so_far(folder: Path) -> Result | None:
    """What a run that was stopped has left in its folder; None if it did not come to its first evaluation."""
    history = History.read(folder, {})
    return history.result(folder, history.evaluations[-1]["seconds"]) if history.evaluations else None


def intervals_of(before: list[ObjectRow], after: list[ObjectRow]) -> dict[str, dict[str, Any]]:
    """95 % intervals of every measure and of its change, over the objects; see model_card.score_table."""
    return {
        name: {
            key: [s.low, s.high]
            for key, s in zip(("before", "after", "change"), parts, strict=True)
            if s.objects >= FEW
        }
        | {"objects": parts[-1].objects}
        for name, parts in paired(_with_score(before), _with_score(after)).items()
    }


def _with_score(rows: list[ObjectRow]) -> list[ObjectRow]:
    """Rows with the score, where it is a mean over objects: not where some have other measures than the rest."""
    judged = [[row.scores[name] for name in JUDGED if name in row.scores] for row in rows]
    kinds = {tuple(name for name in JUDGED if name in row.scores) for row in rows} - {()}  # () in the forgetting check
    if len(kinds) != 1:
        return rows
    return [
        replace(row, scores={"score": sum(values) / len(values), **row.scores}) if values else row
        for row, values in zip(rows, judged, strict=True)
    ]


def about_held_out(evaluated: Sequence[Sample], held_out: Dataset, objects: int) -> str:
    """What the numbers are measured on, in a sentence."""
    clips = sum(not sample.is_picture for sample in evaluated)
    kinds = [counted(n, kind) for n, kind in ((len(evaluated) - clips, "picture"), (clips, "clip")) if n]
    few = f" (of {len(held_out)})" if len(evaluated) < len(held_out) else ""
    return f"Held-out samples: {' and '.join(kinds)}{few} with {counted(objects, 'object')}."


def notes_on(
    data: Dataset, held_out: Dataset, overfit: int, base: SAM2, seen: Mapping[str, Sequence[str]]
) -> list[str]:
    """Sentences about how far the numbers can be trusted.

    Args:
        base: says what it was trained on itself.
        seen: content keys of the samples for "training" and "validation".
    """
    if overfit:
        return ["It was trained and evaluated on the same samples (overfit): this only says that training works."]
    test = [s for s in data.samples if s.split == "test" and s.name not in {h.name for h in held_out.samples}]
    advice = (
        f"Its test split ({counted(len(test), 'sample')}) was left alone: `sam2kit evaluate … --split test`."
        if test
        else "A split named test would be left alone here, for `sam2kit evaluate` in the end."
    )
    if any(sample.split == "test" for sample in held_out.samples):
        advice = "They are the data's test split; with one named val, it would be left for `sam2kit evaluate`."
    notes = [f"The best epoch was chosen on these same samples, so expect a little less on new ones. {advice}"]
    known = len(base.seen.get("training", frozenset()) & set(seen["validation"]))
    if known:
        notes.append(
            f"The base model itself was trained on {known} of the {len(seen['validation'])} held-out samples, so all "
            "numbers on them are flattered; hold out the same ones (--held-out, --seed) as when it was trained."
        )
    return notes


def write_curves(history: History, path: Path) -> None:
    """Held-out scores over the epochs as a PNG, with the base model at epoch 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    points = [{"epoch": 0, **history.before}, *history.evaluations]
    names = [n for n in history.before if n not in (*_ABOUT_TIME, *COUNTS) and all(n in p for p in points[1:])]
    for name in names:
        bold = 2.5 if name == "score" else 1.2
        axes.plot([p["epoch"] for p in points], [p[name] for p in points], label=name, linewidth=bold, marker=".")
    axes.set(xlabel="epoch", ylabel="held-out samples", ylim=(0, 1))
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")


def write_predictions(
    path: Path,
    samples: Sequence[Sample],
    rows: Sequence[ObjectRow],
    before: ImagePredictor,
    after: ImagePredictor,
    *,
    count: int,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Write a JPEG with a row for each of some samples: the true masks, and those of both models after one click.

    Args:
        samples: of the evaluation; nothing is written if none of them has rows.
        rows: what the fine-tuned model scored on them; from the worst to the best sample, evenly chosen, are shown.
        count: of samples, at most.
        enough: asked after each; when it says so, no further one is begun.
    """
    from matplotlib.figure import Figure

    shown: list[tuple[tuple[int, ...], list[Any]]] = []  # size of the picture, and what is made of it
    for sample in _from_worst_to_best(samples, rows, count):
        if shown and enough():
            break
        one = compare(sample, before, after)
        step = max(1, max(one.image.shape) // _PANEL)
        small = [(title, picture[::step, ::step].copy(), points) for title, picture, points in one.panels()]
        shown.append((one.image.shape, small))
    if not shown:
        return
    figure = Figure(figsize=(9, sum(3 * size[0] / size[1] + 0.32 for size, _ in shown)), layout="constrained")
    for (size, small), axes in zip(shown, figure.subplots(len(shown), 3, squeeze=False), strict=True):
        for axis, (title, picture, points) in zip(axes, small, strict=True):
            axis.imshow(picture, extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5))
            if points:
                axis.scatter(*zip(*points, strict=True), color=POSITIVE, edgecolors="white")
            axis.set_title(title)
            axis.set_axis_off()
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="jpeg")


def _from_worst_to_best(samples: Sequence[Sample], rows: Sequence[ObjectRow], count: int) -> list[Sample]:
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.sample, []).extend(value for name, value in row.scores.items() if name in JUDGED)
    known = sorted((s for s in samples if scores.get(s.name)), key=lambda s: float(np.mean(scores[s.name])))
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    return [known[place] for place in places]
