"""Silhouettes for procedural scenes: many kinds of outline as filled boolean masks.

Each shape is drawn at the origin as closed outlines of about unit radius, then turned, squeezed, moved and
filled by `fill`. Before scenes.py.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

Outlines = list[np.ndarray]  # closed polygons [N, 2]; overlapping ones cut holes (even-odd rule)

_SUBPIXEL = 4  # binary digits of the fixed-point coordinates that OpenCV fills


def random_silhouette(rng: Generator, side: int, *, centre_xy: np.ndarray, radius: float) -> np.ndarray:
    """A filled random shape.

    Args:
        side: edge of the square canvas, in pixels.
        centre_xy: where the shape's origin goes, in pixels; may lie outside.
        radius: about the distance from origin to outline, in pixels.
    Returns:
        bool [side, side].
    """
    kind = KINDS[rng.integers(len(KINDS))]
    angle, squeeze = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.7, 0.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = radius * turn @ np.diag([1.0, squeeze])
    parts = kind(rng)
    mask = np.zeros((side, side), bool)
    for outlines in parts:
        mask |= fill([o @ matrix.T + centre_xy for o in outlines], side)
    return mask


def fill(outlines: Outlines, side: int) -> np.ndarray:
    """Fill closed outlines given in pixels: bool [side, side]."""
    canvas = np.zeros((side, side), np.uint8)
    scaled = [np.round(np.clip(o, -8 * side, 8 * side) * (1 << _SUBPIXEL)).astype(np.int32) for o in outlines]
    cv2.fillPoly(canvas, scaled, 1, shift=_SUBPIXEL)
    return canvas.astype(bool)


def _circle(points: int = 48) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], axis=1)


def _superellipse(rng: Generator) -> list[Outlines]:
    power = rng.choice([0.25, 0.5, 0.8, 1.0, 1.0, 1.4])
    c = _circle()
    return [[np.sign(c) * np.abs(c) ** power]]


def _blob(rng: Generator) -> list[Outlines]:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    strength = rng.uniform(0.1, 0.5)
    r = np.ones_like(t)
    for k in range(2, 7):
        r += strength / k * rng.normal() * np.cos(k * t + rng.uniform(0, 2 * np.pi))
    return [[np.clip(r, 0.15, 2)[:, None] * _circle(72)]]


def _polygon(rng: Generator) -> list[Outlines]:
    n = int(rng.integers(3, 9))
    t = np.sort((np.arange(n) + rng.uniform(0, 0.8, n)) * 2 * np.pi / n)
    r = rng.uniform(0.6, 1.1, n)
    return [[np.stack([r * np.cos(t), r * np.sin(t)], axis=1)]]


def _star(rng: Generator) -> list[Outlines]:
    n = int(rng.integers(4, 10))
    t = np.arange(2 * n) * np.pi / n
    r = np.where(np.arange(2 * n) % 2, rng.uniform(0.3, 0.7), 1.0)
    return [[np.stack([r * np.cos(t), r * np.sin(t)], axis=1)]]


def _ring(rng: Generator) -> list[Outlines]:
    return [[_circle(), _circle() * rng.uniform(0.4, 0.8) + rng.uniform(-0.1, 0.1, 2)]]


def _crescent(rng: Generator) -> list[Outlines]:
    t = np.linspace(-2.2, 2.2, 40)
    outer = np.stack([np.cos(t), np.sin(t)], axis=1)
    inner = np.stack([np.cos(t) * rng.uniform(0.3, 0.7), np.sin(t)], axis=1)[::-1]
    return [[np.concatenate([outer, inner])]]


def _stroke(rng: Generator) -> list[Outlines]:
    """A bent band: hoses, branches, handles."""
    points = np.cumsum(rng.normal(0, 0.5, (4, 2)), axis=0)
    t = np.linspace(0, 1, 24)[:, None]
    basis = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
    line = sum(b * p for b, p in zip(basis, points - points.mean(0), strict=True))
    return [[_band(line, np.linspace(rng.uniform(0.1, 0.3), rng.uniform(0.05, 0.3), 24))]]


def _band(line: np.ndarray, width: np.ndarray) -> np.ndarray:
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    return np.concatenate([line + across * width[:, None], (line - across * width[:, None])[::-1]])


def _limbed(rng: Generator) -> list[Outlines]:
    """A body with limbs and perhaps a head: animals, people, plants, tools."""
    body = _blob(rng)[0][0] * np.array([0.6, rng.uniform(0.3, 0.6)])
    parts = [[body]]
    for _ in range(int(rng.integers(2, 7))):
        start = body[rng.integers(len(body))]
        direction = start / max(np.linalg.norm(start), 1e-6)
        bend = direction + rng.normal(0, 0.4, 2)
        reach = rng.uniform(0.3, 0.9)
        line = (
            start * 0.8
            + np.linspace(0, 1, 8)[:, None] * (direction * reach)
            + (np.linspace(0, 1, 8)[:, None] ** 2 * (bend - direction) * reach)
        )
        parts.append([_band(line, np.linspace(rng.uniform(0.08, 0.2), rng.uniform(0.03, 0.15), 8))])
    if rng.random() < 0.6:
        head = body[rng.integers(len(body))] * 1.2
        parts.append([_blob(rng)[0][0] * rng.uniform(0.2, 0.4) + head])
    return parts


def _cluster(rng: Generator) -> list[Outlines]:
    """Two to five overlapping shapes with one outline: furniture, machines, fruit."""
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        piece = (_superellipse, _polygon, _blob)[rng.integers(3)](rng)[0][0]
        parts.append([piece * rng.uniform(0.25, 0.7, 2) + rng.uniform(-0.5, 0.5, 2)])
    return parts


def _vessel(rng: Generator) -> list[Outlines]:
    """A turned profile, mirrored: bottles, vases, lamps, towers."""
    n = int(rng.integers(3, 7))
    y = np.linspace(-1, 1, 24)
    profile = np.interp(y, np.linspace(-1, 1, n), rng.uniform(0.1, 0.6, n))
    right, left = np.stack([profile, y], axis=1), np.stack([-profile, y], axis=1)[::-1]
    parts = [[np.concatenate([right, left])]]
    if rng.random() < 0.3:  # a handle
        parts.append([_circle() * 0.4 + [0.5, 0], _circle() * 0.27 + [0.5, 0]])
    return parts


def _letter(rng: Generator) -> list[Outlines]:
    """A printed character, traced from OpenCV's font."""
    canvas = np.zeros((64, 64), np.uint8)
    character = "ABCDEFGHJKLMNPRSTUVXYZ2345679"[rng.integers(29)]
    cv2.putText(canvas, character, (12, 50), cv2.FONT_HERSHEY_SIMPLEX, 1.8, 1, int(rng.integers(4, 10)))
    contours, _ = cv2.findContours(canvas, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [[(c[:, 0].astype(np.float64) - 32) / 24 for c in contours if len(c) > 2]]


KINDS: tuple[Callable[[Generator], list[Outlines]], ...] = (
    _superellipse, _superellipse, _blob, _blob, _blob, _polygon, _polygon, _star, _ring, _crescent, _stroke, _limbed,
    _limbed, _limbed, _cluster, _cluster, _vessel, _vessel, _letter,
)  # fmt: skip
