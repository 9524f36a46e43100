"""Endless streams of training pictures and clips: painted scenes, collages, photographs.

Painting costs about as much as training, so each scene is painted once and shown several times, turned, mirrored,
cropped and recoloured; a clip also forwards or backwards, every frame or every other. What a step sees follows from
(seed, rank, step) alone: a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator

from sam2kit.nano.appearance import TextureBank
from sam2kit.nano.moving_scenes import MovingScene, random_clip
from sam2kit.nano.real_pixels import RealPixels
from sam2kit.nano.scenes import Scene, draw_targets, random_collage, random_scene
from sam2kit.predict.geometry import normalise
from sam2kit.training.sampling import TrainingClip

_REUSE = 4  # how often a scene or clip is shown, on average
_SCENES_PER_BANK, _CLIPS_PER_BANK = 3000, 600  # then new textures are painted
_CLIPS_PER_STEP = 3  # how fast the window moves on, whatever the size of a batch
_PAINTED_SIDE, _PAINTED_FRAMES = 320, 13
_SURFACES = 150  # photographs, or more at random, that lend surfaces to a bank of textures
_PHOTOS, _COLLAGES = 0.45, 0.35  # of the pictures; the others are painted scenes
_PAINTED_CLIPS = 0.4  # of the clips; the others show real things over photographs
_MIN_SHARE, _MAX_SHARE = 0.0015, 0.95  # of a view of a photograph, that a mask covers

Labelled = tuple[np.ndarray, list[np.ndarray]]  # a square picture uint8 [S, S, 3] and masks bool [S, S]


def _texture_bank(real: RealPixels | None, *seeds: int) -> TextureBank:
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    rng = np.random.default_rng([seed, 2])
    surfaces = [] if real is None else [real.photo(rng)[1] for _ in range(_SURFACES)]
    return TextureBank(seed, photos=surfaces)


class PictureStream:
    """Batches of pictures with masks.

    Args:
        seed, rank: decide every picture; ranks of one distributed run see different ones.
        window: how many scenes are alive at a time.
        real: photographs and real things; None paints everything.
    """

    def __init__(self, seed: int, *, rank: int = 0, window: int = 600, real: RealPixels | None = None) -> None:
        self.seed, self.rank, self.window, self.real = seed, rank, window, real
        bank = lru_cache(maxsize=2)(lambda number: _texture_bank(real, seed, rank, number))

        @lru_cache(maxsize=2 * window)
        def scene(number: int) -> Scene:
            rng = np.random.default_rng([seed, rank, 2, number])
            textures = bank(number // _SCENES_PER_BANK)
            if real is not None and rng.random() < _COLLAGES / (1 - _PHOTOS):
                return random_collage(rng, textures, real, _PAINTED_SIDE)
            return random_scene(rng, textures, _PAINTED_SIDE)

        self._scene = scene

    def batch(self, step: int, *, side: int, pictures: int, objects: int) -> TrainingClip:
        """The batch of one step: `pictures` of `side` pixels with `objects` targets each; some may be equal."""
        rng = np.random.default_rng([self.seed, self.rank, 3, step])
        first = step * pictures // _REUSE
        images = np.empty((pictures, side, side, 3), np.uint8)
        masks = np.empty((pictures, objects, side, side), bool)
        filled = 0
        while filled < pictures:
            if self.real is not None and rng.random() < _PHOTOS:
                image, shown = photo_view(rng, self.real, side, objects)
            else:
                image, shown = scene_view(rng, self._scene(first + int(rng.integers(self.window))), side, objects)
            if shown:
                images[filled] = image
                masks[filled] = np.stack((shown * objects)[:objects])
                filled += 1
        pixels = normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        return TrainingClip(pixels[None], torch.from_numpy(masks)[None])


def scene_view(rng: Generator, scene: Scene, side: int, objects: int) -> Labelled:
    """A random view of a scene, and at most `objects` of its targets."""
    scene = augment(rng, scene, side)
    return scene.image, [scene.mask(target) for target in draw_targets(rng, scene, objects)]


def photo_view(rng: Generator, real: RealPixels, side: int, objects: int) -> Labelled:
    """A random part of a photograph, squeezed into the square as the model sees it, and at most `objects` masks."""
    photo, pixels = real.photo(rng)
    masks = [photo.mask(number) for number in photo.drawn(rng, objects + 3)]
    height, width = pixels.shape[:2]
    h, w = height, width
    if rng.random() < 0.75:
        h, w = (max(16, int(n * rng.uniform(0.4, 1.0))) for n in (height, width))
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    turned = int(rng.integers(4)) if rng.random() < 0.15 else 0
    view = _View(y, x, h, w, turned, bool(rng.integers(2)), side)
    matrix = None
    if rng.random() < 0.25:  # held at a slant
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.normal(0, 12), rng.uniform(1.0, 1.25))

    def slanted(array: np.ndarray, border: int) -> np.ndarray:
        return array if matrix is None else cv2.warpAffine(array, matrix, (side, side), borderMode=border)

    image = slanted(view.of(pixels), cv2.BORDER_REFLECT)
    image = filmed(rng, recolour(rng, image, swap=0.15))
    shown = [slanted(view.of(255 * mask.astype(np.uint8)), cv2.BORDER_CONSTANT) > 127 for mask in masks]
    return image, [mask for mask in shown if _MIN_SHARE <= mask.mean() <= _MAX_SHARE][:objects]


def filmed(rng: Generator, image: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3], sometimes blurred, noisy, or pressed into few bytes."""
    if rng.random() < 0.12:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.12:
        image = cv2.add(image, rng.normal(0, rng.uniform(2, 12), image.shape), dtype=cv2.CV_8U)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image


class ClipStream:
    """Batches of clips with masks.

    Args:
        seed, rank, real: as of PictureStream.
        window: a step draws from this many clips; twice as many are kept, of 5 MB each.
    """

    def __init__(self, seed: int, *, rank: int = 0, window: int = 80, real: RealPixels | None = None) -> None:
        self.seed, self.rank, self.window = seed, rank, window
        bank = lru_cache(maxsize=2)(lambda number: _texture_bank(real, seed, rank, 1, number))

        @lru_cache(maxsize=2 * window)
        def clip(number: int) -> MovingScene:
            rng = np.random.default_rng([seed, rank, 5, number])
            pixels = None if rng.random() < _PAINTED_CLIPS else real
            textures = bank(number // _CLIPS_PER_BANK)
            return random_clip(rng, textures, _PAINTED_SIDE, frames=_PAINTED_FRAMES, real=pixels)

        self._clip = clip

    def batch(self, step: int, *, side: int, clips: int, frames: int, objects: int) -> TrainingClip:
        """The batch of one step: `clips` of `frames` frames, `side` pixels and `objects` targets each."""
        rng = np.random.default_rng([self.seed, self.rank, 6, step])
        first = step * _CLIPS_PER_STEP // _REUSE
        images = np.empty((frames, clips, side, side, 3), np.uint8)
        masks = np.empty((frames, clips, objects, side, side), bool)
        filled = 0
        while filled < clips:
            clip = view_of(rng, self._clip(first + int(rng.integers(self.window))), side, frames)
            visible = clip.visible(0)
            if visible:
                drawn = rng.permutation(visible).tolist()
                images[:, filled] = clip.frames
                for o in range(objects):
                    masks[:, filled, o] = clip.owners == drawn[o % len(drawn)]
                filled += 1
        pixels = normalise(torch.from_numpy(images).permute(0, 1, 4, 2, 3))
        return TrainingClip(pixels, torch.from_numpy(masks))


class _View(NamedTuple):
    """A part of a square picture, turned, mirrored and resized."""

    y: int
    x: int
    height: int
    width: int
    quarter_turns: int
    flip: bool
    side: int

    def of(self, array: np.ndarray, *, numbers: bool = False) -> np.ndarray:
        """That of a picture, or of the numbers of what its pixels show."""
        part = array[self.y : self.y + self.height, self.x : self.x + self.width]
        part = np.rot90(part, self.quarter_turns)
        part = np.ascontiguousarray(part[:, ::-1] if self.flip else part)
        smooth = cv2.INTER_AREA if self.side < len(part) else cv2.INTER_LINEAR
        return cv2.resize(part, (self.side, self.side), interpolation=cv2.INTER_NEAREST if numbers else smooth)


def augment(rng: Generator, scene: Scene, side: int) -> Scene:
    """A random view of a scene at another size: turned, mirrored, cropped, recoloured."""
    h, w = height, width = scene.leaves.shape
    y = x = 0
    if rng.random() < 0.7:
        zoom = rng.uniform(0.55, 1.0)
        h, w = int(height * zoom), int(width * zoom * rng.uniform(0.85, 1.0))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    view = _View(y, x, h, w, int(rng.integers(4)), bool(rng.integers(2)), side)
    image = recolour(rng, view.of(scene.image))
    return Scene(image, view.of(scene.leaves, numbers=True), scene.targets, scene.weights)


def view_of(rng: Generator, clip: MovingScene, side: int, frames: int) -> MovingScene:
    """A random part of a clip at another size; every frame is changed in the same way."""
    stride = 2 if 2 * frames <= len(clip.frames) and rng.random() < 0.4 else 1
    start = int(rng.integers(len(clip.frames) - (frames - 1) * stride))
    chosen = range(start, start + frames * stride, stride)
    if rng.random() < 0.5:
        chosen = chosen[::-1]
    height, width = clip.owners.shape[1:]
    zoom = rng.uniform(0.6, 1.0) if rng.random() < 0.5 else 1.0
    h, w = int(height * zoom), int(width * zoom)
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    view, colours = _View(y, x, h, w, int(rng.integers(4)), bool(rng.integers(2)), side), int(rng.integers(2**31))
    images = [recolour(np.random.default_rng(colours), view.of(clip.frames[t])) for t in chosen]
    owners = [view.of(clip.owners[t], numbers=True) for t in chosen]
    return MovingScene(np.stack(images), np.stack(owners), clip.whole_areas * (side / h) ** 2)


def recolour(rng: Generator, image: np.ndarray, *, swap: float = 0.5) -> np.ndarray:
    """Change saturation, contrast, brightness and, with a chance of `swap`, the order of the channels."""
    if rng.random() < swap:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.7:
        grey = np.full((3, 3), 1 / 3)
        saturation, contrast = rng.uniform(0.1, 1.0), rng.uniform(0.6, 1.2)
        matrix = contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
        shift = 127.5 * (1 - contrast) + rng.uniform(-30, 30, 3)
        image = cv2.transform(np.ascontiguousarray(image), np.column_stack([matrix, shift]))
    return np.ascontiguousarray(image)
