"""What objects and backgrounds of procedural scenes look like: silhouettes of many kinds, and a bank of textures.

Before scenes.py. Each shape is drawn at the origin as closed outlines of about unit radius, then turned, squeezed,
moved and filled by `fill`. Textures are painted once and cut out many times; banks of different seeds share none, so a
held-out bank tests what was never trained on. They are float32 RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


TILE = 256  # edge of a bank texture, in pixels

_PHOTO_SHARE = 0.4


class TextureBank:
    """A fixed number of textures from one seed.

    Args:
        seed: decides every texture.
        count: number of procedural textures.
        photos: uint8 [H, W, 3] pictures of real surfaces; two fifths of all cuts come from them.
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
