"""Masks whose edges were softened, by resizing or by drawing: which flat value each edge pixel belongs to.

    0 0 64 191 255 255   ->   0 0 0 255 255 255

Numbers must stay numbers: a value that fills an area anywhere is an object, and only what lies in between, and is never
wider than an edge, is taken for soft.
"""

from __future__ import annotations

import cv2
import numpy as np

_EDGE = np.ones((9, 9), np.uint8)  # how far an edge pixel may be from the flat areas that it lies between
_CONTRAST = 32  # of 255; softening between values that are nearer makes other numbers, and nobody could tell
_MOST_LEVELS = 64  # flat values of one mask
_FEW = 16  # grey values; resizing by a small factor makes no more
_RINGING = 32  # of 255; how far sharp resizing and JPEG move black and white
_NUMBERS = 100  # up to here, 255 beside numbers is void, and no white


def is_one_soft_object(values: np.ndarray) -> bool:
    """Whether a grey picture is black and white with soft edges.

    Args:
        values: uint8 [H, W].
    """
    counts = np.bincount(values.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    top = int(found[-1])
    margin = 0 if len(found) <= _FEW else _RINGING
    between = found[(found > margin) & (found < top - margin)]
    if top < 128 or not len(between) or between[-1] < _NUMBERS:
        return False
    inner, white = counts[between].sum(), counts[max(top - margin, 0) :].sum()
    if inner > 0.5 * values.size or (margin and (len(between) < 4 or white < 0.25 * inner)):
        return False
    is_between = (values > margin) & (values < top - margin)
    areas = is_between & _flat(values, 3, 0)
    if margin:  # areas of a value that JPEG made uneven
        areas |= is_between & _flat(values, 5, 4)
    return int(areas.sum()) <= (values.size / 10_000 if margin else 0)


def hardened(values: np.ndarray) -> np.ndarray | None:
    """A mask of several flat values with soft edges between them, made hard.

    Args:
        values: uint8 [H, W] grey or [H, W, 3] colours.
    Returns:
        the same, with each edge pixel given to the nearest of the flat values around it; None if edges are not soft.
    """
    channels = values.reshape(*values.shape[:2], -1)
    code = _packed(channels)
    flat = _flat(channels, 3, 0)
    levels = np.unique(code[flat])
    thin = ~np.isin(code, levels)
    edges = (code[:, 1:] != code[:, :-1]).sum() + (code[1:] != code[:-1]).sum()
    if not 2 <= len(levels) <= _MOST_LEVELS or thin.sum() < 0.05 * edges:
        return None
    low, high = _around(channels, flat)
    inside = ((channels >= low) & (channels <= high)).all(axis=2)
    inside &= (high.astype(int) - low).max(axis=2) >= _CONTRAST
    if not thin.any() or (inside & thin).sum() < 0.9 * thin.sum():
        return None
    solid = cv2.dilate(flat.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    ends = (channels == low).all(axis=2) | (channels == high).all(axis=2)
    unsure = thin | (~solid & inside & ~ends)
    result = channels.copy()
    result[unsure] = _nearest(channels, code, flat, levels, unsure)
    return result.reshape(values.shape)


def one_colour(colours: np.ndarray) -> np.ndarray | None:
    """The object of a lossy file that has one colour on black, bool [H, W]; None if it is anything else.

    Args:
        colours: uint8 [H, W, 3].
    """
    brightness = colours.max(axis=2)
    bright = brightness > brightness.max() // 2
    colour = np.median(colours[bright], axis=0)
    if colour.max() < 64:
        return None
    to_colour = np.linalg.norm(colours - colour, axis=2)
    to_black = np.linalg.norm(colours.astype(float), axis=2)
    is_either = np.minimum(to_colour, to_black) < max(48, 0.2 * np.linalg.norm(colour))
    # chroma is smeared over some pixels along the edge, and nowhere else
    inside = np.asarray(to_colour < to_black).astype(np.uint8)
    edge = cv2.dilate(inside, np.ones((17, 17), np.uint8)) != cv2.erode(inside, np.ones((17, 17), np.uint8))
    if is_either.mean() < 0.9 or not is_either[~edge].all():
        return None
    return inside > 0


def _flat(values: np.ndarray, width: int, tolerance: int) -> np.ndarray:
    """bool [H, W]: where all pixels around have nearly the same value."""
    window = np.ones((width, width), np.uint8)
    channels = values.reshape(*values.shape[:2], -1)
    spread = cv2.dilate(channels, window).astype(int) - cv2.erode(channels, window)
    return np.all(spread.reshape(channels.shape) <= tolerance, axis=2)


def _around(channels: np.ndarray, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest flat value near each pixel, channel by channel."""
    low = cv2.erode(np.where(flat[..., None], channels, 255), _EDGE)
    high = cv2.dilate(np.where(flat[..., None], channels, 0), _EDGE)
    return low.reshape(channels.shape), high.reshape(channels.shape)


def _nearest(
    channels: np.ndarray, code: np.ndarray, flat: np.ndarray, levels: np.ndarray, unsure: np.ndarray
) -> np.ndarray:
    """For each unsure pixel, the flat value around it that is nearest in colour: uint8 [N, C]."""
    wanted = channels[unsure].astype(int)
    costs = np.full((len(levels), len(wanted)), np.inf)
    shown = np.stack([channels[flat & (code == level)][0] for level in levels])
    for row, level in enumerate(levels):
        near = cv2.dilate((flat & (code == level)).astype(np.uint8), _EDGE)[unsure] > 0
        distance = ((wanted - shown[row].astype(int)) ** 2).sum(axis=1)
        costs[row] = np.where(near, distance, distance + 10**9)  # those around go first
    return shown[costs.argmin(axis=0)]


def _packed(channels: np.ndarray) -> np.ndarray:
    """int32 [H, W]: one number per colour."""
    code = channels[..., 0].astype(np.int32)
    for c in range(1, channels.shape[2]):
        code = code << 8 | channels[..., c]
    return code
