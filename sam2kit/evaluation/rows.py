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
    means = [float(rng.choice(array, len(array)).mean()) for _ in range(_RESAMPLINGS)]
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
