"""Procedural pictures and clips that training never sees: always the same ones, to measure on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sam2kit.datasets.samples import LabelledClip, LabelledPicture
from sam2kit.training.moving_scenes import random_clip
from sam2kit.training.scenes import random_scene
from sam2kit.training.stream import draw_targets
from sam2kit.training.textures import TextureBank

PICTURES, CLIPS = 160, 40  # how many, unless asked for fewer
HELD_OUT_SEED = 20_240_729  # scenes and textures of this seed are never trained on


def held_out_pictures(count: int = PICTURES, *, side: int = 256, per_picture: int = 4) -> Iterator[LabelledPicture]:
    """Procedural scenes that training never sees: always the same ones."""
    bank = TextureBank(HELD_OUT_SEED)
    for number in range(count):
        rng = np.random.default_rng([HELD_OUT_SEED, number])
        scene = random_scene(rng, bank, side)
        drawn = dict.fromkeys(draw_targets(rng, scene, per_picture))
        yield LabelledPicture(scene.image, [scene.mask(t) for t in drawn])


def held_out_clips(count: int = CLIPS, *, side: int = 256, frames: int = 16) -> Iterator[LabelledClip]:
    """Procedural clips that training never sees: always the same ones, about three objects in each."""
    bank = TextureBank(HELD_OUT_SEED)
    for number in range(count):
        clip = random_clip(np.random.default_rng([HELD_OUT_SEED, 1, number]), bank, side, frames=frames)
        visible = clip.visible(0)[:4]
        yield LabelledClip(clip.frames, {i: clip.owners == i for i in visible})
