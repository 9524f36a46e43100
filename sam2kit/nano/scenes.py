"""Painted pictures with exact masks: what the nano model learns from.

A scene is painted back to front: a background of one to four surfaces, then objects with texture, parts,
relief, shadow and sometimes copies of themselves; at last light, blur, noise and JPEG. Every pixel belongs
to exactly one *leaf*; a target is a set of leaves, so that a cup and the picture printed on it are both exact.
A collage is painted in the same way, but over a photograph and mostly with cut-outs of real things.

After appearance.py and real_pixels.py; before streams.py. A scene follows from its random generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator

from sam2kit.nano.appearance import TextureBank, noise, random_silhouette, recolour
from sam2kit.nano.real_pixels import RealPixels

_MAX_OBJECTS = 9
_MIN_SHARE = 0.004  # of the picture (16 x 16 pixels of 256): smaller targets are not asked for
_MIN_VISIBLE = 0.35  # of a target: slivers that stick out behind others are not asked for


@dataclass
class Scene:
    """A picture and everything in it that may be asked for."""

    image: np.ndarray  # uint8 [H, W, 3] RGB
    leaves: np.ndarray  # int16 [H, W]; every pixel's leaf
    targets: list[tuple[int, ...]]  # each a set of leaves
    weights: list[float] = field(default_factory=list)  # how readily each target is drawn

    def mask(self, target: int) -> np.ndarray:
        """bool [H, W]: the visible pixels of one target."""
        return np.isin(self.leaves, self.targets[target])

    def visible_targets(self, min_share: float = _MIN_SHARE, max_share: float = 0.9) -> list[int]:
        """Targets whose share of the picture lies between the two limits."""
        areas = np.bincount(self.leaves.ravel(), minlength=1 + max((max(t) for t in self.targets), default=0))
        share = [areas[list(t)].sum() / self.leaves.size for t in self.targets]
        return [i for i, s in enumerate(share) if min_share <= s <= max_share]


class Canvas:
    """A scene that is being painted."""

    def __init__(self, rng: Generator, bank: TextureBank, side: int) -> None:
        self.rng, self.bank, self.side = rng, bank, side
        self.image = bank.cut(rng, side, side)
        self.leaves = np.zeros((side, side), np.int16)
        self.targets: list[tuple[int, ...]] = []
        self.weights: list[float] = []
        self.areas: list[int] = []  # of each target when it was painted
        self.next_leaf = 1

    def new_leaf(self, mask: np.ndarray) -> int:
        """Give the pixels of a mask [H, W] to a leaf of their own."""
        self.leaves[mask] = self.next_leaf
        self.next_leaf += 1
        return self.next_leaf - 1

    def add_target(self, leaves: tuple[int, ...], weight: float) -> None:
        """Make a set of leaves something that may be asked for."""
        self.targets.append(leaves)
        self.weights.append(weight)
        self.areas.append(self.area(leaves))

    def area(self, leaves: tuple[int, ...]) -> int:
        """Pixels that still show any of the leaves."""
        return int(np.isin(self.leaves, leaves).sum())

    def blend(self, mask: np.ndarray, colours: np.ndarray, softness: float) -> None:
        """Paint colours [H, W, 3] through a mask with slightly soft edges."""
        alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), softness)[..., None]
        self.image += alpha * (colours - self.image)


def random_scene(rng: Generator, bank: TextureBank, side: int = 256) -> Scene:
    """Paint one scene.

    Args:
        rng: decides everything but the textures.
        bank: surfaces to paint with.
        side: edge of the picture, in pixels.
    """
    canvas = Canvas(rng, bank, side)
    paint_background(canvas)
    for _ in range(int(rng.integers(1, _MAX_OBJECTS))):
        _paint_object(canvas)
    return _finished(canvas)


def random_collage(rng: Generator, bank: TextureBank, real: RealPixels, side: int = 256) -> Scene:
    """As `random_scene`, over a photograph, of which nothing is a target, and with cut-outs of real things."""
    canvas = Canvas(rng, bank, side)
    canvas.image = real.ground(rng, side)
    if rng.random() < 0.25:
        canvas.image = cv2.GaussianBlur(canvas.image, (0, 0), rng.uniform(1, 4))
    for _ in range(int(rng.integers(1, _MAX_OBJECTS - 2))):
        if rng.random() < 0.2:
            _paint_object(canvas)
        else:
            _paste_object(canvas, real.cut_out(rng))
    return _finished(canvas)


def _finished(canvas: Canvas) -> Scene:
    """The picture that a camera takes of it, and the targets of which enough is left."""
    image = photograph(canvas.rng, canvas.image)
    kept = [i for i, t in enumerate(canvas.targets) if canvas.area(t) >= _MIN_VISIBLE * canvas.areas[i]]
    return Scene(image, canvas.leaves, [canvas.targets[i] for i in kept], [canvas.weights[i] for i in kept])


def paint_background(canvas: Canvas) -> None:
    """One surface, or two to four that meet along lines or clouds; the regions are weak targets."""
    rng, side = canvas.rng, canvas.side
    canvas.add_target((0,), 0.15)
    for _ in range(int(rng.choice([0, 0, 1, 1, 2, 3]))):
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        wiggle = rng.choice([0.0, 0.15, 0.6]) * (cv2.resize(noise(rng, 0.4, octaves=3), (side, side)) - 0.5)
        region = np.cos(angle) * x + np.sin(angle) * y + wiggle > rng.uniform(-0.1, 0.4)
        if region.mean() > 0.02:
            canvas.blend(region, canvas.bank.cut(rng, side, side), rng.uniform(0.4, 2.0))
            canvas.add_target((canvas.new_leaf(region),), 0.3)
    if rng.random() < 0.3:  # out of focus behind sharp objects
        canvas.image = cv2.GaussianBlur(canvas.image, (0, 0), rng.uniform(1, 5))


def _paint_object(canvas: Canvas) -> None:
    """One object, or a group of look-alikes that are targets each on their own."""
    rng, side = canvas.rng, canvas.side
    radius = side * float(np.exp(rng.uniform(np.log(0.05), np.log(0.55))))
    copies = int(rng.integers(2, 6)) if rng.random() < 0.15 else 1
    seed = int(rng.integers(2**31))
    centre = rng.uniform(0, side, 2)
    if copies > 1:
        radius = min(radius, 0.2 * side)
    for i in range(copies):
        # copies share the seed of shape and dress, and stand side by side
        look = np.random.default_rng(seed)
        place = centre + (rng.normal(0, 1, 2) * radius * 2.2 if i else 0)
        mask = random_silhouette(look, side, centre_xy=place, radius=radius)
        if mask.sum() >= 24:
            dress_object(canvas, look, mask, radius)


def _paste_object(canvas: Canvas, views: list[np.ndarray]) -> None:
    """A cut-out of a real thing, sometimes with look-alikes: the same thing again, from the same side or another."""
    rng, side = canvas.rng, canvas.side
    size = side * float(np.exp(rng.uniform(np.log(0.08), np.log(1.0))))  # of the longer edge
    copies = int(rng.integers(2, 5)) if rng.random() < 0.2 else 1
    if copies > 1:
        size = min(size, 0.4 * side)
    centre, look = rng.uniform(0.05 * side, 0.95 * side, 2), int(rng.integers(2**31))
    for i in range(copies):
        place = centre + (rng.normal(0, 1, 2) * 0.8 * size if i else 0)
        view = views[int(rng.integers(len(views))) if rng.random() < 0.5 else 0]
        view = redressed(np.random.default_rng(look), view)
        colours, coverage = placed(view, _random_shape(rng, view, size), place, side)
        mask = coverage > 0.5
        if mask.sum() < 24:
            continue
        if rng.random() < 0.3:  # into the light of the place
            colours += rng.uniform(0.2, 0.7) * (canvas.image[mask].mean(0) - colours[mask].mean(0))
        _drop_shadow(canvas, rng, mask, size / 2)
        softness = rng.uniform(0.4, 1.5) if rng.random() < 0.25 else 0.0
        if softness:
            colours, coverage = (cv2.GaussianBlur(x, (0, 0), softness) for x in (colours, coverage))
        canvas.image += coverage[..., None] * (np.clip(colours, 0, 1) - canvas.image)
        canvas.add_target((canvas.new_leaf(mask),), 1.0)


def redressed(look: Generator, view: np.ndarray) -> np.ndarray:
    """A cut-out uint8 [h, w, 4], half the time in other colours or another light."""
    if look.random() < 0.5:
        return view
    colours = view[..., :3].astype(np.float32) / 255
    changed = recolour(look, colours) if look.random() < 0.5 else colours * look.uniform(0.5, 1.3)
    return np.concatenate([(np.clip(changed, 0, 1) * 255).astype(np.uint8), view[..., 3:]], axis=2)


def _random_shape(rng: Generator, view: np.ndarray, size: float) -> np.ndarray:
    """[2, 2] matrix that makes a cut-out `size` pixels long, perhaps mirrored, turned and squeezed."""
    angle = rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([rng.choice([-1, 1]) * np.exp(rng.uniform(-0.25, 0.25)), 1.0])
    return size / max(view.shape[:2]) * turn @ squeeze


def placed(view: np.ndarray, matrix: np.ndarray, centre_xy: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out uint8 [h, w, 4] on an empty square: colours float32 [side, side, 3] and coverage [side, side], 0..1."""
    shrink = float(np.sqrt(abs(np.linalg.det(matrix))))
    if shrink < 0.7:  # else fine detail would turn into noise
        height, width = (max(2, round(n * shrink)) for n in view.shape[:2])
        matrix = matrix @ np.diag([view.shape[1] / width, view.shape[0] / height])
        view = cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)
    middle = np.array([view.shape[1] - 1, view.shape[0] - 1]) / 2
    affine = np.column_stack([matrix, centre_xy - matrix @ middle])
    drawn = cv2.warpAffine(view, affine, (side, side), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    return np.ascontiguousarray(drawn[..., :3]), np.ascontiguousarray(drawn[..., 3])


def dress_object(canvas: Canvas, look: Generator, mask: np.ndarray, radius: float) -> None:
    """Paint one object with surface, relief, parts and shadow, all from `look`; it and its parts become targets."""
    side = canvas.side
    x0, y0, x1, y1 = _bounds(mask)
    height, width = y1 - y0, x1 - x0
    colours = np.zeros((side, side, 3), np.float32)
    surface = canvas.bank.cut(look, height, width)
    if look.random() < 0.12:  # camouflage: nearly what lies behind
        behind = canvas.image[y0:y1, x0:x1]
        surface = behind + (surface - surface.mean((0, 1))) * 0.3 + look.normal(0, 0.06, 3).astype(np.float32)
    colours[y0:y1, x0:x1] = surface
    _drop_shadow(canvas, look, mask, radius)
    body = canvas.new_leaf(mask)
    leaves = [body]
    parts: list[tuple[int, ...]] = []
    for _ in range(int(look.choice([0, 0, 0, 1, 2, 3]))):
        part = mask & _part_region(look, side, (x0, y0, x1, y1), radius)
        if not 0.03 < part.sum() / mask.sum() < 0.9:
            continue
        px0, py0, px1, py1 = _bounds(part)
        patch = canvas.bank.cut(look, py1 - py0, px1 - px0)
        inside = part[py0:py1, px0:px1]
        colours[py0:py1, px0:px1][inside] = patch[inside]
        leaf = canvas.new_leaf(part)
        leaves.append(leaf)
        parts.append((leaf,))
    colours *= _relief(look, mask, radius)[..., None]
    canvas.blend(mask, np.clip(colours, 0, 1), look.uniform(0.3, 1.2))
    canvas.add_target(tuple(leaves), 1.0)
    for part_leaves in parts:
        canvas.add_target(part_leaves, 0.25)


def _part_region(look: Generator, side: int, box: tuple[int, int, int, int], radius: float) -> np.ndarray:
    """Where a part of another colour lies: a half, a band, or a decal."""
    x0, y0, x1, y1 = box
    centre = np.array([look.uniform(x0, x1), look.uniform(y0, y1)])
    if look.random() < 0.5:
        return random_silhouette(look, side, centre_xy=centre, radius=radius * look.uniform(0.15, 0.6))
    angle = look.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    along = np.cos(angle) * (x - centre[0]) + np.sin(angle) * (y - centre[1])
    thickness = radius * look.choice([0.1, 0.3, 1e3])
    return (along > 0) & (along < thickness)


def _drop_shadow(canvas: Canvas, look: Generator, mask: np.ndarray, radius: float) -> None:
    if look.random() < 0.4:
        shift = look.normal(0, 0.15 * radius + 1, 2)
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        moved = cv2.warpAffine(mask.astype(np.float32), matrix, mask.shape[::-1])
        soft = cv2.GaussianBlur(moved, (0, 0), max(0.8, look.uniform(0.02, 0.15) * radius))
        canvas.image *= 1 - look.uniform(0.2, 0.7) * soft[..., None]


def _relief(look: Generator, mask: np.ndarray, radius: float) -> np.ndarray:
    """Light on the object: round, tilted, edged or flat; float32 [H, W] around 1."""
    light = np.ones(mask.shape, np.float32)
    style = look.random()
    if style < 0.45:  # a bulging body lit from one side
        depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
        height = np.sqrt(np.minimum(depth / max(0.6 * radius, 1), 1))
        height = cv2.GaussianBlur(height, (0, 0), max(1.0, 0.05 * radius))
        angle = look.uniform(0, 2 * np.pi)
        slope = float(np.cos(angle)) * cv2.Sobel(height, cv2.CV_32F, 1, 0) + float(np.sin(angle)) * cv2.Sobel(
            height, cv2.CV_32F, 0, 1
        )
        light += slope * look.uniform(0.1, 0.5) * min(radius / 8, 4) + (height - 0.7) * look.uniform(0, 0.6)
    elif style < 0.7:  # a plane that turns away from the light
        angle = look.uniform(0, 2 * np.pi)
        y, x = np.nonzero(mask)
        along = np.cos(angle) * (x - x.mean()) + np.sin(angle) * (y - y.mean())
        light[y, x] += along / max(np.abs(along).max(), 1) * look.uniform(0.1, 0.6)
    if look.random() < 0.12:  # a drawn outline
        edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        light[edge] *= look.uniform(0.1, 0.6)
    return np.clip(light, 0.05, 1.9)


def photograph(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light, colour cast, gamma, blur, noise and JPEG: uint8 [H, W, 3]."""
    side = image.shape[0]
    if rng.random() < 0.4:
        coarse = rng.uniform(0.6, 1.3, (3, 3)).astype(np.float32)
        image = image * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]
    image = np.clip(image * rng.uniform(0.85, 1.15, 3).astype(np.float32), 0, 1)
    if rng.random() < 0.5:
        image = image ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.4:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.06))
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.08:
        pixels = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
        pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR)
    return pixels


def draw_targets(rng: Generator, scene: Scene, count: int) -> list[int]:
    """Targets of a scene by weight; repeated when there are too few, none when nothing is visible."""
    visible = scene.visible_targets()
    if not visible:
        return []
    chances = np.array([scene.weights[t] for t in visible])
    size = min(count, len(visible))
    drawn = rng.choice(visible, size, replace=False, p=chances / chances.sum()).tolist()
    return (drawn * count)[:count]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a non-empty mask, the last two exclusive."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height
