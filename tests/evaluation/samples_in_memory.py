"""Small samples for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sam2kit.data.sample import LabelledFrames, SampleInMemory


class MemoryClip(SampleInMemory):
    """A clip that is already there; only the frames in `known` have true masks. With a `problem` it cannot be read."""

    def __init__(self, name: str, labelled: LabelledFrames, problem: str | None = None) -> None:
        super().__init__(name, labelled)
        self.frames, self.masks, self.problem = labelled.frames, labelled.masks, problem
        self.known: Sequence[int] = range(len(labelled.frames))

    @property
    def truth_frames(self) -> Sequence[int]:
        return self.known

    def read(self, frames: Sequence[int] | None = None) -> LabelledFrames:
        if self.problem:
            raise ValueError(self.problem)
        assert set(frames or ()) <= set(self.known)
        return super().read(self.known if frames is None else frames)


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
    return MemoryClip(name, LabelledFrames(images, masks))


def pictures(count: int = 3) -> list[MemoryClip]:
    """Pictures with two squares each."""
    clips = [moving_square(1, y=4 + number, name="x" * (number + 1), late=0) for number in range(count)]
    return [MemoryClip(f"p{number}", clip.labelled) for number, clip in enumerate(clips)]


def write_labels(path: Path, labels: np.ndarray) -> None:
    """A PNG of grey values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)
