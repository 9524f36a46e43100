"""One object's scores as a row, and what many rows say together: means and how sure they are.

Every protocol ends here: pictures, tracked clips, clicked clips and folders of masks all give rows, and tables.py
shows what they add up to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_RESAMPLINGS = 2000
_AT_ONCE = 10**6  # values drawn in one go
_SEED = 0  # the same rows give the same interval


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


def summarise(rows: Iterable[ObjectRow]) -> dict[str, Summary]:
    """Mean over objects and its interval, for every measure, in the order in which the measures first appear.

    Each object counts once, however long its clip is.

    Raises:
        ValueError: if there is no row.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("there is no object to evaluate on")
    names = dict.fromkeys(name for row in rows for name in row.scores)
    return {name: _summary([r.scores[name] for r in rows if name in r.scores]) for name in names}


def _summary(values: Sequence[float]) -> Summary:
    low, high = bootstrap_interval(values)
    return Summary(float(np.mean(values)), low, high, len(values))


def paired(before: Iterable[ObjectRow], after: Iterable[ObjectRow]) -> dict[str, tuple[Summary, Summary, Summary]]:
    """Two models on the same objects: of every measure both summaries, and that of the difference.

    Only objects that both have count. The difference is taken object by object, so that what is hard for both cancels
    out and its interval is narrower than those of the two.
    """
    old = {(row.sample, row.object_id): row.scores for row in before}
    pairs = [(old[key], row.scores) for row in after if (key := (row.sample, row.object_id)) in old]
    names = dict.fromkeys(name for one, _ in pairs for name in one)
    found = {name: [(a[name], b[name]) for a, b in pairs if name in a and name in b] for name in names}
    return {
        name: (_summary([a for a, _ in both]), _summary([b for _, b in both]), _summary([b - a for a, b in both]))
        for name, both in found.items()
        if both
    }


def bootstrap_interval(values: Sequence[float], *, share: float = 0.95) -> tuple[float, float]:
    """Where the mean would lie if other objects had been drawn from the same kind.

    Objects are drawn again with replacement, many times; the interval holds the middle share of those means.

    Args:
        values: one per object.
        share: of the resampled means that the interval holds, 0..1.
    Returns:
        its lower and upper end; both the value itself where there is only one.
    Source: percentile bootstrap, Efron 1979.
    """
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(_SEED)
    at_once = max(_AT_ONCE // max(len(array), 1), 1)
    parts = [min(at_once, _RESAMPLINGS - done) for done in range(0, _RESAMPLINGS, at_once)]
    means = [array[rng.integers(0, len(array), (part, len(array)))].mean(axis=1) for part in parts]
    low, high = np.quantile(np.concatenate(means), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
