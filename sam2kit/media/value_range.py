"""Which values of a scientific picture become black and white: measured ones, not the marks for "no data" among them.

Pictures of 16 bits and floats are stretched by the range of their values. NaN, infinity and numbers that stand for "no
data" (-9999, or what a TIFF states) are left out of the range and shown black; a few outliers, such as hot pixels, are
cut off where they would take most of the contrast. Where that happens, `note` says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_SAMPLED = 2**20  # values that are looked at of one picture, or of a clip
_OUTLIERS = 0.001  # of the values, at each end
_TAKES_CONTRAST = 2  # how many times the range of all others
_NO_DATA_GAP = 10  # how many times the range of all others lies between them and a mark for "no data"
_NO_DATA_SHARE = 0.0005  # of the values, at least


@dataclass(frozen=True)
class ValueRange:
    """What becomes black and what white."""

    low: float
    high: float
    no_data: tuple[float, ...] = ()  # values that mean nothing, and are shown black
    note: str | None = None  # what was left out, for people

    def stretched(self, values: np.ndarray) -> np.ndarray:
        """uint8 of the same shape; NaN and what means nothing is black."""
        numbers = values.astype(np.float64)
        numbers[np.isnan(numbers)] = self.low
        for nothing in self.no_data:
            numbers[values == nothing] = self.low
        shares = (np.clip(numbers, self.low, self.high) - self.low) / max(self.high - self.low, 1e-12)
        return np.rint(shares * 255).astype(np.uint8)


def range_of(parts: Iterable[np.ndarray], count: int, stated_no_data: float | None = None) -> ValueRange:
    """The range of a picture's values, or of a clip's.

    Args:
        parts: its values, in parts of any shape.
        count: of all values together, roughly.
        stated_no_data: what the file says means "no data".
    """
    low, high, unreal, samples = np.inf, -np.inf, 0, []
    step = max(1, count // _SAMPLED)
    for part in parts:
        values = part.astype(np.float64).ravel()
        usable = values[np.isfinite(values)]
        unreal += len(values) - len(usable)
        usable = usable[usable != stated_no_data] if stated_no_data is not None else usable
        if len(usable):
            low, high = min(low, usable.min()), max(high, usable.max())
            samples.append(usable[::step])
    if not samples:
        return ValueRange(0.0, 0.0, note="none of its values is a finite number")
    sample = np.sort(np.concatenate(samples))
    told = [f"{unreal} values that are no finite numbers"] if unreal else []
    found, sample = _no_data_of(sample, low, high)
    told += [f"{value:g}, which seems to mean no data" for value in found]
    low, high = (sample[0] if low in found else low), (sample[-1] if high in found else high)
    cut = min(math.ceil(len(sample) * _OUTLIERS), (len(sample) - 1) // 2)
    inner_low, inner_high = sample[cut], sample[-1 - cut]
    if inner_high > inner_low and high - low > _TAKES_CONTRAST * (inner_high - inner_low):
        told.append(f"a few outliers (values go from {low:g} to {high:g})")
        low, high = inner_low, inner_high
    stated = (stated_no_data,) if stated_no_data is not None else ()
    note = f"its contrast is that of the values {low:g} to {high:g}, without {' and '.join(told)}" if told else None
    return ValueRange(float(low), float(high), (*stated, *found), note)


def _no_data_of(sample: np.ndarray, low: float, high: float) -> tuple[tuple[float, ...], np.ndarray]:
    """Numbers at the ends that mean "no data", and the sorted sample without them.

    Such a number occurs often, and far from all others.
    """
    found: list[float] = []
    for end in (low, high):
        others = sample[sample != end]
        if not len(others) or len(sample) - len(others) < max(2, _NO_DATA_SHARE * len(sample)):
            continue
        inner = np.quantile(others, (_OUTLIERS, 1 - _OUTLIERS))
        gap = others[0] - end if end == low else end - others[-1]
        if inner[1] > inner[0] and gap > _NO_DATA_GAP * (inner[1] - inner[0]):
            found.append(float(end))
            sample = others
    return tuple(found), sample
