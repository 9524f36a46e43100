"""Results for people and for programs: a Markdown table, and JSON with every object.

Surprise: JSON holds shares in 0..1, as everywhere in sam2kit; the table writes them in percent, as papers do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sam2kit.evaluation.rows import ObjectRow, Summary, summarise
from sam2kit.files import make_folder, written_whole

_PLAIN = ("NoC@", "seconds@", "frames")  # measures that are no shares


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
    notes = [line for note in report.notes for line in (f"**{note}**", "")]
    lines = [
        f"## {report.title}",
        "",
        *notes,
        "| measure | mean | 95 % interval | objects |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, value in report.totals.items():
        lines.append(f"| {_named(name)} | {_shown(name, value)} | | {len(report.rows)} |")
    for name, s in report.summary.items():
        interval = f"{_shown(name, s.low)} - {_shown(name, s.high)}"
        lines.append(f"| {_named(name)} | {_shown(name, s.mean)} | {interval} | {s.objects} |")
    if report.skipped:
        lines += ["", f"{len(report.skipped)} samples could not be used:", ""]
        lines += [f"- {name}: {why}" for name, why in report.skipped.items()]
    return "\n".join(lines) + "\n"


def object_table(report: Report) -> str:
    """A Markdown table with a line for each object."""
    names = list(report.summary)
    lines = [
        "| sample | object | " + " | ".join(map(_named, names)) + " |",
        "| --- | --- |" + " ---: |" * len(names),
    ]
    for row in report.rows:
        values = [_shown(n, row.scores[n]) if n in row.scores else "" for n in names]
        lines.append(f"| {row.sample} | {row.object_id} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def write_report(report: Report, out: Path) -> list[Path]:
    """Write results.md, with every object, and results.json into a folder; each replaces its older version whole.

    Returns:
        the two files.
    """
    make_folder(out)
    contents = {
        "results.md": markdown(report) + "\n" + object_table(report),
        "results.json": json.dumps(report.as_dict(), indent=1) + "\n",
    }
    for name, text in contents.items():
        with written_whole(out / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return [out / name for name in contents]


def _named(measure: str) -> str:
    return measure if measure.startswith(_PLAIN) else f"{measure} (%)"


def _shown(measure: str, value: float) -> str:
    return f"{value:.2f}" if measure.startswith(_PLAIN) else f"{100 * value:.1f}"
