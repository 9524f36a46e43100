"""Pictures that show the same thing: first by thumbnails, then, for the few that agree, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.pictures import open_image, read_picture
from sam2kit.threads import usable_cores

_SIDE = 16  # of a thumbnail
_THUMBNAIL_GAP = 6  # of 255, the most by which a cell may differ
_PIXEL_GAP = 4.0  # of 255, on average: what saving as JPEG again changes
_NEIGHBOURS = 4  # with how many agreeing pictures each one is compared


def groups_of_same(paths: Sequence[Path | None]) -> list[list[int]]:
    """Numbers of pictures in groups that show the same; most groups have one member.

    Args:
        paths: of picture files; None and what cannot be read are on their own.
    Returns:
        groups in the order of their first members.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        thumbnails = list(pool.map(thumbnail_of_file, paths))
    return groups_of_agreeing(paths, thumbnails)


def groups_of_agreeing(paths: Sequence[Path | None], thumbnails: Sequence[np.ndarray | None]) -> list[list[int]]:
    """Like `groups_of_same`, for thumbnails that are there already: int16 [16, 16] each."""
    leader = list(range(len(paths)))
    seen = {i: thumbnail for i, thumbnail in enumerate(thumbnails) if thumbnail is not None}
    if seen:
        known = list(seen)
        stack = np.stack([thumbnail.ravel() for thumbnail in seen.values()])
        for one, other in _agreeing(stack):
            first, second = _leader(leader, known[one]), _leader(leader, known[other])
            if first != second and _same(paths[known[one]], paths[known[other]]):
                leader[max(first, second)] = min(first, second)
    groups: dict[int, list[int]] = {}
    for i in range(len(paths)):
        groups.setdefault(_leader(leader, i), []).append(i)
    return list(groups.values())


def thumbnail_of_file(path: Path | None) -> np.ndarray | None:
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


def _leader(leader: list[int], number: int) -> int:
    """The first member of a number's group."""
    while leader[number] != number:
        number = leader[number]
    return number


def _agreeing(stack: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that differ little everywhere; of many alike, each with its next few."""
    means = stack.mean(axis=1)
    order = np.argsort(means, kind="stable")
    stops = np.searchsorted(means[order], means[order] + 2.0, side="right")
    pairs = []
    for place, (row, stop) in enumerate(zip(order, stops, strict=True)):
        others = order[place + 1 : stop]
        near = np.abs(stack[others] - stack[row]).max(axis=1, initial=0) <= _THUMBNAIL_GAP
        pairs += [(int(row), int(other)) for other in others[near][:_NEIGHBOURS]]
    return pairs


def _same(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None:
        return False
    first, second = _pixels(one), _pixels(other)
    if first is None or second is None or first.shape != second.shape:
        return False
    return float(cv2.absdiff(first, second).mean()) <= _PIXEL_GAP


@lru_cache(maxsize=4)
def _pixels(path: Path) -> np.ndarray | None:
    try:
        return read_picture(path)
    except (ValueError, OSError):
        return None
