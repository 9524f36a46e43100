"""Short texts that recognise a dataset, or one sample wherever it lies, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from sam2kit.datasets.samples import ClipSample, Dataset, Sample
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


def content_keys(samples: Sequence[Sample]) -> list[str]:
    """16 hexadecimal digits for each sample that recognise its pixels, whatever its name, place and annotations.

    The picture's file counts, of a clip the video's, or its first, middle and last frame's; of a large file only size,
    beginning and end. A picture that was saved anew is another one.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(_content_key, samples))


def _content_key(sample: Sample) -> str:
    files = sample.picture_files
    digest = hashlib.sha256()
    if files:
        for place in dict.fromkeys((0, len(files) // 2, len(files) - 1)):
            digest.update(_ends(files[place], named=False))
    else:  # it is in memory
        image = sample.frame(0) if isinstance(sample, ClipSample) else sample.read().image
        digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()[:16]


def _whole(path: Path) -> bytes:
    return _hashed(path, lambda file: file.read())


def _ends(path: Path, *, named: bool = True) -> bytes:
    """Digest of a file's size, beginning and end, and of its name."""

    def read(file: BinaryIO) -> bytes:
        first = file.read(_END_BYTES)
        file.seek(max(len(first), path.stat().st_size - _END_BYTES))
        return first + file.read()

    return _hashed(path, read, named=named)


def _hashed(path: Path, read: Callable[[BinaryIO], bytes], *, named: bool = True) -> bytes:
    try:
        with path.open("rb") as file:
            content = read(file)
            size = path.stat().st_size
    except OSError:  # a file that is gone is a change too
        return b"missing"
    return hashlib.sha256(repr((path.name if named else "", size)).encode() + content).digest()
