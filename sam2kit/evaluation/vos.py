"""Which frames of a tracked object count, and what they add up to: the benchmarks' own arithmetic.

Above metrics.py, which compares two masks; below mask_folders.py and semi_supervised.py, which bring the masks from
files and from a model. Frames come one at a time, so a long clip needs no more memory than a short one.

    Scoring(...)       starts            ends skipped  void   who counts like this
    OFFICIAL           seen              yes           -      the SA-V evaluator: SA-V, MOSE, LVOS, DAVIS of the paper
    DAVIS              video             yes           255    the DAVIS 2017 tool
    YOUTUBE_VOS        truth             no            -      the YouTube-VOS server

Surprise: with OFFICIAL an object counts from the first frame on which the truth OR the prediction shows it, so seeing
it a frame early costs a whole 0; every later frame on which both are empty counts 1.

Source: evaluator of the SA-V data set, arXiv:2408.00714; DAVIS 2017, arXiv:1704.00675; YouTube-VOS, arXiv:1809.03327.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sam2kit.evaluation.metrics import frame_scores

_STARTS = ("seen", "truth", "video")


@dataclass(frozen=True)
class Scoring:
    """Which frames count for an object.

    Args:
        starts: from which frame on: "seen" in truth or prediction, in the "truth", or from the start of the "video".
        skip_ends: leave out the first and the last annotated frame of the clip.
        void: label of pixels that do not count, in label pictures; None where all labels are objects.
    Raises:
        ValueError: if `starts` is none of the three.
    """

    starts: Literal["seen", "truth", "video"] = "seen"
    skip_ends: bool = True
    void: int | None = None

    def __post_init__(self) -> None:
        if self.starts not in _STARTS:
            raise ValueError(f"starts must be one of {', '.join(_STARTS)}, got {self.starts!r}")

    def counted(self, frames: int) -> range:
        """Of so many annotated frames, those that count."""
        return range(1, frames - 1) if self.skip_ends else range(frames)


OFFICIAL = Scoring()
DAVIS = Scoring(starts="video", void=255)
YOUTUBE_VOS = Scoring(starts="truth", skip_ends=False)


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
    """What is known of one object on the frames so far: where it appeared, and J and F from then on."""

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
        """One annotated frame.

        Args:
            masks: object -> bool [H, W] of what was predicted; objects that are left out are empty.
            truths: the same of the truth.
            void: bool [H, W], pixels that do not count.
        Raises:
            ValueError: if a mask has another size than the truth.
        """
        visible = {i for some in (masks, truths) for i, m in some.items() if m.any()}
        known = sorted(visible | self._objects.keys() | truths.keys())
        shape = next((m.shape for m in (*truths.values(), *masks.values())), (1, 1))
        ours, theirs = (_stacked(some, known, shape, void) for some in (masks, truths))
        for i, j, f, mine, true in zip(known, *frame_scores(ours, theirs), ours, theirs, strict=True):
            self._note(i, float(j), float(f), shown=bool(mine.any()), true=bool(true.any()))
        self._frames += 1

    def _note(self, object_id: int, region: float, boundary: float, *, shown: bool, true: bool) -> None:
        seen = self._objects.get(object_id)
        if seen is None:
            starts = {"seen": shown or true, "truth": true, "video": True}[self.scoring.starts]
            if not starts:
                return
            seen = self._objects[object_id] = _Seen()
            if self.scoring.starts == "video":  # empty in truth and prediction until now
                seen.region, seen.boundary = [1.0] * self._frames, [1.0] * self._frames
        seen.region.append(region)
        seen.boundary.append(boundary)
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


def _stacked(
    masks: Mapping[int, np.ndarray], known: list[int], shape: tuple[int, ...], void: np.ndarray | None
) -> np.ndarray:
    """bool [N, H, W] of the known objects, empty where nothing was given."""
    stack = np.zeros((len(known), *shape), bool)
    for row, object_id in enumerate(known):
        if (mask := masks.get(object_id)) is not None:
            if mask.shape != shape:
                raise ValueError(
                    f"the mask of object {object_id} is {size_text(mask)}, but the truth is {size_text(stack[0])}"
                )
            stack[row] = mask
    return stack if void is None else stack & ~void


def size_text(mask: np.ndarray) -> str:
    """Width x height, for messages."""
    return f"{mask.shape[1]}x{mask.shape[0]}"


def vos_scores(
    masks: Mapping[int, np.ndarray],
    truths: Mapping[int, np.ndarray],
    scoring: Scoring = OFFICIAL,
    *,
    void: np.ndarray | None = None,
) -> dict[int, TrackScore]:
    """J and F of every object of a clip, from masks in memory.

    Args:
        masks: object -> bool [T, H, W], what was predicted on the annotated frames; missing objects are empty.
        truths: object -> bool [T, H, W].
        scoring: which frames count.
        void: bool [T, H, W], pixels that do not count.
    Returns:
        object -> its scores; objects that the truth never shows on frames that count have none.
    Raises:
        ValueError: if there is no truth, or a size or length differs.
    """
    if not truths:
        raise ValueError("there is no true mask to compare with")
    lengths = {len(m) for m in (*truths.values(), *masks.values())}
    if len(lengths) > 1:
        raise ValueError(f"masks and truths must have one length, got {sorted(lengths)} frames")
    scorer = SequenceScorer(scoring)
    for t in scoring.counted(lengths.pop()):
        here = void[t] if void is not None else None
        scorer.add({i: m[t] for i, m in masks.items()}, {i: m[t] for i, m in truths.items()}, here)
    return scorer.scores({i for i, m in truths.items() if m.any()})
