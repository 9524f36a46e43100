"""Held-out samples as the base and the fine-tuned model see them, in one picture: what the numbers look like."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam2kit.datasets.samples import ClipSample, Sample
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.side_by_side import Comparison, compare, compare_tracked
from sam2kit.files import written_whole
from sam2kit.model.sam2 import SAM2
from sam2kit.plots.overlaps import show_comparison
from sam2kit.predict.image import ImagePredictor
from sam2kit.score_table import JUDGED

_DPI = 110


def write_predictions(
    samples: Sequence[Sample],
    rows: Sequence[ObjectRow],
    base: SAM2,
    tuned: SAM2,
    path: Path,
    *,
    count: int,
    limit: float | None = None,
) -> None:
    """Write a JPEG with a row for each of some samples: the true masks, and those of both models after one click.

    Args:
        samples: of the evaluation.
        rows: what the fine-tuned model scored on them; from the worst to the best sample, evenly chosen, are shown.
        count: of samples, at most.
        limit: seconds after which no further one is begun.
    """
    started = time.monotonic()
    shown: list[Comparison] = []
    for sample in _from_worst_to_best(samples, rows, count):
        if shown and limit is not None and time.monotonic() - started > limit:
            break
        shown.append(_compared(sample, base, tuned))
    if shown:
        figure = show_comparison(shown)
        with written_whole(path) as unfinished:
            figure.savefig(unfinished, dpi=_DPI, format="jpeg")


def _from_worst_to_best(samples: Sequence[Sample], rows: Sequence[ObjectRow], count: int) -> list[Sample]:
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.sample, []).extend(value for name, value in row.scores.items() if name in JUDGED)
    known = sorted((s for s in samples if scores.get(s.name)), key=lambda s: float(np.mean(scores[s.name])))
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    return [known[place] for place in places]


def _compared(sample: Sample, base: SAM2, tuned: SAM2) -> Comparison:
    if isinstance(sample, ClipSample):
        return compare_tracked(sample, base, tuned)
    return compare(Path(sample.name).name, sample.read(), ImagePredictor(base), ImagePredictor(tuned))
