"""Pictures and clips that are there already, as samples: for whoever has arrays, and wants to score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sam2kit.datasets.samples import ClipSample, LabelledClip, LabelledPicture, PictureSample


@dataclass
class PictureInMemory(PictureSample):
    """A picture and its masks in memory.

    Args:
        name: for the rows of results.
        picture: with its masks.
    """

    name: str
    picture: LabelledPicture
    split: str | None = None

    def read(self) -> LabelledPicture:
        """What was given."""
        return self.picture


@dataclass
class ClipInMemory(ClipSample):
    """Frames and masks in memory; all frames have true masks.

    Args:
        name: for the rows of results.
        clip: the frames and the masks.
    """

    name: str
    clip: LabelledClip
    split: str | None = None
    frame_count: int = field(init=False, repr=False, compare=False)
    truth_frames: Sequence[int] = field(init=False, repr=False, compare=False)
    object_ids: Sequence[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.frame_count = len(self.clip.frames)
        self.truth_frames = range(self.frame_count)
        self.object_ids = tuple(self.clip.masks)

    def read(self, frames: Sequence[int]) -> LabelledClip:
        """Some frames, in the given order; objects that are on none of them are left out."""
        chosen = {i: masks[list(frames)] for i, masks in self.clip.masks.items()}
        return LabelledClip(self.clip.frames[list(frames)], {i: masks for i, masks in chosen.items() if masks.any()})

    def frame(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return self.clip.frames[index]
