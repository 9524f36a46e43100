"""Results: one object's scores as a row, what many rows say together, and that as tables for people and programs.

Every protocol gives rows. Their means come with 95 % intervals; two models on the same objects are compared object by
object; YouTube-VOS adds them up to G, which asks how well a model tracks what it was never trained on.

Surprises: JSON holds shares in 0..1, as everywhere in sam2kit; Markdown tables write percent, as papers do. Which
categories are unseen is not in the meta.json of YouTube-VOS; its server keeps that list, so it is given as a file.

Source: percentile bootstrap, Efron 1979; YouTube-VOS, arXiv:1809.03327, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sam2kit.files import MALFORMED, atomic_write, make_folder, read_json

_RESAMPLINGS = 2000
_AT_ONCE = 10**6  # values drawn in one go
_SEED = 0  # the same rows give the same interval
_PLAIN = ("NoC@", "seconds@", "frames")  # measures that are no shares


@dataclass(frozen=True)
class ObjectRow:
    """The scores of one object in one picture or clip."""

    sample: str  # name of the picture or clip
    object_id: str
    scores: dict[str, float]  # measure -> value; a measure that says nothing about this object is left out

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"sample": self.sample, "object": self.object_id, **self.scores}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ObjectRow:
        """The row that `as_dict` wrote."""
        scores = {name: value for name, value in content.items() if name not in ("sample", "object")}
        return cls(content["sample"], content["object"], scores)


@dataclass(frozen=True)
class Summary:
    """One measure over all objects that have it."""

    mean: float
    low: float  # ends of the 95 % confidence interval of the mean
    high: float
    objects: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of one value per object."""
        return cls(float(np.mean(values)), *bootstrap_interval(values), len(values))


def summarise(rows: Iterable[ObjectRow]) -> dict[str, Summary]:
    """Mean over objects and its interval, for every measure, in the order in which the measures first appear.

    Each object counts once, however long its clip is.

    Raises:
        ValueError: if there is no row.
    """
    return {name: Summary.of(values) for name, values in _values(rows).items()}


def means_of(rows: Iterable[ObjectRow]) -> dict[str, float]:
    """The means of `summarise` alone."""
    return {name: float(np.mean(values)) for name, values in _values(rows).items()}


def _values(rows: Iterable[ObjectRow]) -> dict[str, list[float]]:
    """Measure -> its value of every object that has it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.scores.items():
            found.setdefault(name, []).append(value)
    if not found:
        raise ValueError("there is no object to evaluate on")
    return found


def paired(before: Iterable[ObjectRow], after: Iterable[ObjectRow]) -> dict[str, tuple[Summary, Summary, Summary]]:
    """Two models on the same objects: of every measure both summaries, and that of the difference.

    Only objects that both have count. The difference is taken object by object, so that what is hard for both cancels
    out and its interval is narrower than those of the two.
    """
    old = {(row.sample, row.object_id): row.scores for row in before}
    found: dict[str, list[tuple[float, float]]] = {}
    for row in after:
        scores = old.get((row.sample, row.object_id), {})
        for name in scores.keys() & row.scores.keys():
            found.setdefault(name, []).append((scores[name], row.scores[name]))
    order = dict.fromkeys(name for scores in old.values() for name in scores if name in found)
    return {
        name: (
            Summary.of([a for a, _ in found[name]]),
            Summary.of([b for _, b in found[name]]),
            Summary.of([b - a for a, b in found[name]]),
        )
        for name in order
    }


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean would lie if other objects had been drawn from the same kind: the ends of its 95 % interval.

    Objects, of which `values` has one each, are drawn again with replacement, many times; the interval holds the middle
    95 % of those means. Both ends are the value itself where there is only one.
    """
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(_SEED)
    at_once = max(_AT_ONCE // max(len(array), 1), 1)
    parts = [min(at_once, _RESAMPLINGS - done) for done in range(0, _RESAMPLINGS, at_once)]
    means = [array[rng.integers(0, len(array), (part, len(array)))].mean(axis=1) for part in parts]
    low, high = np.quantile(np.concatenate(means), [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Report:
    """Everything that one evaluation says."""

    title: str  # protocol and data, for people
    rows: list[ObjectRow]
    about: Mapping[str, Any] = field(default_factory=dict)  # model, protocol, settings
    skipped: Mapping[str, str] = field(default_factory=dict)  # sample -> why it could not be used
    totals: Mapping[str, float] = field(default_factory=dict)  # figures that are no mean over objects, such as G
    details: Mapping[str, Any] = field(default_factory=dict)  # further tables, for JSON only
    notes: Sequence[str] = ()  # sentences about how far the numbers can be trusted

    @cached_property
    def summary(self) -> dict[str, Summary]:
        """Mean of every measure over objects."""
        return summarise(self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "title": self.title,
            **self.about,
            **self.totals,
            "notes": list(self.notes),
            "measures": {name: asdict(s) for name, s in self.summary.items()},
            **self.details,
            "objects": [r.as_dict() for r in self.rows],
            "skipped": dict(self.skipped),
        }


def markdown(report: Report) -> str:
    """A table with a line for each measure: mean over objects, 95 % confidence interval, number of objects."""
    rows = [[_named(n), _shown(n, value), "", str(len(report.rows))] for n, value in report.totals.items()]
    for name, s in report.summary.items():
        interval = f"{_shown(name, s.low)} - {_shown(name, s.high)}"
        rows.append([_named(name), _shown(name, s.mean), interval, str(s.objects)])
    lines = [f"## {report.title}", "", *(line for note in report.notes for line in (f"**{note}**", ""))]
    lines += _table(["measure", "mean", "95 % interval", "objects"], 1, rows)
    if report.skipped:
        lines += ["", f"{len(report.skipped)} samples could not be used:", ""]
        lines += [f"- {name}: {why}" for name, why in report.skipped.items()]
    return "\n".join(lines) + "\n"


def object_table(report: Report) -> str:
    """A Markdown table with a line for each object."""
    names = list(report.summary)
    values = [[_shown(n, r.scores[n]) if n in r.scores else "" for n in names] for r in report.rows]
    rows = [[r.sample, r.object_id, *some] for r, some in zip(report.rows, values, strict=True)]
    return "\n".join(_table(["sample", "object", *map(_named, names)], 2, rows)) + "\n"


def _table(head: list[str], texts: int, rows: list[list[str]]) -> list[str]:
    """Lines of Markdown; the first columns hold texts, the others numbers."""
    kinds = ["---"] * texts + ["---:"] * (len(head) - texts)
    return [" ".join(["|", *(f"{cell} |" if cell else "|" for cell in row)]) for row in (head, kinds, *rows)]


def write_report(report: Report, out: Path) -> list[Path]:
    """Write results.md, with every object, and results.json into a folder; each replaces its older version whole."""
    make_folder(out)
    contents = {
        "results.md": markdown(report) + "\n" + object_table(report),
        "results.json": json.dumps(report.as_dict(), indent=1) + "\n",
    }
    for name, text in contents.items():
        with atomic_write(out / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return [out / name for name in contents]


def _named(measure: str) -> str:
    return measure if measure.startswith(_PLAIN) else f"{measure} (%)"


def _shown(measure: str, value: float) -> str:
    return f"{value:.2f}" if measure.startswith(_PLAIN) else f"{100 * value:.1f}"


Categories = Mapping[tuple[str, str], str]  # (video, object) -> category


def youtube_vos_g(rows: Iterable[ObjectRow], categories: Categories, unseen: Collection[str]) -> dict[str, float]:
    """The mean of J and F over objects of seen and of unseen categories.

    Args:
        rows: with measures "J" and "F", 0..1; the last part of a sample's name is its video.
        categories: of all objects; see `read_meta`.
        unseen: the categories that do not occur in training.
    Returns:
        "G", the mean of the four others, and "J_seen", "J_unseen", "F_seen", "F_unseen", 0..1.
    Raises:
        ValueError: if an object has no category, a category does not occur, or there is no seen or no unseen object.
    """
    known = sorted(set(categories.values()))
    unknown = sorted(set(unseen) - set(known))
    if unknown:
        some = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise ValueError(f"no object has category {unknown[0]!r}; there are {some}")
    scores: dict[str, list[float]] = {f"{m}_{kind}": [] for m in ("J", "F") for kind in ("seen", "unseen")}
    for row in rows:
        key = PurePosixPath(row.sample).name, row.object_id
        if key not in categories:
            raise ValueError(f"meta.json has no category for object {row.object_id} of video {key[0]}")
        for measure in ("J", "F"):
            scores[f"{measure}_{'unseen' if categories[key] in unseen else 'seen'}"].append(row.scores[measure])
    for name, values in scores.items():
        if not values:
            raise ValueError(f"G needs objects of seen and of unseen categories, but none is {name.split('_')[1]}")
    parts = {name: float(np.mean(values)) for name, values in scores.items()}
    return {"G": float(np.mean(list(parts.values()))), **parts}


def read_meta(meta: Path) -> Categories:
    """(video, object) -> category, from the data set's meta.json.

    Raises:
        FileNotFoundError, ValueError: if there is none, or it is no such file.
    """
    try:
        videos = read_json(meta)["videos"]
        return {(v, o): about["category"] for v in videos for o, about in videos[v]["objects"].items()}
    except MALFORMED as error:
        raise ValueError(f"{meta} is not a meta.json of YouTube-VOS (videos -> objects -> category)") from error


def read_categories(path: Path) -> set[str]:
    """Names of categories from a file: a JSON list, or one name in each line.

    Raises:
        FileNotFoundError, ValueError: if there is none, or it names nothing.
    """
    text = path.read_text()
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{path} should hold names of categories, a JSON list or one in each line")
    return set(names)
