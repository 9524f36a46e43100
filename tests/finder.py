"""Pictures of red discs and blue squares, and a model that has learnt to find them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from sam2kit.data.sample import LabelledFrames, SampleInMemory
from sam2kit.model.sam2 import SAM2
from sam2kit.training.detection import train_detection
from sam2kit.weights import load_model

CLASSES = ("disc", "square")
SIZE = 160


def drawn(things: list[tuple[str, int, int]], seed: int = 0) -> LabelledFrames:
    """A picture of red discs and blue squares on noise, 160 pixels wide and high, each in a place (x, y)."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.random.default_rng(seed).integers(60, 120, (SIZE, SIZE, 3), np.uint8)
    masks, labels = {}, {}
    for number, (kind, cx, cy) in enumerate(things, start=1):
        away = np.hypot(x - cx, y - cy) if kind == "disc" else np.maximum(abs(x - cx), abs(y - cy))
        masks[number] = (away < 17)[None]
        labels[number] = kind
        image[masks[number][0]] = (220, 50, 40) if kind == "disc" else (50, 70, 220)
    return LabelledFrames(image[None], masks, labels)


def some(count: int, seed: int) -> list[SampleInMemory]:
    """Pictures with three or four things that do not touch."""
    rng, found = np.random.default_rng(seed), []
    for n in range(count):
        cells = rng.permutation(9)[: 3 + n % 2]
        places = [(CLASSES[int(rng.integers(2))], 28 + 52 * int(c % 3), 28 + 52 * int(c // 3)) for c in cells]
        found.append(SampleInMemory(f"{seed}-{n}", drawn(places, seed=100 * seed + n)))
    return found


@cache
def trained_finder() -> SAM2:
    """nano, which has learnt it."""
    model = load_model("nano", "cpu")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train_detection(model, some(8, seed=1), CLASSES, steps=100)
    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items()), "the rest stays as it is"
    return model
