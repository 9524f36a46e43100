"""Small samples for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam2kit.datasets.in_memory import ClipInMemory
from sam2kit.datasets.samples import LabelledClip, LabelledPicture, PictureSample


@dataclass
class MemoryPicture(PictureSample):
    """A picture that is already there."""

    name: str
    picture: LabelledPicture
    split: str | None = None
    problem: str | None = None

    def read(self) -> LabelledPicture:
        if self.problem:
            raise ValueError(self.problem)
        return self.picture


class MemoryClip(ClipInMemory):
    """A clip that is already there, of which perhaps only some frames have true masks; it notes what was read."""

    def __init__(
        self, name: str, frames: np.ndarray, masks: dict[int, np.ndarray], truth_frames: Sequence[int] = ()
    ) -> None:
        super().__init__(name, LabelledClip(frames, masks))
        self.frames, self.masks = frames, masks
        self.truth_frames = truth_frames or self.truth_frames
        self.read_frames: list[int] = []

    def read(self, frames: Sequence[int]) -> LabelledClip:
        assert set(frames) <= set(self.truth_frames)
        self.read_frames += frames
        return super().read(frames)


def square(size_hw: tuple[int, int], x: int, y: int, side: int) -> np.ndarray:
    """bool [H, W] with a filled square at (x, y)."""
    mask = np.zeros(size_hw, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def moving_square(
    frames: int = 6, size_hw: tuple[int, int] = (40, 60), *, y: int = 10, name: str = "clip", late: int | None = None
) -> MemoryClip:
    """A bright square on noise that moves right; object 2, below it, appears on frame `late`."""
    rng = np.random.default_rng(len(name) + frames)
    images = rng.integers(0, 90, (frames, *size_hw, 3), np.uint8)
    masks = {1: np.stack([square(size_hw, 5 + 2 * t, y, 12) for t in range(frames)])}
    images[masks[1]] = (230, 60, 40)
    if late is not None:
        masks[2] = np.stack([square(size_hw, 40, 26, 10) & (t >= late) for t in range(frames)])
        images[masks[2]] = (40, 80, 220)
    return MemoryClip(name, images, masks)


def pictures(count: int = 3) -> list[MemoryPicture]:
    """Pictures with two squares each."""
    found = []
    for number in range(count):
        clip = moving_square(1, y=4 + number, name="x" * (number + 1), late=0)
        found.append(MemoryPicture(f"p{number}", LabelledPicture(clip.frames[0], [m[0] for m in clip.masks.values()])))
    return found


def write_labels(path: Path, labels: np.ndarray) -> None:
    """A PNG of grey values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)
