"""Semi-supervised tracking: show each object once, follow it to the end, score it as the benchmarks do.

Each object is prompted on its own first annotated frame, with its true mask, its box, or clicks in the middle of the
error; it is empty before. Objects share one pass through the clip but know nothing of each other, unless overlaps are
resolved; so several kinds of prompt can share it, too. All frames are tracked, annotated ones are scored (metrics.py).

    track_scores, track_rows    objects of one clip
    evaluate_clips              the short list of figures on many short clips, quick enough to watch a training
    compare                     what two models show of the same sample, a picture or a clip, after one click

Source: SAM 2, arXiv:2408.00714, section 6 and appendix "Semi-supervised VOS".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from sam2kit.data.sample import LabelledFrames, Sample, SampleInMemory
from sam2kit.evaluation.clicks import Click, centre_click, one_click_masks, tight_boxes
from sam2kit.evaluation.metrics import AFTER_FIRST, OFFICIAL, Scoring, SequenceScorer, TrackScore, region_similarity
from sam2kit.evaluation.reports import ObjectRow
from sam2kit.media.clip import Clip
from sam2kit.media.drawing import draw_masks
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor

CLICKS_OF = {"click": 1, "click3": 3, "click5": 5}
FIRST_PROMPTS = ("mask", "box", *CLICKS_OF)
SHORT_LIST = ("mask", "click", "box")
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
        as_decoded = VideoOptions(max_hole_area=0, max_speck_area=0, keep_clicked=False, exclusive=self.non_overlap)
        return VideoPredictor(model, as_decoded)


class SampleFrames(Clip):
    """All frames of a clip sample, annotated or not, as a clip for a predictor."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self.size_hw = sample.frame(0).shape[:2]
        self.timestamps = tuple(i * _FRAME_TIME for i in range(sample.frame_count))
        self.last_duration = _FRAME_TIME

    def _read(self, index: int) -> np.ndarray:
        return self._sample.frame(index)


FirstMasks = dict[int, tuple[int, np.ndarray]]  # object -> first annotated frame that shows it, bool [H, W] there


@dataclass
class Presence:
    """On which frames after its prompt an object was shown where it is visible, and nothing where it is not."""

    found: list[bool] = field(default_factory=list)
    rejected: list[bool] = field(default_factory=list)

    def note(self, mask: np.ndarray, truth: np.ndarray | None) -> None:
        """One more frame; bool [H, W] each."""
        if truth is not None and truth.any():
            self.found.append(bool(mask.any()))
        else:
            self.rejected.append(not mask.any())

    def as_scores(self) -> dict[str, float]:
        """The shares of such frames, 0..1, where there are any."""
        shares = {"present_recall": self.found, "absent_recall": self.rejected}
        return {name: float(np.mean(hits)) for name, hits in shares.items() if hits}


Scores = dict[str, dict[int, tuple[TrackScore, Presence]]]  # prompt -> object -> how it was tracked


def track_scores(
    predictor: VideoPredictor, sample: Sample, prompts: Sequence[str] = SHORT_LIST, scoring: Scoring = OFFICIAL
) -> Scores:
    """Track all objects of a clip after each kind of prompt, in one pass.

    Args:
        predictor: of `TrackingProtocol.predictor`; one that resolves overlaps takes one kind of prompt at a time.
        prompts: some of FIRST_PROMPTS.
        scoring: which frames count.
    Raises:
        ValueError: if the sample cannot be read or shows no object.
    """
    firsts = first_masks(sample)
    counted = [sample.truth_frames[place] for place in scoring.counted(len(sample.truth_frames))]
    if not counted:
        count = len(sample.truth_frames)
        raise ValueError(f"{sample.name} has {count} annotated frames; J&F leaves out the first and the last")
    scorers = {prompt: SequenceScorer(scoring) for prompt in prompts}
    presence = {prompt: {i: Presence() for i in firsts} for prompt in prompts}
    begin = min(frame for frame, _ in firsts.values())
    for scorer in scorers.values():
        for _ in range(sum(frame < begin for frame in counted)):
            scorer.add({}, {})  # nothing is there yet, and nothing is predicted
    for frame, shown in tracked_masks(predictor, sample, firsts, prompts):
        truths = truth_of(sample, frame)
        for prompt, masks in shown.items():
            if frame in counted:
                scorers[prompt].add(masks, truths)
            for i, mask in masks.items():
                if frame > firsts[i][0]:
                    presence[prompt][i].note(mask, truths.get(i))
    return {p: {i: (s, presence[p][i]) for i, s in scorer.scores(firsts).items()} for p, scorer in scorers.items()}


def track_rows(predictor: VideoPredictor, sample: Sample, protocol: TrackingProtocol) -> list[ObjectRow]:
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
    scores = track_scores(predictor, sample, [protocol.prompt], protocol.scoring)[protocol.prompt]
    return [ObjectRow(sample.name, str(i), s.as_scores() | presence.as_scores()) for i, (s, presence) in scores.items()]


def evaluate_clips(model: SAM2, clips: Iterable[LabelledFrames]) -> dict[str, float]:
    """Mean scores over all objects of all clips; every frame after the first counts.

    Args:
        clips: short ones, whose objects are all seen on the first frame.
    Returns:
        "mask", "click", "box": J&F after this kind of prompt; "mask_j", ...: J alone; "present_recall" and
        "absent_recall" over all frames and prompts; "copied": J of the first mask left where it was; "objects".
    Raises:
        ValueError: if there is no object.
    """
    predictor = TrackingProtocol().predictor(model)
    scores: dict[str, list[TrackScore]] = {prompt: [] for prompt in SHORT_LIST}
    presence, copied = Presence(), []
    for clip in clips:
        for prompt, objects in track_scores(predictor, SampleInMemory("clip", clip), SHORT_LIST, AFTER_FIRST).items():
            for score, seen in objects.values():
                scores[prompt].append(score)
                presence.found += seen.found
                presence.rejected += seen.rejected
        copied += [float(np.mean([region_similarity(m[0], t) for t in m[1:]])) for m in clip.masks.values()]
    if not copied:
        raise ValueError("there is no object to evaluate on")
    return {
        **{prompt: float(np.mean([s.overall for s in found])) for prompt, found in scores.items()},
        **{f"{prompt}_j": float(np.mean([s.region for s in found])) for prompt, found in scores.items()},
        **{"present_recall": 0.0, "absent_recall": 0.0, **presence.as_scores()},
        "copied": float(np.mean(copied)),
        "objects": float(len(copied)),
    }


def tracked_masks(
    predictor: VideoPredictor, sample: Sample, firsts: FirstMasks, prompts: Sequence[str]
) -> Iterator[tuple[int, dict[str, dict[int, np.ndarray]]]]:
    """Annotated frames from the first prompt on, and prompt -> masks bool [H, W] of the objects shown by then."""
    session = predictor.open(SampleFrames(sample))
    for prompt in prompts:
        for number, (frame, mask) in firsts.items():
            _prompt_once(predictor, session, frame, f"{number} by {prompt}", mask, prompt)
    annotated = set(sample.truth_frames)
    for answer in predictor.propagate(session, None, "forward"):
        if answer.frame_index in annotated:
            shown = dict(answer)
            names = {prompt: {i: f"{i} by {prompt}" for i in firsts} for prompt in prompts}
            masks = {p: {i: shown[name] for i, name in of.items() if name in shown} for p, of in names.items()}
            yield answer.frame_index, masks


def first_masks(sample: Sample) -> FirstMasks:
    """The first annotated frame that shows each object, and its mask there.

    Reads no further than to the frame on which the last of them appears.

    Raises:
        ValueError: if no object is ever seen.
    """
    found: FirstMasks = {}
    objects = len(sample.object_ids)  # which may have to be counted in the files
    for frame in sample.truth_frames:
        if len(found) == objects:
            break
        for object_id, mask in truth_of(sample, frame).items():
            if object_id not in found and mask.any():
                found[object_id] = (frame, mask)
    if not found:
        raise ValueError(f"{sample.name} has no object on any annotated frame")
    return found


def truth_of(sample: Sample, frame: int) -> dict[int, np.ndarray]:
    """object -> bool [H, W] of one annotated frame."""
    return {i: masks[0] for i, masks in sample.read([frame]).masks.items()}


def _prompt_once(
    predictor: VideoPredictor, session: Session, frame: int, name: str, truth: np.ndarray, prompt: str
) -> None:
    """Show an object on one frame; clicks after the first go where the answer is wrong, until nothing is."""
    if prompt == "mask":
        predictor.add_mask(session, frame, name, truth)
    elif prompt == "box":
        predictor.add_box(session, frame, name, tight_boxes(torch.from_numpy(truth)[None]))
    else:
        shown: np.ndarray | None = None
        for _ in range(CLICKS_OF[prompt]):
            point, label = centre_click(truth, shown)
            shown = predictor.add_points(session, frame, name, point, label).mask(name)
            if np.array_equal(shown, truth):
                break


@dataclass(frozen=True)
class Comparison:
    """One picture, or a frame of a clip, before and after; the three lists go together, object by object."""

    name: str
    image: np.ndarray  # uint8 [H, W, 3]
    truths: list[np.ndarray]  # bool [H, W] each
    before: list[Click]
    after: list[Click]
    clicked_here: bool = True  # False if the clicks were on an earlier frame of a clip

    @property
    def mean_before(self) -> float:
        """Mean IoU of the model before, 0..1."""
        return float(np.mean([click.iou for click in self.before]))

    @property
    def mean_after(self) -> float:
        """Mean IoU of the model after, 0..1."""
        return float(np.mean([click.iou for click in self.after]))

    def panels(self) -> list[tuple[str, np.ndarray, list[tuple[int, int]]]]:
        """Title, picture with masks drawn in, and clicks: of the truth, before, and after."""
        found = [(f"{self.name}: truth", self.truths, list[Click]())]
        for when, clicks, iou in (("before", self.before, self.mean_before), ("after", self.after, self.mean_after)):
            found.append((f"{when}: IoU {iou:.2f}", [click.mask for click in clicks], clicks))
        return [
            (title, draw_masks(self.image, masks, range(len(masks))), [c.point_xy for c in clicks if self.clicked_here])
            for title, masks, clicks in found
        ]


def compare(sample: Sample, before: ImagePredictor, after: ImagePredictor) -> Comparison:
    """What two models show of a sample after one click on each object.

    Of a clip, objects are clicked on their first frame and tracked; shown is the annotated frame after two thirds of
    them, or the last before it on which anything is seen.

    Raises:
        ValueError: if the sample shows no object.
    """
    name = Path(sample.name).name
    if not sample.is_picture:
        return _compare_tracked(name, sample, before.model, after.model)
    picture = sample.read()
    truths = [truth for truth in picture.picture_masks if truth.any()]
    if not truths:
        raise ValueError(f"{name} has no object to compare models on; label one")
    return Comparison(name, picture.image, truths, one_click_masks(before, picture), one_click_masks(after, picture))


def _compare_tracked(name: str, sample: Sample, before: SAM2, after: SAM2) -> Comparison:
    firsts = first_masks(sample)
    known = list(sample.truth_frames)[: 2 * len(sample.truth_frames) // 3 + 1]
    seen = ((frame, {i: m for i, m in truth_of(sample, frame).items() if m.any()}) for frame in reversed(known))
    frame, truths = next(((frame, masks) for frame, masks in seen if masks), (0, {}))
    if not truths:
        raise ValueError(f"{sample.name} has no object on any of its first annotated frames; look at its masks")

    def clicked(model: SAM2) -> list[Click]:
        tracked = tracked_masks(TrackingProtocol().predictor(model), sample, firsts, ["click"])
        shown = next((masks["click"] for index, masks in tracked if index == frame), {})
        masks = {i: shown.get(i, np.zeros_like(truth)) for i, truth in truths.items()}
        clicks = {i: centre_click(firsts[i][1]) for i in truths}
        return [Click(*clicks[i], masks[i], region_similarity(masks[i], truth)) for i, truth in truths.items()]

    image, masks = sample.frame(frame), list(truths.values())
    return Comparison(f"{name}, frame {frame}", image, masks, clicked(before), clicked(after), clicked_here=False)
