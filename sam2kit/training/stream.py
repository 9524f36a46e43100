"""An endless stream of training pictures from procedural scenes.

Painting a scene costs about as much as training on it, so each is painted once and shown several times,
turned, mirrored, cropped and recoloured. Which scenes a step sees follows from (seed, rank, step) alone:
a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.random import Generator

from sam2kit.predict.geometry import normalise
from sam2kit.training.scenes import Scene, random_scene
from sam2kit.training.session import Lesson
from sam2kit.training.textures import TextureBank, bank_seed

_SCENES_PER_BANK = 3000  # then new textures are painted
_SCENE_SIDE = 256


class SceneStream:
    """Batches of procedural pictures with masks.

    Args:
        seed, rank: decide every scene; ranks of one distributed run see different ones.
        reuse: how often a scene is shown, on average.
        window: how many scenes are alive at a time.
        photos: uint8 [H, W, 3] pictures of real surfaces for the texture banks.
    """

    def __init__(
        self, seed: int, *, rank: int = 0, reuse: int = 4, window: int = 600, photos: Sequence[np.ndarray] = ()
    ) -> None:
        self.seed, self.rank, self.reuse, self.window = seed, rank, reuse, window
        bank = lru_cache(maxsize=2)(lambda number: TextureBank(bank_seed(seed, rank, number), photos=photos))
        self._scene = lru_cache(maxsize=2 * window)(
            lambda number: random_scene(
                np.random.default_rng([seed, rank, 2, number]), bank(number // _SCENES_PER_BANK), _SCENE_SIDE
            )
        )

    def batch(self, step: int, *, side: int, pictures: int, objects: int) -> Lesson:
        """The batch of one step: `pictures` of `side` pixels with `objects` targets each."""
        rng = np.random.default_rng([self.seed, self.rank, 3, step])
        first = step * pictures // self.reuse
        images = np.empty((pictures, side, side, 3), np.uint8)
        masks = np.empty((pictures, objects, side, side), bool)
        filled = 0
        while filled < pictures:
            scene = augment(rng, self._scene(first + int(rng.integers(self.window))), side)
            drawn = draw_targets(rng, scene, objects)
            if drawn:
                images[filled] = scene.image
                masks[filled] = np.stack([scene.mask(t) for t in drawn])
                filled += 1
        pixels = normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        return Lesson(pixels[None], torch.from_numpy(masks)[None])


def draw_targets(rng: Generator, scene: Scene, count: int) -> list[int]:
    """Targets of a scene by weight; repeated when there are too few, none when nothing is visible."""
    visible = scene.visible_targets()
    if not visible:
        return []
    chances = np.array([scene.weights[t] for t in visible])
    size = min(count, len(visible))
    drawn = rng.choice(visible, size, replace=False, p=chances / chances.sum()).tolist()
    return (drawn * count)[:count]


def augment(rng: Generator, scene: Scene, side: int) -> Scene:
    """A random view of a scene at another size: turned, mirrored, cropped, recoloured."""
    image, leaves = scene.image, scene.leaves
    if rng.random() < 0.7:
        height, width = leaves.shape
        zoom = rng.uniform(0.55, 1.0)
        h, w = int(height * zoom), int(width * zoom * rng.uniform(0.85, 1.0))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        image, leaves = image[y : y + h, x : x + w], leaves[y : y + h, x : x + w]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, leaves = np.rot90(image, turns), np.rot90(leaves, turns)
    if flip:
        image, leaves = image[:, ::-1], leaves[:, ::-1]
    image, leaves = np.ascontiguousarray(image), np.ascontiguousarray(leaves)
    smaller = side < image.shape[0]
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    leaves = cv2.resize(leaves, (side, side), interpolation=cv2.INTER_NEAREST)
    return Scene(recolour(rng, image), leaves, scene.targets, scene.weights)


def recolour(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Change saturation, contrast, brightness and the order of the channels."""
    if rng.random() < 0.5:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.7:
        grey = np.full((3, 3), 1 / 3)
        saturation, contrast = rng.uniform(0.1, 1.0), rng.uniform(0.6, 1.2)
        matrix = contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
        shift = 127.5 * (1 - contrast) + rng.uniform(-30, 30, 3)
        image = cv2.transform(np.ascontiguousarray(image), np.column_stack([matrix, shift]))
    return np.ascontiguousarray(image)
