"""How well masks agree: J, F and J&F of two masks, and of an object through a clip as the benchmarks add them up.

Of a clip, frames come one at a time, so a long one needs no more memory than a short one; which count, `Scoring` says:

    OFFICIAL       from where truth or mask shows the object, without both ends    SA-V, MOSE, LVOS, the paper's DAVIS
    DAVIS          all frames without both ends; label 255 is void                 the DAVIS 2017 tool
    YOUTUBE_VOS    from where the truth shows the object, both ends too            the YouTube-VOS server
    AFTER_FIRST    every frame after the first                                     our short clips

Surprises: F looks only at the rectangle around both masks, where all boundary pixels lie; the numbers are those of the
whole picture, many times faster. With OFFICIAL, seeing an object a frame early costs a whole 0, and every later frame
on which truth and mask are empty counts 1.

Source: DAVIS, Perazzi et al., CVPR 2016, in the form of the SA-V evaluator (SAM 2, arXiv:2408.00714); DAVIS 2017,
arXiv:1704.00675; YouTube-VOS, arXiv:1809.03327.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

_REACH = 0.008  # of the picture's diagonal: how far a boundary may be off


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """J of two bool [H, W] masks: intersection over union, 0..1; 1 where both are empty."""
    either = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / either if either else 1.0


def boundary_accuracy(mask: np.ndarray, truth: np.ndarray, reach: int | None = None) -> float:
    """F of two bool [H, W] masks: how much of each boundary lies near the other, 0..1; 1 where both have none.

    Args:
        reach: what is near, in pixels; None takes `boundary_reach` of the picture, as the benchmarks do.
    """
    window = rectangle_around(mask | truth, 1)  # the pixel left of and above a mask is boundary too
    ours, theirs = boundary(mask[window]), boundary(truth[window])
    count, true_count = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not count or not true_count:
        return float(count == true_count)
    reach = boundary_reach(truth.shape) if reach is None else reach
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x * x + y * y <= reach * reach).astype(np.uint8)
    near_ours, near_theirs = (cv2.dilate(lines.astype(np.uint8), disk).astype(bool) for lines in (ours, theirs))
    precision = np.count_nonzero(ours & near_theirs) / count
    recall = np.count_nonzero(theirs & near_ours) / true_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels that differ from their right, lower or lower right neighbour (which the border copies)."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def boundary_reach(size_hw: tuple[int, ...]) -> int:
    """How many pixels a boundary may be off in a picture of this size."""
    return math.ceil(_REACH * math.hypot(*size_hw))


def rectangle_around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rectangle of a mask and a margin of pixels, within the picture."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.s_[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]


@dataclass(frozen=True)
class Scoring:
    """Which frames count for an object.

    Args:
        starts: from which frame on: "seen" in truth or prediction, in the "truth", or from the start of the "video".
        skip_first: leave out the first annotated frame of the clip.
        skip_last: leave out the last one.
        void: label of pixels that do not count, in label pictures; None where all labels are objects.
    """

    starts: Literal["seen", "truth", "video"] = "seen"
    skip_first: bool = True
    skip_last: bool = True
    void: int | None = None

    def counted(self, frames: int) -> range:
        """Of so many annotated frames, those that count."""
        return range(int(self.skip_first), frames - int(self.skip_last))


OFFICIAL = Scoring()
DAVIS = Scoring(starts="video", void=255)
YOUTUBE_VOS = Scoring(starts="truth", skip_first=False, skip_last=False)
AFTER_FIRST = Scoring(starts="video", skip_last=False)


@dataclass(frozen=True)
class TrackScore:
    """One object through one clip."""

    region: float  # J, mean over the frames that count, 0..1
    boundary: float  # F
    frames: int  # that count

    @property
    def overall(self) -> float:
        """J&F."""
        return (self.region + self.boundary) / 2

    def as_scores(self) -> dict[str, float]:
        """Named as the benchmarks name them."""
        return {"J&F": self.overall, "J": self.region, "F": self.boundary, "frames": self.frames}


@dataclass
class _Seen:
    """One object on the frames so far: J and F from where it counts, and whether the truth has shown it."""

    region: list[float] = field(default_factory=list)
    boundary: list[float] = field(default_factory=list)
    in_truth: bool = False


class SequenceScorer:
    """Compares a clip's masks with the truth, frame by frame.

    Give it, in order, the annotated frames that count (`Scoring.counted`), then ask for `scores`.
    """

    def __init__(self, scoring: Scoring = OFFICIAL) -> None:
        self.scoring = scoring
        self._objects: dict[int, _Seen] = {}
        self._frames = 0

    def add(
        self, masks: Mapping[int, np.ndarray], truths: Mapping[int, np.ndarray], void: np.ndarray | None = None
    ) -> None:
        """One annotated frame; all masks have one size.

        Args:
            masks: object -> bool [H, W] of what was predicted; objects that are left out are empty.
            truths: the same of the truth.
            void: bool [H, W], pixels that do not count.
        """
        visible = {i for some in (masks, truths) for i, m in some.items() if m.any()}
        nothing = np.zeros(next((m.shape for m in (*truths.values(), *masks.values())), (1, 1)), bool)
        for object_id, mask in (*masks.items(), *truths.items()):
            if mask.shape != nothing.shape:
                (height, width), (wanted_height, wanted_width) = mask.shape, nothing.shape
                sizes = f"{width}x{height}, but the truth is {wanted_width}x{wanted_height}"
                raise ValueError(f"the mask of object {object_id} is {sizes}")
        for object_id in sorted(visible | self._objects.keys() | truths.keys()):
            mask, truth = masks.get(object_id, nothing), truths.get(object_id, nothing)
            self._note(object_id, *((mask, truth) if void is None else (mask & ~void, truth & ~void)))
        self._frames += 1

    def _note(self, object_id: int, mask: np.ndarray, truth: np.ndarray) -> None:
        seen, true = self._objects.get(object_id), bool(truth.any())
        if seen is None:
            if not {"seen": true or bool(mask.any()), "truth": true, "video": True}[self.scoring.starts]:
                return
            before = [1.0] * self._frames if self.scoring.starts == "video" else []  # empty in both until now
            seen = self._objects[object_id] = _Seen(before, [*before])
        seen.region.append(region_similarity(mask, truth))
        seen.boundary.append(boundary_accuracy(mask, truth))
        seen.in_truth |= true

    def scores(self, in_clip: Collection[int] = ()) -> dict[int, TrackScore]:
        """Of every object that the truth shows on a frame that counts.

        Args:
            in_clip: objects that the truth shows anywhere in the clip. Only "video" asks for them: there an object
                counts too if the truth shows it only on frames that are left out.
        """
        wanted = {i for i, seen in self._objects.items() if seen.in_truth}
        if self.scoring.starts == "video" and self._frames:
            wanted |= set(in_clip)
        never = [1.0] * self._frames  # neither in truth nor predicted on any frame that counts
        found = {i: self._objects.get(i) or _Seen(never, never) for i in sorted(wanted)}
        return {
            i: TrackScore(float(np.mean(seen.region)), float(np.mean(seen.boundary)), len(seen.region))
            for i, seen in found.items()
        }
