"""Which samples are learnt from and which are held out, and by what a dataset or a sample is recognised.

A dataset's own "train" and "val" are kept. Otherwise each name draws its side by a hash, the same on every machine, so
that a sample stays where it is when others are added; pictures that look the same stay together, or the held-out score
would be flattered. They are found by thumbnails first, then, for the few that agree, pixel by pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2kit.data.sample import Dataset, Sample
from sam2kit.hardware import usable_cores
from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.pictures import open_image, read_picture

_END_BYTES = 64 * 1024
_SIDE = 16  # of a thumbnail
_THUMBNAIL_GAP = 6  # of 255, the most by which a cell may differ
_PIXEL_GAP = 4.0  # of 255, on average: what saving as JPEG again changes
_NEIGHBOURS = 4  # with how many agreeing pictures each one is compared


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
            return replace(dataset, samples=kept), dataset.of_split(name)
    same = groups_of_same([next(iter(sample.pixels.files), None) for sample in samples])
    if len(same) == 1:  # all look the same: better to part them than not to test at all
        same = [[i] for i in range(len(samples))]
    names = [[samples[i].name for i in group] for group in same]
    drawn = sorted((min(_draw(name, seed) for name in group), group) for group in names)
    ours = [group for drew, group in drawn if drew < held_out] or [drawn[0][1]]
    held = {name for group in ours[: len(drawn) - 1] for name in group}
    return dataset.subset({s.name for s in samples} - held), dataset.subset(held)


def _draw(name: str, seed: int) -> float:
    """0..1, evenly, from a name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def groups_of_same(paths: Sequence[Path | None]) -> list[list[int]]:
    """Numbers of pictures in groups that show the same; most groups have one member.

    Args:
        paths: of picture files; None and what cannot be read are on their own.
    Returns:
        groups in the order of their first members.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        return groups_of_agreeing(paths, list(pool.map(_thumbnail_of_file, paths)))


def groups_of_agreeing(paths: Sequence[Path | None], thumbnails: Sequence[np.ndarray | None]) -> list[list[int]]:
    """Like `groups_of_same`, for thumbnails that are there already: int16 [16, 16] each."""
    group_of = [[i] for i in range(len(paths))]  # lists that are shared by their members
    seen = {i: thumbnail.ravel() for i, thumbnail in enumerate(thumbnails) if thumbnail is not None}
    known = list(seen)
    for one, other in _agreeing(np.stack(list(seen.values()))) if seen else ():
        first, second = group_of[known[one]], group_of[known[other]]
        if first is second:
            continue
        pixels, others = _pixels(paths[known[one]]), _pixels(paths[known[other]])
        if pixels is None or others is None or pixels.shape != others.shape:
            continue
        if cv2.absdiff(pixels, others).mean() <= _PIXEL_GAP:
            first += second
            for i in second:
                group_of[i] = first
    groups = {id(group): sorted(group) for group in group_of}
    return sorted(groups.values())


def _thumbnail_of_file(path: Path | None) -> np.ndarray | None:
    """int16 [16, 16] grey, quickly; None if there is no picture to read."""
    if path is None or path.suffix.lower() not in PICTURE_SUFFIXES:
        return None
    try:
        with open_image(path) as image:
            image.draft("L", (8 * _SIDE, 8 * _SIDE))  # JPEG decodes an eighth at once
            small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        return np.asarray(small, np.int16)
    except Exception:  # what is broken is reported by reading it as a whole
        return None


def thumbnail_of(image: np.ndarray) -> np.ndarray:
    """int16 [16, 16] grey of a picture uint8 [H, W, 3]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)


def _agreeing(stack: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows that differ little everywhere; of many alike, each with its next few."""
    means = stack.mean(axis=1)
    order = np.argsort(means, kind="stable")
    stops = np.searchsorted(means[order], means[order] + 2.0, side="right")
    for place, (row, stop) in enumerate(zip(order, stops, strict=True)):
        others = order[place + 1 : stop]
        near = np.abs(stack[others] - stack[row]).max(axis=1, initial=0) <= _THUMBNAIL_GAP
        yield from ((int(row), int(other)) for other in others[near][:_NEIGHBOURS])


@lru_cache(maxsize=4)
def _pixels(path: Path | None) -> np.ndarray | None:
    try:
        return None if path is None else read_picture(path)
    except (ValueError, OSError):
        return None


def fingerprint(dataset: Dataset) -> str:
    """32 hexadecimal digits of a dataset: its samples' names and splits, and their files.

    Of a large file only size, beginning and end count, so that a dataset of any size takes little time. Paths above the
    dataset, dates and the order of files do not count.
    """
    samples = sorted(dataset.samples, key=lambda sample: sample.name)
    digest = hashlib.sha256()
    for source in sorted(dataset.sources, key=lambda p: p.name):
        digest.update(_digest(source, whole=True))
    for sample in samples:
        digest.update(repr((sample.name, sample.split)).encode())
    with ThreadPoolExecutor(usable_cores()) as pool:
        for ends in pool.map(_digest, [path for sample in samples for path in sample.files]):
            digest.update(ends)
    return digest.hexdigest()[:32]


def content_keys(samples: Sequence[Sample]) -> list[str]:
    """16 hexadecimal digits for each sample that recognise its files, whatever its name, place and annotations.

    The picture's file counts, of a clip the video's, or its first, middle and last frame's; of a large file only size,
    beginning and end. A picture that was saved anew is another one.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(_content_key, samples))


def _content_key(sample: Sample) -> str:
    files, digest = sample.pixels.files, hashlib.sha256()
    if files:
        for place in dict.fromkeys((0, len(files) // 2, len(files) - 1)):
            digest.update(_digest(files[place], named=False))
    else:  # it is in memory
        image = sample.frame(0)
        digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()[:16]


def _digest(path: Path, *, named: bool = True, whole: bool = False) -> bytes:
    """Of a file's name, size, beginning and end, or of all of it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(size if whole else _END_BYTES)
            file.seek(max(len(content), size - _END_BYTES))
            content += file.read()
    except OSError:  # a file that is gone is a change too
        return b"missing"
    return hashlib.sha256(repr((path.name if named else "", size)).encode() + content).digest()
