"""Clips in COCO JSON, as sam2kit writes them: pictures with `frame_index`, masks with `track_id`.

`data convert` writes the frames as pictures, of which each names its `clip`; `video --export coco` is about a clip that
lies beside it, and names it under `video`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.datasets.frame_folders import stack_masks
from sam2kit.datasets.opened_clips import opened_clip
from sam2kit.datasets.picture_files import frame_of
from sam2kit.datasets.samples import BadSampleError, ClipSample, LabelledClip
from sam2kit.datasets.segmentations import mask_of_segmentation


@dataclass(frozen=True)
class CocoClip(ClipSample):
    """One clip."""

    name: str
    frame_files: tuple[Path, ...]
    truth: dict[int, tuple[dict[str, Any], ...]]  # frame -> its annotations
    source: Path
    split: str | None = None
    video: Path | None = None  # holds the frames, if there are no files of them

    @property
    def files(self) -> tuple[Path, ...]:
        """The frames, or the clip that holds them."""
        return self.frame_files if self.video is None else (self.video,) if self.video.is_file() else ()

    @property
    def picture_files(self) -> tuple[Path, ...]:
        """The frames."""
        return self.frame_files

    @property
    def frame_count(self) -> int:
        """Of all frames; of a clip that is not opened yet, those up to the last annotated one."""
        return len(self.frame_files) or max(self.truth, default=-1) + 1

    @property
    def truth_frames(self) -> Sequence[int]:
        """Frames that were annotated, with objects or without."""
        return sorted(self.truth)

    @property
    def object_ids(self) -> Sequence[int]:
        """The track numbers."""
        return sorted({int(a["track_id"]) for annotations in self.truth.values() for a in annotations})

    def frame(self, index: int) -> np.ndarray:
        """One frame, uint8 [H, W, 3].

        Raises:
            BadSampleError: if it cannot be read, or the clip is shorter.
        """
        if self.video is None:
            return frame_of(self.frame_files, index)
        try:
            return opened_clip(self.video).frame(index)
        except IndexError as error:
            text = (
                f"{self.source} has masks for frame {index}, which {self.video} has not; use the clip that was tracked"
            )
            raise BadSampleError(text, "size") from error
        except ValueError as error:
            raise BadSampleError(f"{error}; replace the file") from error

    def read(self, frames: Sequence[int]) -> LabelledClip:
        """Some frames and their masks.

        Raises:
            BadSampleError: if a file cannot be read, or a mask is broken.
        """
        images = np.stack([self.frame(index) for index in frames])
        size_hw = images.shape[1:3]
        truths = []
        for index in frames:
            name = f"{self.source}, clip {self.name}, frame {index}"
            masks = {
                int(a["track_id"]): mask_of_segmentation(a.get("segmentation"), size_hw, name)[0]
                for a in self.truth[index]
            }
            truths.append(masks)
        return LabelledClip(images, stack_masks(truths, size_hw))
