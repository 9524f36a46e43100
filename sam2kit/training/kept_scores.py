"""Scores of base models, kept on disk: whoever trains twice from the same base does not wait for it twice.

    ~/.cache/sam2kit/scores/<model>.json     pixels and masks of a sample -> its rows, and the seconds they took

`<model>` stands for weights, settings, precision, kind of device and version of this package, so that nothing is taken
for the same that is not. SAM2KIT_CACHE names another folder than ~/.cache/sam2kit; it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam2kit._version import __version__
from sam2kit.datasets.samples import ClipSample, Sample
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.runs import model_fingerprint
from sam2kit.files import read_json
from sam2kit.model.sam2 import SAM2
from sam2kit.weight_files import write_json


def cache_folder() -> Path:
    """Where this package keeps what it can compute again."""
    return Path(os.environ.get("SAM2KIT_CACHE") or Path.home() / ".cache" / "sam2kit")


class KeptScores:
    """The scores of one model by one way of measuring.

    Args:
        model: as it is asked.
        measure: names the way of measuring.
    """

    def __init__(self, model: SAM2, measure: str) -> None:
        device = next(model.parameters()).device.type
        about = repr((measure, model_fingerprint(model), device, __version__))
        self.path = cache_folder() / "scores" / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.json"
        self._entries = self._read()
        self._fresh: dict[str, Any] = {}

    def rows(self, sample: Sample, measure: Callable[[], list[ObjectRow]]) -> tuple[list[ObjectRow], float]:
        """The sample's rows, and how many seconds they took when they were computed.

        Args:
            measure: computes them, if they are not there.
        """
        key = _key(sample)
        known = self._entries.get(key)
        if known is not None:
            return [replace(ObjectRow.from_dict(row), sample=sample.name) for row in known["rows"]], known["seconds"]
        started = time.monotonic()
        rows = measure()
        seconds = time.monotonic() - started
        self._entries[key] = self._fresh[key] = {"rows": [row.as_dict() for row in rows], "seconds": seconds}
        return rows, seconds

    def write(self) -> None:
        """Keep what is new, beside what another process has written meanwhile."""
        if self._fresh:
            try:
                write_json(self._read() | self._fresh, self.path)
            except OSError as error:
                warnings.warn(f"{error}; the base model will be evaluated again next time")
            self._fresh = {}

    def _read(self) -> dict[str, Any]:
        try:
            content = read_json(self.path)
            entries = {key: entry for key, entry in content.items() if _is_entry(entry)}
        except (OSError, ValueError, AttributeError):  # not there, or damaged: computed again
            return {}
        return entries


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("rows"), list) and isinstance(entry.get("seconds"), float)


def _key(sample: Sample) -> str:
    """Recognises what is measured on: every pixel and every mask, whatever files they come from."""
    digest = hashlib.sha256()
    if isinstance(sample, ClipSample):
        for index in range(sample.frame_count):
            digest.update(sample.frame(index).tobytes())
        for index in sample.truth_frames:
            read = sample.read([index])
            digest.update(repr((index, read.frames.shape, sorted(read.masks))).encode())
            for number in sorted(read.masks):
                digest.update(read.masks[number].tobytes())
    else:
        picture = sample.read()
        digest.update(repr(picture.image.shape).encode() + picture.image.tobytes())
        for mask in picture.masks:
            digest.update(mask.tobytes())
    return digest.hexdigest()
