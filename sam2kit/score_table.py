"""The table before and after a fine-tuning, the same on the terminal, in notebooks and on the model's page.

It is made of the metrics that finetuned.json keeps, so it says what the file says and nothing else:

    {"before": {measure: mean}, "after": {measure: mean},
     "intervals": {measure: {"before": [low, high], "after": [low, high], "change": [low, high], "objects": count}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS = ("objects",)  # measures that are no shares
JUDGED = ("click1", "click3", "click5", "box", "mask J&F", "click J&F", "box J&F")  # what the score is the mean of
_WORDS = {
    "score": "mean of the next rows, but missed",
    "click1": "mIoU after 1 click",
    "click3": "mIoU after 3 clicks",
    "click5": "mIoU after 5 clicks",
    "box": "mIoU from a tight box",
    "missed": "taken for absent; less is better",
    "mask J&F": "tracked from a true mask",
    "click J&F": "tracked from 1 click",
    "box J&F": "tracked from a tight box",
    "scenes click1": "forgetting check: mIoU, other scenes",
    "clips mask J&F": "forgetting check: other clips",
}
UNITS = "In percent; in brackets the 95 % confidence interval (bootstrap over the objects)."


def score_table(metrics: Mapping[str, Any], *, aligned: bool = False) -> str:
    """A Markdown table of all measures that both have, in percent.

    Args:
        metrics: as above; without intervals, the columns of these stay away.
        aligned: make all cells of a column equally wide, for a terminal.
    """
    before, after, intervals = metrics["before"], metrics["after"], metrics.get("intervals", {})
    names = [n for n, v in before.items() if n not in COUNTS and _is_number(v) and _is_number(after.get(n))]
    rows = [["measure", "base", "fine-tuned", "change", "objects", "meaning"]]
    for name in names:
        known = intervals.get(name, {})
        values = {"before": before[name], "after": after[name], "change": after[name] - before[name]}
        cells = [_cell(value, known.get(key), signed=key == "change") for key, value in values.items()]
        rows.append([name, *cells, str(known.get("objects", "")), _WORDS.get(name, "")])
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) if aligned else 3 for column in columns]
    columns = [(first, "-" * width, *rest) for (first, *rest), width in zip(columns, widths, strict=True)]
    padded = [[cell.ljust(width if aligned else 0) for cell in c] for c, width in zip(columns, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*padded, strict=True))


def _cell(value: float, interval: list[float] | None, *, signed: bool) -> str:
    sign, between = ("+", " to ") if signed else ("", "-")
    if interval is None:
        return f"{100 * value:{sign}.1f}"
    low, high = (f"{100 * end:{sign}.1f}" for end in interval)
    return f"{100 * value:{sign}.1f} ({low}{between}{high})"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
