"""A short text that recognises a dataset, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from sam2kit.datasets.samples import Dataset
from sam2kit.threads import usable_cores

_END_BYTES = 64 * 1024


def fingerprint(dataset: Dataset) -> str:
    """32 hexadecimal digits of a dataset: its samples' names and splits, and their files.

    Of a large file only size, beginning and end count, so that a dataset of any size takes little time. Paths above the
    dataset, dates and the order of files do not count.
    """
    samples = sorted(dataset.samples, key=lambda sample: sample.name)
    digest = hashlib.sha256()
    with ThreadPoolExecutor(usable_cores()) as pool:
        for source in pool.map(_whole, sorted(dataset.sources, key=lambda p: p.name)):
            digest.update(source)
        for sample in samples:
            digest.update(repr((sample.name, sample.split)).encode())
        for ends in pool.map(_ends, [path for sample in samples for path in sample.files]):
            digest.update(ends)
    return digest.hexdigest()[:32]


def _whole(path: Path) -> bytes:
    return _hashed(path, lambda file: file.read())


def _ends(path: Path) -> bytes:
    """Digest of a file's size, beginning and end."""

    def read(file: BinaryIO) -> bytes:
        first = file.read(_END_BYTES)
        file.seek(max(len(first), path.stat().st_size - _END_BYTES))
        return first + file.read()

    return _hashed(path, read)


def _hashed(path: Path, read: Callable[[BinaryIO], bytes]) -> bytes:
    try:
        with path.open("rb") as file:
            content = read(file)
            size = path.stat().st_size
    except OSError:  # a file that is gone is a change too
        return b"missing"
    return hashlib.sha256(repr((path.name, size)).encode() + content).digest()
