"""An endless stream of training clips: each is painted once and shown several times, differently.

Shown forwards or backwards, every frame or every other, turned, mirrored, cropped and recoloured. As in
stream.py, what a step sees follows from (seed, rank, step) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.random import Generator

from sam2kit.predict.geometry import normalise
from sam2kit.training.moving_scenes import MovingScene, random_clip
from sam2kit.training.session import Lesson
from sam2kit.training.stream import recolour
from sam2kit.training.textures import TextureBank, bank_seed

_CLIPS_PER_BANK = 600  # then new textures are painted
_PER_STEP = 3  # how fast the window moves on, whatever the size of a batch
_PAINTED_SIDE, _PAINTED_FRAMES = 256, 12


class ClipStream:
    """Batches of procedural clips with masks.

    Args:
        seed, rank: decide every clip; ranks of one distributed run see different ones.
        reuse: how often a clip is shown, on average.
        window: a step draws from this many clips; twice as many are kept, of 3 MB each.
        photos: uint8 [H, W, 3] pictures of real surfaces for the texture banks.
    """

    def __init__(
        self, seed: int, *, rank: int = 0, reuse: int = 4, window: int = 80, photos: Sequence[np.ndarray] = ()
    ) -> None:
        self.seed, self.rank, self.reuse, self.window = seed, rank, reuse, window
        bank = lru_cache(maxsize=2)(lambda number: TextureBank(bank_seed(seed, rank, 1, number), photos=photos))
        self._clip = lru_cache(maxsize=2 * window)(
            lambda number: random_clip(
                np.random.default_rng([seed, rank, 5, number]),
                bank(number // _CLIPS_PER_BANK),
                _PAINTED_SIDE,
                frames=_PAINTED_FRAMES,
            )
        )

    def batch(self, step: int, *, side: int, clips: int, frames: int, objects: int) -> Lesson:
        """The batch of one step: `clips` of `frames` frames, `side` pixels and `objects` targets each."""
        rng = np.random.default_rng([self.seed, self.rank, 6, step])
        first = step * _PER_STEP // self.reuse
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
        return Lesson(pixels, torch.from_numpy(masks))


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
    turns, flip, colours = int(rng.integers(4)), bool(rng.integers(2)), int(rng.integers(2**31))
    interpolation = cv2.INTER_AREA if side < h else cv2.INTER_LINEAR
    images, owners = [], []
    for t in chosen:
        image, owner = (np.rot90(a[t, y : y + h, x : x + w], turns) for a in (clip.frames, clip.owners))
        if flip:
            image, owner = image[:, ::-1], owner[:, ::-1]
        image = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=interpolation)
        images.append(recolour(np.random.default_rng(colours), image))
        owners.append(cv2.resize(np.ascontiguousarray(owner), (side, side), interpolation=cv2.INTER_NEAREST))
    return MovingScene(np.stack(images), np.stack(owners), clip.whole_areas * (side / h) ** 2)
