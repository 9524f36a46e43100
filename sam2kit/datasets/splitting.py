"""Which samples are learnt from and which are held out, the same on every machine.

A dataset's own "train" and "val" are kept. Otherwise each name draws its side by a hash, so that a sample stays where
it is when others are added; pictures that look the same stay together, or the held-out score would be flattered.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from sam2kit.datasets.duplicates import groups_of_same
from sam2kit.datasets.samples import ClipSample, Dataset, PictureSample, Sample


def split(dataset: Dataset, held_out: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Part a dataset in two.

    Args:
        dataset: two samples at least.
        held_out: share to hold out, above 0 and below 1, if the dataset does not say it itself.
        seed: another number draws other samples.
    Returns:
        what to learn from, and what is held out; both have a sample at least. Where the dataset has "val", its "test"
        is in neither.
    Raises:
        ValueError: if there are fewer than two samples, or the share is outside 0..1.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share above 0 and below 1, got {held_out}")
    if len(dataset) < 2:
        raise ValueError(f"{dataset.path} has {len(dataset)} usable samples; to hold some out it needs two at least")
    samples = dataset.samples
    stated = {sample.split for sample in samples}
    for name in ("val", "test"):
        if name in stated and stated - {"val", "test"}:
            kept = [s for s in samples if s.split not in ("val", "test")]
            return _part(dataset, kept), _part(dataset, [s for s in samples if s.split == name])
    groups = sorted(_groups(samples), key=lambda group: min(_draw(sample.name, seed) for sample in group))
    if len(groups) == 1:  # all look the same: better to part them than not to test at all
        groups = sorted([[sample] for sample in samples], key=lambda group: _draw(group[0].name, seed))
    ours = [group for group in groups if min(_draw(s.name, seed) for s in group) < held_out]
    ours = (ours or groups[:1])[: len(groups) - 1]
    names = {sample.name for group in ours for sample in group}
    return (
        _part(dataset, [s for s in samples if s.name not in names]),
        _part(dataset, [s for s in samples if s.name in names]),
    )


def _draw(name: str, seed: int) -> float:
    """0..1, evenly, from a name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _groups(samples: list[Sample]) -> list[list[Sample]]:
    return [[samples[i] for i in group] for group in groups_of_same([_first_picture(s) for s in samples])]


def _first_picture(sample: Sample) -> Path | None:
    return sample.files[0] if sample.files else None


def _part(dataset: Dataset, samples: list[Sample]) -> Dataset:
    pictures = [s for s in samples if isinstance(s, PictureSample)]
    clips = [s for s in samples if isinstance(s, ClipSample)]
    return replace(dataset, pictures=pictures, clips=clips)
