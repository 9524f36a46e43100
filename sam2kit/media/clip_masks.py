"""What all exports of a clip share: masks by frame, and progress.

Every export is a generator that yields how many frames are done, so that progress and cancelling come free: stop
asking (or close it) and nothing is left on the disk. The last number comes when the result is in its place. Masks come
from a function, so that only one frame's are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sam2kit.media.clips import Clip

# frame -> object ids with their masks bool [H, W]; absent objects are missing or empty; a session's `masks` will do
# (ids are Hashable; Any says so where a type checker would not take a Mapping of numbers for one of Hashables)
MasksOf = Callable[[int], Mapping[Any, np.ndarray] | Iterable[tuple[Hashable, np.ndarray]]]
Names = Mapping[Any, str]
Progress = Generator[int, None, tuple[str, ...]]  # returns sentences that say what could not be taken over


def frames_with_masks(clip: Clip, masks_of: MasksOf) -> Iterator[tuple[int, np.ndarray, dict[Hashable, np.ndarray]]]:
    """Number, uint8 [H, W, 3] and non-empty masks of every frame."""
    for index, frame in enumerate(clip.frames()):
        yield index, frame, masks_on(masks_of, index, clip)


def masks_on(masks_of: MasksOf, index: int, clip: Clip) -> dict[Hashable, np.ndarray]:
    """The masks of a frame that are not empty, as object id -> bool [H, W].

    Raises:
        ValueError: if one has another size than the clip.
    """
    masks = dict(masks_of(index))
    for object_id, mask in masks.items():
        if np.shape(mask) != tuple(clip.size_hw):
            raise ValueError(
                f"the mask of object {object_id} in frame {index} is {list(np.shape(mask))}, "
                f"but the clip is {list(clip.size_hw)}; give bool [H, W] in the clip's size"
            )
    return {object_id: np.asarray(mask, bool) for object_id, mask in masks.items() if np.any(mask)}
