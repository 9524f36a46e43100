"""Surfaces for procedural scenes: a bank of textures, painted once and cut out many times.

Before scenes.py, which dresses objects and backgrounds with random cuts of a bank. Banks of different seeds
share no texture, so a held-out bank tests what was never trained on. Everything is float32 RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator

TILE = 256  # edge of a bank texture, in pixels
_PHOTO_SHARE = 0.1


class TextureBank:
    """A fixed number of textures from one seed.

    Args:
        seed: decides every texture.
        count: number of procedural textures.
        photos: uint8 [H, W, 3] pictures of real surfaces; a tenth of all cuts comes from them.
    """

    def __init__(self, seed: int, *, count: int = 320, photos: Sequence[np.ndarray] = ()) -> None:
        rng = np.random.default_rng([seed, 1])
        self._tiles = [paint_texture(rng) for _ in range(count)]
        self._photos = list(photos)

    def cut(self, rng: Generator, height: int, width: int) -> np.ndarray:
        """A random cut, turned, scaled and recoloured: float32 [height, width, 3] in 0..1."""
        if self._photos and rng.random() < _PHOTO_SHARE:
            photo = self._photos[rng.integers(len(self._photos))]
            source = photo.astype(np.float32) / 255
        else:
            source = self._tiles[rng.integers(len(self._tiles))]
        angle, scale = rng.uniform(0, 360), np.exp(rng.uniform(-0.9, 0.7)) * max(height, width) / TILE
        centre = source.shape[1] / 2, source.shape[0] / 2
        matrix: np.ndarray = cv2.getRotationMatrix2D(centre, angle, max(scale, 0.25))
        matrix[:, 2] += rng.uniform(-TILE, TILE, 2)
        cut = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return recolour(rng, cut)


def bank_seed(*numbers: int) -> int:
    """A seed for a bank, mixed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def recolour(rng: Generator, texture: np.ndarray) -> np.ndarray:
    """Mix the channels, change contrast and brightness; sometimes keep it nearly as it was."""
    if rng.random() < 0.3:
        return np.clip(texture * rng.uniform(0.8, 1.2, 3).astype(np.float32), 0, 1)
    mix = np.eye(3) * rng.uniform(0.3, 1.0) + rng.uniform(-0.5, 0.5, (3, 3))
    contrast = rng.choice([0.15, 0.4, 0.8, 1.2])
    centre = rng.uniform(0.1, 0.9, 3)
    mixed = cv2.transform(texture - np.float32(0.5), (mix * contrast).astype(np.float32))
    return np.clip(mixed + centre.astype(np.float32), 0, 1)


def noise(rng: Generator, roughness: float, *, octaves: int = 6) -> np.ndarray:
    """Fractal noise [TILE, TILE] stretched to 0..1; roughness 0.3 is cloudy, 0.9 is grainy."""
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        cells = 2 ** (octave + 1) + 1
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (TILE, TILE), interpolation=cv2.INTER_CUBIC) * roughness**octave
    return stretch(total)


def stretch(values: np.ndarray) -> np.ndarray:
    """Map the smallest value to 0 and the largest to 1."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-6)


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32) / TILE
    return x, y


def _flat(rng: Generator) -> np.ndarray:
    return np.full((TILE, TILE), 0.5, np.float32) + 0.1 * noise(rng, 0.4, octaves=3)


def _gradient(rng: Generator) -> np.ndarray:
    x, y = _coordinates()
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        return stretch(np.hypot(x - rng.random(), y - rng.random()))
    return stretch(np.cos(angle) * x + np.sin(angle) * y)


def _clouds(rng: Generator) -> np.ndarray:
    return noise(rng, rng.uniform(0.35, 0.6))


def _grain(rng: Generator) -> np.ndarray:
    return noise(rng, rng.uniform(0.75, 1.1), octaves=7)


def _spots(rng: Generator) -> np.ndarray:
    field = noise(rng, rng.uniform(0.4, 0.8))
    sharp = rng.uniform(6, 60)
    return 1 / (1 + np.exp(-sharp * (field - rng.uniform(0.4, 0.6))))


def _stripes(rng: Generator) -> np.ndarray:
    x, y = _coordinates()
    angle, count = rng.uniform(0, np.pi), rng.uniform(3, 30)
    warp = noise(rng, 0.4, octaves=4) * rng.choice([0.0, 0.1, 0.4])
    wave = np.sin(2 * np.pi * count * (np.cos(angle) * x + np.sin(angle) * y + warp))
    return stretch(np.tanh(wave * rng.choice([0.5, 2.0, 10.0])))


def _checker(rng: Generator) -> np.ndarray:
    x, y = _coordinates()
    nx, ny = rng.uniform(3, 16, 2)
    return stretch(np.tanh(4 * np.sin(2 * np.pi * nx * x) * np.sin(2 * np.pi * ny * y)))


def _bricks(rng: Generator) -> np.ndarray:
    x, y = _coordinates()
    rows, columns, joint = rng.uniform(4, 14), rng.uniform(2, 8), rng.uniform(0.04, 0.15)
    row = np.floor(y * rows)
    u = x * columns + 0.5 * (row % 2)
    wall = ((u % 1) > joint) & ((y * rows % 1) > joint)
    tone = np.sin(row * 12.9898 + np.floor(u) * 78.233) * 0.25 + 0.6
    return np.where(wall, tone + 0.1 * noise(rng, 0.8), 0.1).astype(np.float32)


def _dots(rng: Generator) -> np.ndarray:
    x, y = _coordinates()
    count, size = rng.uniform(4, 16), rng.uniform(0.15, 0.4)
    distance = np.hypot((x * count) % 1 - 0.5, (y * count) % 1 - 0.5)
    return 1 / (1 + np.exp(40 * (distance - size)))


def _cells(rng: Generator) -> np.ndarray:
    seeds = np.ones((TILE, TILE), np.uint8)
    points = rng.integers(0, TILE, (int(rng.integers(20, 300)), 2))
    seeds[points[:, 1], points[:, 0]] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    if rng.random() < 0.5:
        return stretch(distance)
    return rng.random(labels.max() + 1).astype(np.float32)[labels]


def _rings(rng: Generator) -> np.ndarray:
    x, y = _coordinates()
    distance = np.hypot((x - rng.uniform(-0.5, 1.5)) * rng.uniform(0.2, 1), y - rng.uniform(-0.5, 1.5))
    return stretch(np.sin(2 * np.pi * rng.uniform(4, 20) * (distance + 0.15 * noise(rng, 0.5))))


def _fibres(rng: Generator) -> np.ndarray:
    length = int(rng.integers(8, 60))
    kernel = np.zeros((length, length), np.float32)
    centre, angle = length / 2, rng.uniform(0, np.pi)
    reach = centre * np.array([np.cos(angle), np.sin(angle)])
    start, end = (centre - reach).astype(int).tolist(), (centre + reach).astype(int).tolist()
    cv2.line(kernel, start, end, 1.0, 1)
    return stretch(cv2.filter2D(rng.random((TILE, TILE)).astype(np.float32), -1, kernel / max(kernel.sum(), 1)))


FAMILIES: tuple[Callable[[Generator], np.ndarray], ...] = (
    _flat, _flat, _gradient, _clouds, _clouds, _grain, _spots, _stripes, _checker, _bricks, _dots, _cells, _rings,
    _fibres,
)  # fmt: skip


def paint_texture(rng: Generator) -> np.ndarray:
    """One texture: a family's pattern, coloured along two or three random colours, often with a second layer."""
    pattern = FAMILIES[rng.integers(len(FAMILIES))](rng)
    painted = _colour(rng, pattern)
    if rng.random() < 0.35:
        second = _colour(rng, FAMILIES[rng.integers(len(FAMILIES))](rng))
        share = rng.uniform(0.15, 0.6) * (noise(rng, 0.5)[..., None] if rng.random() < 0.5 else 1.0)
        painted = painted * (1 - share) + second * share
    return np.clip(painted, 0, 1).astype(np.float32)


def _colour(rng: Generator, pattern: np.ndarray) -> np.ndarray:
    stops = rng.random((3, 3)).astype(np.float32)
    if rng.random() < 0.5:  # relatives of one colour, as most real surfaces are
        stops = np.clip(stops[0] + rng.normal(0, 0.12, (3, 3)), 0, 1).astype(np.float32)
    position = np.clip(pattern, 0, 1)[..., None] * 2
    low, high = np.minimum(position, 1), np.maximum(position - 1, 0)
    return stops[0] * (1 - low) + stops[1] * (low - high) + stops[2] * high
