"""Semi-supervised tracking: show the object once, follow it to the end, score it as the benchmarks do.

Each object is prompted on its own first annotated frame, with its true mask, its box, or clicks in the middle of the
error; it is empty before. Objects share one pass through the clip but know nothing of each other, unless overlaps
are resolved. All frames are tracked, only annotated ones are scored, by vos.py.

Differs from clips.py, the quick measure on short clips, which scores every frame after the first.

Source: SAM 2, arXiv:2408.00714, section 6 and appendix "Semi-supervised VOS".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from sam2kit.datasets.samples import ClipSample
from sam2kit.evaluation.clicks import centre_click, tight_boxes
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.vos import OFFICIAL, Scoring, SequenceScorer
from sam2kit.media.clips import Clip
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import VideoPredictor

CLICKS = {"click": 1, "click3": 3, "click5": 5}
FIRST_PROMPTS = ("mask", "box", *CLICKS)
_FRAME_TIME = Fraction(1, 25)  # seconds; only the order of frames matters here


@dataclass(frozen=True)
class TrackingProtocol:
    """How objects are shown and counted.

    Args:
        prompt: "mask", "box", "click", "click3" or "click5", on the object's first annotated frame.
        non_overlap: leave each pixel to one object, as where all objects share one PNG (DAVIS, MOSE, YouTube-VOS).
        scoring: which frames count.
    Raises:
        ValueError: if there is no such prompt.
    """

    prompt: str = "mask"
    non_overlap: bool = False
    scoring: Scoring = OFFICIAL

    def __post_init__(self) -> None:
        if self.prompt not in FIRST_PROMPTS:
            raise ValueError(f"prompt must be one of {', '.join(FIRST_PROMPTS)}, got {self.prompt!r}")

    def predictor(self, model: SAM2) -> VideoPredictor:
        """As behind the published numbers: no clean-up of masks."""
        return VideoPredictor(model, VideoOptions(max_hole_area=0, exclusive=self.non_overlap))


class SampleFrames(Clip):
    """All frames of a clip sample, annotated or not, as a clip for a predictor."""

    def __init__(self, sample: ClipSample) -> None:
        self._sample = sample
        self.size_hw = sample.frame(0).shape[:2]
        self.timestamps = tuple(i * _FRAME_TIME for i in range(sample.frame_count))
        self.last_duration = _FRAME_TIME

    def _read(self, index: int) -> np.ndarray:
        return self._sample.frame(index)


@dataclass
class _Presence:
    """On how many frames after its prompt an object was shown or rightly not shown."""

    found: list[bool] = field(default_factory=list)
    rejected: list[bool] = field(default_factory=list)

    def as_scores(self) -> dict[str, float]:
        shares = {"present_recall": self.found, "absent_recall": self.rejected}
        return {name: float(np.mean(hits)) for name, hits in shares.items() if hits}


def track_sample(predictor: VideoPredictor, sample: ClipSample, protocol: TrackingProtocol) -> list[ObjectRow]:
    """Track all objects of a clip and score them.

    Args:
        predictor: of `protocol.predictor`.
    Returns:
        a row for every object that counts: "J&F", "J", "F", "frames", and after its prompt "present_recall", the
        share of frames showing it of those on which it is visible, and "absent_recall", the share showing nothing
        of those on which it is not.
    Raises:
        ValueError: if the sample cannot be read or shows no object.
    """
    firsts = first_masks(sample)
    if not firsts:
        raise ValueError(f"{sample.name} has no object on any annotated frame")
    counted = [sample.truth_frames[place] for place in protocol.scoring.counted(len(sample.truth_frames))]
    if not counted:
        count = len(sample.truth_frames)
        raise ValueError(f"{sample.name} has {count} annotated frames; J&F leaves out the first and the last")
    scorer, presence = SequenceScorer(protocol.scoring), {i: _Presence() for i in firsts}
    for _ in range(sum(frame < min(f for f, _ in firsts.values()) for frame in counted)):
        scorer.add({}, {})  # nothing is there yet, and nothing is predicted
    for frame, masks in tracked_masks(predictor, sample, firsts, protocol.prompt):
        truths = truth_of(sample, frame)
        if frame in counted:
            scorer.add(masks, truths)
        for object_id, mask in masks.items():
            if frame > firsts[object_id][0]:
                _note(presence[object_id], mask, truths.get(object_id))
    scores = scorer.scores(firsts)
    return [ObjectRow(sample.name, str(i), s.as_scores() | presence[i].as_scores()) for i, s in scores.items()]


def tracked_masks(
    predictor: VideoPredictor, sample: ClipSample, firsts: dict[int, tuple[int, np.ndarray]], prompt: str
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """Annotated frames from the first prompt on, and the masks bool [H, W] of the objects that were shown by then.

    Args:
        firsts: of `first_masks`.
        prompt: one of FIRST_PROMPTS.
    """
    session = predictor.open(SampleFrames(sample))
    for object_id, (frame, mask) in firsts.items():
        prompt_once(predictor, session, frame, object_id, mask, prompt)
    annotated = set(sample.truth_frames)
    for answer in predictor.propagate(session, None, "forward"):
        if answer.frame_index in annotated:
            shown = dict(answer)
            yield answer.frame_index, {i: shown[i] for i in firsts if i in shown}


def _note(presence: _Presence, mask: np.ndarray, truth: np.ndarray | None) -> None:
    if truth is not None and truth.any():
        presence.found.append(bool(mask.any()))
    else:
        presence.rejected.append(not mask.any())


def first_masks(sample: ClipSample, frames: Sequence[int] | None = None) -> dict[int, tuple[int, np.ndarray]]:
    """The first annotated frame that shows each object, and its mask bool [H, W] there.

    Reads no further than to the frame on which the last of them appears.

    Args:
        frames: annotated frames to look at; None looks at all.
    """
    found: dict[int, tuple[int, np.ndarray]] = {}
    objects = len(sample.object_ids)  # which may have to be counted in the files
    for frame in sample.truth_frames if frames is None else frames:
        if len(found) == objects:
            break
        for object_id, mask in truth_of(sample, frame).items():
            if object_id not in found and mask.any():
                found[object_id] = (frame, mask)
    return found


def truth_of(sample: ClipSample, frame: int) -> dict[int, np.ndarray]:
    """object -> bool [H, W] of one annotated frame."""
    return {i: masks[0] for i, masks in sample.read([frame]).masks.items()}


def prompt_once(
    predictor: VideoPredictor, session: VideoSession, frame: int, object_id: int, truth: np.ndarray, prompt: str
) -> None:
    """Show an object on one frame.

    Args:
        truth: bool [H, W], not empty.
        prompt: one of FIRST_PROMPTS; clicks after the first go where the answer is wrong, until nothing is.
    """
    if prompt == "mask":
        predictor.add_mask(session, frame, object_id, truth)
    elif prompt == "box":
        predictor.add_box(session, frame, object_id, tight_boxes(torch.from_numpy(truth)[None]))
    else:
        shown: np.ndarray | None = None
        for _ in range(CLICKS[prompt]):
            point, label = centre_click(truth, shown)
            answer = predictor.add_points(session, frame, object_id, point, label)
            shown = answer.mask(object_id)
            if np.array_equal(shown, truth):
                break
