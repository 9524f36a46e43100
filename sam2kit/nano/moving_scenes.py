"""Clips with exact masks: what the nano model learns to track from.

Objects of scenes.py, or real things, are cut out once and then move over a background that pans: along curves,
turning, growing, bending, squeezed as if they turned away. Over a photograph the camera shakes, too, and things that
were filmed on a turntable really turn. Look-alikes walk beside them, others pass in front, some leave the
picture and come back, some blink out. Every pixel of every frame belongs to exactly one object, or to none.

After scenes.py and real_pixels.py; before streams.py. A clip follows from its random generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator

from sam2kit.nano.appearance import TextureBank, random_silhouette
from sam2kit.nano.real_pixels import RealPixels
from sam2kit.nano.scenes import Canvas, dress_object, paint_background, photograph, redressed

_MARGIN = 4  # pixels of nothing around a cut-out, so that its soft edge is not cut


@dataclass
class MovingScene:
    """A clip and everything in it that may be asked for."""

    frames: np.ndarray  # uint8 [T, H, W, 3] RGB
    owners: np.ndarray  # uint8 [T, H, W]: number of the object that each pixel shows, 0 for the background
    whole_areas: np.ndarray  # float [objects + 1]: pixels of each object when nothing hides it

    def mask(self, frame: int, number: int) -> np.ndarray:
        """bool [H, W]: the visible pixels of object 1, 2, ... on a frame."""
        return self.owners[frame] == number

    def visible(self, frame: int, *, min_share: float = 0.004, min_visible: float = 0.5) -> list[int]:
        """Objects that can be prompted on a frame: large enough, and not mostly hidden."""
        areas = np.bincount(self.owners[frame].ravel(), minlength=len(self.whole_areas))
        enough = np.maximum(min_share * self.owners[frame].size, min_visible * self.whole_areas)
        return [i for i in range(1, len(areas)) if areas[i] >= enough[i]]


@dataclass
class _Path:
    """Where an object is over time; all rates are per frame."""

    centre: np.ndarray  # (x, y) at time 0, pixels
    velocity: np.ndarray
    bend: np.ndarray  # amplitude of a sine across the way, pixels
    bend_rate: float
    turn: float  # radians
    growth: float  # log of the size
    squeeze_rate: float  # of the turn out of the picture
    wobble: float  # bending of the outline, share of the size
    phase: float
    away: tuple[float, float, np.ndarray] | None = None  # (time, width, shift): leaves the picture and comes back
    gone: tuple[int, int] = (0, 0)  # frames in which it blinks out

    def place(self, t: float) -> np.ndarray:
        at = self.centre + self.velocity * t + self.bend * np.sin(self.bend_rate * t + self.phase)
        if self.away is not None:
            when, width, shift = self.away
            at = at + shift * np.exp(-(((t - when) / width) ** 4))
        return at

    def shape(self, t: float) -> np.ndarray:
        """[2, 2] matrix: turn, size and squeeze."""
        angle, size = self.turn * t, np.exp(self.growth * t)
        squeeze = 0.65 + 0.35 * np.cos(self.squeeze_rate * t)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return size * turn @ np.diag([squeeze, 1.0])


@dataclass
class _CutOut:
    """One object on its way."""

    views: list[np.ndarray]  # uint8 [h, w, 4] RGB and coverage; several, in order, if it turns
    path: _Path
    radius: float
    turning: float = 0.0  # views per frame
    area: float = field(init=False)

    def __post_init__(self) -> None:
        self.area = float(np.mean([(view[..., 3] > 127).sum() for view in self.views]))

    def view(self, t: int) -> np.ndarray:
        """What is seen of it on a frame."""
        return self.views[round(t * self.turning) % len(self.views)]


def random_clip(
    rng: Generator,
    bank: TextureBank,
    side: int = 256,
    *,
    frames: int = 12,
    real: RealPixels | None = None,
    painted: float = 0.25,
) -> MovingScene:
    """Paint one clip.

    Args:
        rng: decides everything but the textures.
        bank: surfaces to paint with.
        side: edge of the picture, in pixels.
        frames: how many to paint.
        real: photographs to film, and most of the things; None paints everything.
        painted: share of the things that are painted all the same.
    """
    background = Canvas(rng, bank, 3 * side // 2)
    if real is None:
        paint_background(background)
    else:
        background.image = real.ground(rng, 3 * side // 2)
    objects = _objects(rng, bank, background.image, side, frames, real, painted)
    pan, zoom = rng.normal(0, 1.5, 2) * (rng.random() < 0.6), rng.normal(0, 0.004)
    shake = np.zeros((frames, 2))
    if real is not None and rng.random() < 0.5:
        shake = rng.normal(0, rng.uniform(0.5, 0.015 * side), (frames, 2))
    camera, noise = int(rng.integers(2**31)), rng.choice([0.0, 0.0, 2.0, 5.0])
    shown = np.empty((frames, side, side, 3), np.uint8)
    owners = np.zeros((frames, side, side), np.uint8)
    for t in range(frames):
        image = _background_at(background.image, side, pan * (t - frames / 2) + shake[t], 1 + zoom * t)
        _show_all(image, owners[t], objects, t, pan * t + shake[t])
        # the same camera on every frame: light, cast, blur and quality do not change
        filmed = photograph(np.random.default_rng(camera), image)
        shown[t] = cv2.add(filmed, rng.normal(0, noise, image.shape), dtype=cv2.CV_8U) if noise else filmed
    return MovingScene(shown, owners, np.array([0.0] + [c.area for c in objects]))


def staged_clip(
    rng: Generator, bank: TextureBank, side: int = 256, *, frames: int = 60, away: int = 0, rival: str = ""
) -> MovingScene:
    """One thing, object 1, that moves slowly; what may confuse a tracker is one of two factors, or both.

    Args:
        rng, bank, side, frames: as `random_clip`.
        away: frames in which it is gone, from the middle on.
        rival: object 2 looks the same and "crosses" its way in the middle, or is "beside" it all the time.
    """
    ground = Canvas(rng, bank, side)
    paint_background(ground)
    pixels, radius = None, 0.0
    while pixels is None:
        radius, seed = side * rng.uniform(0.13, 0.2), int(rng.integers(2**31))
        pixels = _cut_out(np.random.default_rng(seed), bank, ground.image, side, radius)
    way, middle = rng.uniform(0, 2 * np.pi), frames // 2
    step = 0.2 * side / frames * np.array([np.cos(way), np.sin(way)])
    path = _still_path(side * rng.uniform(0.42, 0.58, 2) - step * middle, step, rng)
    path.gone = (middle - away // 2, middle - away // 2 + away)
    objects = [_CutOut([pixels], path, radius)]
    if rival:
        across = np.array([-step[1], step[0]]) / np.hypot(*step)
        speed = across * 0.7 * side / frames if rival == "crosses" else step
        start = path.place(middle) - speed * middle if rival == "crosses" else path.centre + 2.6 * radius * across
        objects.append(_CutOut([pixels], _still_path(start, speed, rng), radius))
    camera = int(rng.integers(2**31))
    shown, owners = np.empty((frames, side, side, 3), np.uint8), np.zeros((frames, side, side), np.uint8)
    for t in range(frames):
        image = ground.image.copy()
        _show_all(image, owners[t], objects, t, np.zeros(2))
        shown[t] = photograph(np.random.default_rng(camera), image)
    return MovingScene(shown, owners, np.array([0.0] + [c.area for c in objects]))


def _still_path(centre: np.ndarray, velocity: np.ndarray, rng: Generator) -> _Path:
    """Straight on, slowly turning."""
    return _Path(centre, velocity, np.zeros(2), 0.0, rng.normal(0, 0.02), 0.0, 0.0, 0.0, 0.0)


def _background_at(background: np.ndarray, side: int, shift: np.ndarray, zoom: float) -> np.ndarray:
    centre = background.shape[0] / 2
    matrix = np.array([[zoom, 0, side / 2 - zoom * centre], [0, zoom, side / 2 - zoom * centre]], np.float32)
    matrix[:, 2] += shift
    return cv2.warpAffine(background, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _objects(
    rng: Generator,
    bank: TextureBank,
    behind: np.ndarray,
    side: int,
    frames: int,
    real: RealPixels | None,
    painted: float,
) -> list[_CutOut]:
    """The objects, back to front: each with its look-alikes, then perhaps some that pass in front of others."""
    objects: list[_CutOut] = []

    def views_of(seed: int, radius: float) -> list[np.ndarray]:
        look = np.random.default_rng(seed)
        if real is not None and look.random() >= painted:
            return _real_views(look, real, radius)
        pixels = _cut_out(look, bank, behind, side, radius)
        return [] if pixels is None else [pixels]

    def turning() -> float:
        return 0.0 if real is None else rng.normal(0, 0.8) * (rng.random() < 0.8)

    for _ in range(int(rng.integers(1, 5))):
        radius = side * float(np.exp(rng.uniform(np.log(0.07), np.log(0.3))))
        seed = int(rng.integers(2**31))
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            if views := views_of(seed, radius):
                path = _random_path(rng, side, frames)
                if real is not None and path.away is None and rng.random() < 0.2:  # longer away than painted things
                    path.gone = _absence(rng, frames)
                objects.append(_CutOut(views, path, radius, turning()))
    for hidden in [c for c in objects if rng.random() < 0.25]:
        radius = float(np.clip(hidden.radius * rng.uniform(0.9, 1.8), 0.1 * side, 0.45 * side))
        if views := views_of(int(rng.integers(2**31)), radius):
            objects.append(_CutOut(views, _crossing_path(rng, hidden, radius, frames), radius, turning()))
    return objects


def _absence(rng: Generator, frames: int) -> tuple[int, int]:
    start = int(rng.integers(2, frames - 1))
    return start, start + int(rng.integers(2, frames))


def _real_views(look: Generator, real: RealPixels, radius: float) -> list[np.ndarray]:
    """The views of a real thing, all in the same colours, about 2.2 radii long."""
    views, colours = real.cut_out(look), int(look.integers(2**31))
    share = 2.2 * radius / max(max(view.shape[:2]) for view in views)
    smooth = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    flip = -1 if look.random() < 0.5 else 1
    sized = [cv2.resize(v, None, fx=share, fy=share, interpolation=smooth)[:, ::flip] for v in views]
    return [redressed(np.random.default_rng(colours), np.ascontiguousarray(view)) for view in sized]


def _cut_out(look: Generator, bank: TextureBank, behind: np.ndarray, side: int, radius: float) -> np.ndarray | None:
    """One dressed object with its coverage, or None when the shape came out too small."""
    canvas = Canvas(look, bank, side)
    canvas.image = behind[:side, :side].copy()
    mask = random_silhouette(look, side, centre_xy=np.array([side / 2, side / 2]), radius=radius)
    if mask.sum() < 60:
        return None
    dress_object(canvas, look, mask, radius)
    coverage = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), look.uniform(0.5, 1.0))
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows = slice(max(y - _MARGIN, 0), y + height + _MARGIN)
    columns = slice(max(x - _MARGIN, 0), x + width + _MARGIN)
    pixels = np.concatenate([canvas.image, coverage[..., None]], axis=2)[rows, columns]
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _random_path(rng: Generator, side: int, frames: int) -> _Path:
    speed, way = side / 256 * np.exp(rng.uniform(np.log(0.3), np.log(9))), rng.uniform(0, 2 * np.pi)
    path = _Path(
        centre=rng.uniform(0.12, 0.88, 2) * side,
        velocity=speed * np.array([np.cos(way), np.sin(way)]) * (rng.random() < 0.85),
        bend=rng.normal(0, 0.06, 2) * side * (rng.random() < 0.5),
        bend_rate=rng.uniform(0.1, 0.6),
        turn=rng.normal(0, 0.06) * (rng.random() < 0.6),
        growth=rng.normal(0, 0.025) * (rng.random() < 0.6),
        squeeze_rate=rng.uniform(0.05, 0.3) * (rng.random() < 0.35),
        wobble=rng.uniform(0.02, 0.1) * (rng.random() < 0.4),
        phase=rng.uniform(0, 2 * np.pi),
    )
    # most objects stay in sight: their way leads through the middle of their time
    path.centre = path.centre - path.velocity * frames * rng.uniform(0.0, 0.6)
    if rng.random() < 0.2:
        outwards = rng.uniform(0, 2 * np.pi)
        shift = 1.3 * side * np.array([np.cos(outwards), np.sin(outwards)])
        path.away = (rng.uniform(0.3, 0.8) * frames, rng.uniform(1.2, 3.5), shift)
    elif rng.random() < 0.06:
        start = int(rng.integers(1, frames - 1))
        path.gone = (start, start + int(rng.integers(1, 5)))
    return path


def _crossing_path(rng: Generator, hidden: _CutOut, radius: float, frames: int) -> _Path:
    """Passes in front of another object, slowly enough to hide it for a few frames."""
    path = _random_path(rng, 1, frames)
    when, way = rng.uniform(0.2, 0.8) * frames, rng.uniform(0, 2 * np.pi)
    relative = np.array([np.cos(way), np.sin(way)]) * (radius + hidden.radius) * rng.uniform(0.2, 0.6)
    path.velocity = hidden.path.velocity + relative
    path.centre = hidden.path.place(when) - path.velocity * when
    path.bend, path.away, path.gone = np.zeros(2), None, (0, 0)
    return path


def _show_all(image: np.ndarray, owners: np.ndarray, objects: list[_CutOut], t: int, shift: np.ndarray) -> None:
    """Draw those that are there, back to front."""
    for number, cut_out in enumerate(objects, start=1):
        start, end = cut_out.path.gone
        if not start <= t < end:
            _show(image, owners, cut_out, t, shift, number)


def _show(image: np.ndarray, owners: np.ndarray, cut_out: _CutOut, t: int, shift: np.ndarray, number: int) -> None:
    """Draw one object into a frame, only where it reaches."""
    path, side, view = cut_out.path, image.shape[0], cut_out.view(t)
    centre, matrix = path.place(t) + shift, path.shape(t)
    height, width = view.shape[:2]
    reach = (np.abs(matrix) @ np.array([width / 2, height / 2])) * (1 + 2 * path.wobble) + 1
    x0, y0 = np.maximum(np.floor(centre - reach), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(centre + reach) + 1, side).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    x, y = np.meshgrid(np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32))
    back = np.linalg.inv(matrix).astype(np.float32)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    u, v = back[0, 0] * dx + back[0, 1] * dy, back[1, 0] * dx + back[1, 1] * dy
    if path.wobble:
        strength, wave = np.float32(path.wobble * max(width, height)), np.float32(2 * np.pi / max(width, height))
        sway = np.float32(path.phase + 0.5 * t)
        u, v = u + strength * np.sin(wave * v + sway), v + strength * np.sin(wave * u - sway)
    u += np.float32((width - 1) / 2)
    v += np.float32((height - 1) / 2)
    drawn = cv2.remap(view, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    coverage = drawn[..., 3]
    part = image[y0:y1, x0:x1]
    part += (coverage.astype(np.float32) / 255)[..., None] * (drawn[..., :3].astype(np.float32) / 255 - part)
    owners[y0:y1, x0:x1][coverage > 127] = number
