"""Interactive tracking: a simulated person watches the masks and clicks where they are worst.

Every object alone, from the first frame that shows it; the clip is cut there. Three clicks on each frame that is
corrected, on 1 to 8 frames:

    offline    the person sees the whole clip, then corrects the frame with the lowest IoU, and it is tracked anew
    online     the person watches once and stops at the first frame below IoU 0.75; what was passed stays as it is

Every annotated frame from the first on counts, with the J and F of metrics.py; where the object is absent, an empty
mask has IoU 1 and any other 0 (the paper does not say).

Surprise: online with n corrections begins like online with n - 1, so one pass is made and only its tails are redone.

Source: SAM 2, arXiv:2408.00714, section 6.1 and appendix "Zero-shot video evaluation: interactive segmentation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import numpy as np

from sam2kit.datasets.samples import ClipSample
from sam2kit.evaluation.clicks import centre_click
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.semi_supervised import SampleFrames, first_masks
from sam2kit.media.clips import Clip
from sam2kit.predict.video import VideoPredictor

CLICKS_PER_FRAME = 3
MOST_FRAMES = 8  # that are corrected
GOOD_ENOUGH = 0.75  # IoU below which the online person stops
_SECONDS_TO_LOCATE, _SECONDS_PER_CLICK, _SECONDS_PER_300_FRAMES = 1.0, 1.5, 30.0


class ClickedTrack(Protocol):
    """One object that is clicked and tracked; frames count from the first that shows it."""

    def click(self, frame: int, point_xy: tuple[int, int], label: int) -> np.ndarray:
        """One more click on a frame; returns the object's new mask there, bool [H, W]."""

    def shown(self, frame: int) -> np.ndarray:
        """The current mask of a frame that was clicked or tracked, bool [H, W]."""

    def track(self, start: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Track forward to the end: None the whole clip anew with all clicks, else from a frame on.

        Yields:
            frame and mask bool [H, W], in order, the start included.
        """


class PredictorTrack:
    """A ClickedTrack by a VideoPredictor."""

    def __init__(self, predictor: VideoPredictor, clip: Clip) -> None:
        self._predictor = predictor
        self._session = predictor.open(clip)

    def click(self, frame: int, point_xy: tuple[int, int], label: int) -> np.ndarray:
        """One more click on a frame."""
        return self._predictor.add_points(self._session, frame, 0, point_xy, label).mask(0)

    def shown(self, frame: int) -> np.ndarray:
        """The current mask of a frame."""
        return self._session.masks(frame).mask(0)

    def track(self, start: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Track forward to the end."""
        for answer in self._predictor.propagate(self._session, start, "forward"):
            yield answer.frame_index, answer.mask(0)


Truth = dict[int, Callable[[], np.ndarray]]  # annotated frame -> what reads its mask, bool [H, W]


def pvs_offline(track: ClickedTrack, truth: Truth, frames: int = MOST_FRAMES) -> list[float]:
    """Correct the worst frame after each look at the whole clip.

    Args:
        track: of the object, not yet clicked.
        truth: of the annotated frames; the first of them shows the object.
        frames: how many rounds.
    Returns:
        J&F, 0..1, after 1, 2, ... rounds.
    """
    results, worst = [], min(truth)
    for round_number in range(frames):
        _correct(track, worst, truth[worst](), first=round_number == 0)
        scores = _compare(track.track(None), truth)
        results.append(_overall(scores))
        worst = min(scores, key=lambda f: (scores[f][0], f))
        if scores[worst][0] == 1.0:  # nothing is left to correct
            return results + results[-1:] * (frames - len(results))
    return results


def pvs_online(track: ClickedTrack, truth: Truth, frames: int = MOST_FRAMES) -> list[float]:
    """Correct each frame at which the person has to stop, in one pass.

    Args:
        track, truth: as for `pvs_offline`.
        frames: how many stops at most, the first frame included.
    Returns:
        J&F, 0..1, of passes with at most 1, 2, ... stops.
    """
    results: list[float] = []
    scores: dict[int, tuple[float, float]] = {}
    stop: int | None = min(truth)
    while stop is not None and len(results) < frames:
        _correct(track, stop, truth[stop](), first=not results)
        scores |= _compare(track.track(stop), truth)
        results.append(_overall(scores))
        bad = (f for f in sorted(truth) if f > stop and scores[f][0] < GOOD_ENOUGH)
        stop = next(bad, None)
    return results + results[-1:] * (frames - len(results))


def _correct(track: ClickedTrack, frame: int, truth: np.ndarray, *, first: bool) -> None:
    """Clicks in the middle of the error, until they are used up or nothing is wrong."""
    shown = None if first else track.shown(frame)
    for _ in range(CLICKS_PER_FRAME):
        if shown is not None and np.array_equal(shown, truth):
            return
        point, label = centre_click(truth, shown)
        shown = track.click(frame, point, label)


def _compare(masks: Iterator[tuple[int, np.ndarray]], truth: Truth) -> dict[int, tuple[float, float]]:
    """Annotated frame -> J and F."""
    scores = {}
    for frame, mask in masks:
        if frame in truth:
            true = truth[frame]()
            scores[frame] = region_similarity(mask, true), boundary_accuracy(mask, true)
    return scores


def _overall(scores: dict[int, tuple[float, float]]) -> float:
    return float(np.mean(list(scores.values())))


def offline_seconds(length: int, frames: int) -> float:
    """How long a person needs to correct this many frames of a clip offline.

    Args:
        length: frames of the clip.
        frames: corrected ones; each costs a look at the whole clip, finding the object and three clicks.
    """
    return (_looking(length) + _correcting()) * frames


def online_seconds(length: int, frames: int) -> float:
    """The same online, where the clip is looked at once."""
    return _looking(length) + _correcting() * frames


def _looking(length: int) -> float:
    return _SECONDS_PER_300_FRAMES * length / 300


def _correcting() -> float:
    return _SECONDS_TO_LOCATE + _SECONDS_PER_CLICK * CLICKS_PER_FRAME


def interactive_rows(
    predictor: VideoPredictor, sample: ClipSample, *, online: bool, frames: int = MOST_FRAMES
) -> list[ObjectRow]:
    """Play a protocol with every object of a clip.

    Args:
        predictor: made with VideoOptions(max_hole_area=0), as behind the published numbers.
        online: watch once, instead of correcting the worst frame again and again.
        frames: how many are corrected at most.
    Returns:
        a row for each object: "J&F", the mean over numbers of corrected frames, "J&F@1", "J&F@2", ..., 0..1, and
        "seconds@1", ..., what so many corrections cost a person.
    Raises:
        ValueError: if the sample cannot be read or shows no object.
    """
    firsts = first_masks(sample)
    if not firsts:
        raise ValueError(f"{sample.name} has no object on any annotated frame")
    play, seconds = (pvs_online, online_seconds) if online else (pvs_offline, offline_seconds)
    rows = []
    for object_id, (first, _) in sorted(firsts.items()):
        clip = SampleFrames(sample).cut(first)
        curve = play(PredictorTrack(predictor, clip), _truth(sample, object_id, first), frames)
        scores = {"J&F": float(np.mean(curve))}
        scores |= {f"J&F@{n}": value for n, value in enumerate(curve, start=1)}
        scores |= {f"seconds@{n}": seconds(len(clip), n) for n in range(1, frames + 1)}
        rows.append(ObjectRow(sample.name, str(object_id), scores))
    return rows


def _truth(sample: ClipSample, object_id: int, first: int) -> Truth:
    """The object's masks from its first frame on, packed to bits, because each round asks for all of them."""
    packed: dict[int, tuple[np.ndarray, tuple[int, int]]] = {}

    def read(frame: int) -> np.ndarray:
        if frame not in packed:
            clip = sample.read([frame])
            size_hw = clip.frames.shape[1:3]
            mask = clip.masks[object_id][0] if object_id in clip.masks else np.zeros(size_hw, bool)
            packed[frame] = np.packbits(mask), size_hw
        bits, shape = packed[frame]
        return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)

    return {f - first: partial(read, f) for f in sample.truth_frames if f >= first}
