"""Interactive tracking: a simulated user watches the masks and clicks where they are worst.

Every object alone, from the first frame that shows it; the clip is cut there. Three clicks on each frame that is
corrected, on 1 to 8 frames:

    offline    the user sees the whole clip, then corrects the frame with the lowest IoU, and it is tracked anew
    online     the user watches once and stops at the first frame below IoU 0.75; what was passed stays as it is

Every annotated frame from the first on counts, with the J and F of metrics.py; where the object is absent, an empty
mask has IoU 1 and any other 0 (the paper does not say).

Surprise: online with n corrections begins like online with n - 1, so one pass is made and only its tails are redone.

Source: SAM 2, arXiv:2408.00714, section 6.1 and appendix "Zero-shot video evaluation: interactive segmentation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from sam2kit.data.sample import Sample
from sam2kit.evaluation.clicks import centre_click
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.evaluation.reports import ObjectRow
from sam2kit.evaluation.semi_supervised import SampleFrames, first_masks
from sam2kit.media.clip import Clip
from sam2kit.predict.video import VideoPredictor

CLICKS_PER_FRAME = 3
MOST_FRAMES = 8  # that are corrected
GOOD_ENOUGH = 0.75  # IoU below which the online user stops
_SECONDS_TO_LOCATE, _SECONDS_PER_CLICK, _SECONDS_PER_300_FRAMES = 1.0, 1.5, 30.0

Truth = dict[int, Callable[[], np.ndarray]]  # annotated frame -> what reads its mask, bool [H, W]


class ClickedTrack:
    """One object that is clicked and tracked; frames count from the first that shows it."""

    def __init__(self, predictor: VideoPredictor, clip: Clip) -> None:
        self._predictor = predictor
        self._session = predictor.open(clip)

    def click(self, frame: int, point_xy: tuple[int, int], label: int) -> np.ndarray:
        """One more click on a frame; returns the object's new mask there, bool [H, W]."""
        return self._predictor.add_points(self._session, frame, 0, point_xy, label).mask(0)

    def shown(self, frame: int) -> np.ndarray:
        """The current mask of a frame that was clicked or tracked, bool [H, W]."""
        return self._session.masks(frame).mask(0)

    def track(self, start: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Track forward to the end, from a frame on, or the whole clip anew with all clicks: frame, bool [H, W]."""
        for answer in self._predictor.propagate(self._session, start, "forward"):
            yield answer.frame_index, answer.mask(0)


def correct(track: ClickedTrack, truth: Truth, *, online: bool, frames: int = MOST_FRAMES) -> list[float]:
    """Correct frames of an object until that is enough or nothing is left to correct.

    Args:
        track: of the object, not yet clicked.
        truth: of the annotated frames; the first of them shows the object.
        online: stop at bad frames in one pass, instead of going back to the worst after each look at the whole clip.
        frames: how many are corrected at most, the first included.
    Returns:
        J&F, 0..1, after 1, 2, ... corrected frames.
    """
    results: list[float] = []
    scores: dict[int, tuple[float, float]] = {}
    wrong: int | None = min(truth)
    while wrong is not None and len(results) < frames:
        _click(track, wrong, truth[wrong](), first=not results)
        for frame, mask in track.track(wrong if online else None):
            if frame in truth:
                true = truth[frame]()
                scores[frame] = region_similarity(mask, true), boundary_accuracy(mask, true)
        results.append(float(np.mean([scores[frame] for frame in sorted(scores)])))
        if online:
            wrong = next((f for f in sorted(truth) if f > wrong and scores[f][0] < GOOD_ENOUGH), None)
        else:
            worst = min(scores, key=lambda f: (scores[f][0], f))
            wrong = worst if scores[worst][0] < 1.0 else None
    return results + results[-1:] * (frames - len(results))


def _click(track: ClickedTrack, frame: int, truth: np.ndarray, *, first: bool) -> None:
    """Three clicks in the middle of what is wrong then; fewer if nothing is left to correct."""
    shown = None if first else track.shown(frame)
    for _ in range(CLICKS_PER_FRAME):
        if shown is not None and np.array_equal(shown, truth):
            return
        point, label = centre_click(truth, shown)
        shown = track.click(frame, point, label)


def seconds_needed(length: int, frames: int, *, online: bool) -> float:
    """How long a person needs to correct this many frames of a clip.

    Args:
        length: frames of the clip, which is looked at once online, and for every correction offline.
        frames: corrected ones; each costs finding the object and three clicks.
    """
    looking = _SECONDS_PER_300_FRAMES * length / 300 * (1 if online else frames)
    return looking + (_SECONDS_TO_LOCATE + _SECONDS_PER_CLICK * CLICKS_PER_FRAME) * frames


def interactive_rows(
    predictor: VideoPredictor, sample: Sample, *, online: bool, frames: int = MOST_FRAMES
) -> list[ObjectRow]:
    """A protocol with every object of a clip.

    Args:
        predictor: of `TrackingProtocol.predictor`, as behind the published numbers.
        online: watch once, instead of correcting the worst frame again and again.
        frames: how many are corrected at most.
    Returns:
        a row for each object: "J&F", the mean over numbers of corrected frames, "J&F@1", "J&F@2", ..., 0..1, and
        "seconds@1", ..., what so many corrections cost a person.
    Raises:
        ValueError: if the sample cannot be read or shows no object.
    """
    rows = []
    for object_id, (first, _) in sorted(first_masks(sample).items()):
        clip = SampleFrames(sample).cut(first)
        truth = _truth(sample, object_id, first)
        curve = correct(ClickedTrack(predictor, clip), truth, online=online, frames=frames)
        scores = {"J&F": float(np.mean(curve))}
        scores |= {f"J&F@{n}": value for n, value in enumerate(curve, start=1)}
        scores |= {f"seconds@{n}": seconds_needed(len(clip), n, online=online) for n in range(1, frames + 1)}
        rows.append(ObjectRow(sample.name, str(object_id), scores))
    return rows


def _truth(sample: Sample, object_id: int, first: int) -> Truth:
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
