"""From a sample of a dataset to a lesson: some frames, some objects, a random view of them in the model's square.

All frames and masks of a lesson are changed alike. What a sample turns into follows from the random generator alone, so
a resumed run sees what an uninterrupted one would have seen. A frame whose view can come again (flipped or not) has a
key, under which the features of a frozen encoder are kept.

Source: SAM 2, arXiv:2408.00714, training appendix (augmentation and sampling of frames and objects).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from sam2kit.datasets.samples import ClipSample, PictureSample
from sam2kit.predict.geometry import mask_to_square, normalise
from sam2kit.training.session import Lesson

_WINDOWS_TRIED = 20  # starts in a clip until an object is visible on the first frame


@dataclass(frozen=True)
class Augmentation:
    """How far a view may be from the picture. The default only mirrors."""

    flip: float = 0.5  # chance
    reverse: float = 0.5  # chance that a clip runs backwards
    zoom: float = 1.0  # smallest share of the picture's edges that is cut out, around an object
    turn: float = 0.0  # degrees to either side
    shear: float = 0.0  # degrees, along x
    light: float = 0.0  # largest change of brightness, as a share; contrast and saturation by a third of it
    grey: float = 0.0  # chance of losing all colour

    @property
    def comes_again(self) -> bool:
        """Whether there are so few views that the same one comes again."""
        return self.zoom == 1 and not (self.turn or self.shear or self.light or self.grey)


# uint8 [T, H, W, 3], a bool [T, H, W] for each object, and the frames' numbers
_Window = tuple[np.ndarray, list[np.ndarray], tuple[int, ...]]
ViewKey = tuple[str, int, int, bool]  # sample, frame, side of the square, whether mirrored

MIRRORED = Augmentation()
VARIED = Augmentation(zoom=0.6, turn=10, light=0.15, grey=0.05)
PUBLISHED = Augmentation(reverse=0.0, turn=25, shear=20, light=0.1, grey=0.05)


@dataclass(frozen=True)
class DrawnLesson:
    """A lesson and where it came from."""

    lesson: Lesson  # of one clip: B = 1
    name: str  # of the sample
    keys: list[ViewKey | None]  # of each frame: the same for the same pixels; None where the view will not come again


def draw_lesson(
    sample: PictureSample | ClipSample,
    rng: Generator,
    augmentation: Augmentation,
    *,
    side: int,
    frames: int,
    objects: int,
) -> DrawnLesson | None:
    """A random lesson from one sample.

    Args:
        side: of the model's square, in pixels.
        frames: of a clip, at most.
        objects: at most; drawn among those that are visible on the first frame.
    Returns:
        None if the sample shows no object, or none that is large enough for the square.
    Raises:
        ValueError: if the sample's files cannot be used.
    """
    drawn = _draw_window(sample, rng, augmentation, frames) if isinstance(sample, ClipSample) else _whole(sample)
    if drawn is None:
        return None
    pictures, tracks, numbers = drawn
    visible = [n for n, track in enumerate(tracks) if track[0].any()]
    chosen = sorted(rng.permutation(visible)[:objects])
    if not chosen:
        return None
    masks = np.stack([tracks[n] for n in chosen], axis=1)  # [T, N, H, W]
    flip = bool(rng.random() < augmentation.flip)
    pictures, masks = _cut_out(rng, augmentation, pictures, masks)
    pixels, squares = _to_square(pictures, masks, side)
    squares = squares[:, squares[0].flatten(1).any(dim=1)]  # some are too small for the square
    if not squares.shape[1]:
        return None
    pixels, squares = _warp(rng, augmentation, _recolour(rng, augmentation, pixels), squares)
    if flip:
        pixels, squares = pixels.flip(-1), squares.flip(-1)
    keys = [(sample.name, n, side, flip) if augmentation.comes_again else None for n in numbers]
    return DrawnLesson(Lesson(pixels[:, None], squares[:, None]), sample.name, keys)


def _whole(sample: PictureSample) -> _Window:
    read = sample.read()
    return read.image[None], [mask[None] for mask in read.masks], (0,)


def _draw_window(sample: ClipSample, rng: Generator, augmentation: Augmentation, frames: int) -> _Window | None:
    """Neighbouring frames with known truth, such that an object is visible on the first of them."""
    known = list(sample.truth_frames)
    length = min(frames, len(known))
    for _ in range(_WINDOWS_TRIED if length else 0):
        start = int(rng.integers(len(known) - length + 1))
        window = known[start : start + length]
        if rng.random() < augmentation.reverse:
            window = window[::-1]
        read = sample.read(window)
        if any(mask[0].any() for mask in read.masks.values()):
            return read.frames, list(read.masks.values()), tuple(window)
    return None


def _cut_out(
    rng: Generator, augmentation: Augmentation, pictures: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A part of the picture around one of the objects; the whole one if an object would be lost on the first frame."""
    share = rng.uniform(augmentation.zoom, 1.0)
    if share == 1:
        return pictures, masks
    height, width = masks.shape[-2:]
    h, w = max(int(height * share), 1), max(int(width * share), 1)
    rows, columns = np.nonzero(masks[0, int(rng.integers(masks.shape[1]))])
    at = int(rng.integers(len(rows)))
    y = int(np.clip(rows[at] - rng.integers(h), 0, height - h))
    x = int(np.clip(columns[at] - rng.integers(w), 0, width - w))
    cut = masks[..., y : y + h, x : x + w]
    kept = cut[0].any(axis=(1, 2)).all()
    return (pictures[:, y : y + h, x : x + w], cut) if kept else (pictures, masks)


def _to_square(pictures: np.ndarray, masks: np.ndarray, side: int) -> tuple[Tensor, Tensor]:
    """float32 [T, 3, S, S] in 0..1 and bool [T, N, S, S]."""
    pixels = torch.cat([_small(picture, side) for picture in pictures])
    flat = torch.from_numpy(np.ascontiguousarray(masks)).flatten(0, 1)
    squares = torch.stack([mask_to_square(mask, side) for mask in flat]) > 0
    return pixels, squares.unflatten(0, masks.shape[:2])


def _small(picture: np.ndarray, side: int) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, S, S] in 0..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def _recolour(rng: Generator, augmentation: Augmentation, pixels: Tensor) -> Tensor:
    """Brightness, contrast and saturation, the same on all frames; then normalised."""
    grey = pixels.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    light = augmentation.light
    if light:
        brightness, contrast, saturation = (1 + rng.uniform(-1, 1) * light * part for part in (1, 1 / 3, 1 / 3))
        pixels = pixels * brightness
        middle = (pixels * grey).sum(dim=1).mean()
        pixels = middle + (pixels - middle) * contrast
        pixels = torch.lerp((pixels * grey).sum(dim=1, keepdim=True), pixels, saturation)
    if rng.random() < augmentation.grey:
        pixels = (pixels * grey).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    return normalise(pixels.clamp(0, 1))


def _warp(rng: Generator, augmentation: Augmentation, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Turn and shear; not at all if an object would leave the first frame. The corners get the mean colour, 0."""
    turn, shear = (math.radians(rng.uniform(-1, 1) * most) for most in (augmentation.turn, augmentation.shear))
    if not (turn or shear):
        return pixels, masks
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotation @ torch.tensor([[1.0, math.tan(shear)], [0.0, 1.0]])
    theta = torch.cat([matrix, torch.zeros(2, 1)], dim=1)[None].expand(len(pixels), -1, -1)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    warped = F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False) > 0
    if not warped[0].flatten(1).any(dim=1).all():
        return pixels, masks
    return F.grid_sample(pixels, grid, mode="bilinear", align_corners=False), warped
