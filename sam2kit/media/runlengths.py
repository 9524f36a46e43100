"""Masks as COCO run lengths: lossless, small, and read by everything.

Runs go column by column and start with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_MOST_BITS = 40  # of a run length
_MOST_PIXELS = 200_000_000


def mask_to_runs(mask: np.ndarray) -> dict[str, Any]:
    """bool [H, W] -> uncompressed COCO run lengths {"size": [H, W], "counts": [...]}, column by column.

    The first run counts zeros.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(bounds).tolist()
    return {"size": list(mask.shape), "counts": ([0, *counts] if flat.size and flat[0] else counts)}


def runs_to_mask(runs: Mapping[str, Any]) -> np.ndarray:
    """The inverse of `mask_to_runs`; also reads compressed counts. Returns bool [H, W].

    Raises:
        ValueError: if the runs do not fill the picture.
    """
    try:
        (height, width), counts = runs["size"], runs["counts"]
        if isinstance(counts, (str, bytes)):
            counts = _unpack(counts.decode("ascii") if isinstance(counts, bytes) else counts)
        whole = all(isinstance(n, (int, np.integer)) for n in (height, width, *counts))
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    except (TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"run lengths are {{'size': [H, W], 'counts': [...]}}, got {runs!r:.80}") from error
    if not whole or min(height, width) < 0 or height * width > _MOST_PIXELS:
        raise ValueError(f"run lengths are whole numbers, of at most {_MOST_PIXELS / 1e6:.0f} million pixels")
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(
            f"run lengths add up to {sum(counts)}, but a {width}x{height} mask has {height * width} pixels"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def compress_runs(runs: Mapping[str, Any]) -> dict[str, Any]:
    """Uncompressed run lengths -> COCO's compressed string form, as pycocotools writes it.

    Each count (from the fourth on, its difference to the one two before) is written in groups of 5 bits,
    least significant first, as printable characters.
    """
    text = []
    counts = runs["counts"]
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text.append(chr(bits + (0 if done else 32) + 48))
            if done:
                break
    return {"size": runs["size"], "counts": "".join(text)}


def _unpack(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _MOST_BITS:
            raise ValueError(f"run lengths hold {character!r}, or a number that no mask needs; export this mask again")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts
