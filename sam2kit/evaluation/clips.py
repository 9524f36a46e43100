"""How well does it track? Prompt the first frame, propagate, compare every later frame with the truth.

Each object counts alone and equally: J, F and their mean over the frames after the first, in which it may be hidden
or gone (an empty mask is then the right answer). Presence is judged apart: is something shown where the object is
visible, and nothing where it is not? Deterministic: no random number is drawn.

Differs from the benchmarks (semi_supervised.py): all objects are visible on the first frame, every later frame counts
and none is left out at the end, frames on which both are empty count 1 from the start, and mask, click and box are
tracked side by side in one pass. Made for short clips in memory; quick enough to watch a training.

Source: SAM 2, arXiv:2408.00714, section 6 and appendix "Zero-shot video"; protocol of the DAVIS benchmark.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sam2kit.datasets.samples import LabelledClip
from sam2kit.evaluation.clicks import centre_click, tight_boxes
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import VideoPredictor

PROMPTS = ("mask", "click", "box")
_NO_CLEAN_UP = VideoOptions(max_hole_area=0)  # as behind the published numbers


@dataclass(frozen=True)
class TrackScores:
    """One object through one clip, after one kind of prompt."""

    region: float  # J, mean over the frames after the first
    boundary: float  # F
    found: tuple[int, int]  # frames with a mask, of those on which the object is visible
    rejected: tuple[int, int]  # frames without one, of those on which it is not

    @property
    def overall(self) -> float:
        """J&F."""
        return (self.region + self.boundary) / 2


def evaluate_clips(model: SAM2, clips: Iterable[LabelledClip]) -> dict[str, float]:
    """Mean scores over all objects of all clips.

    Returns:
        "mask", "click", "box": J&F after this kind of prompt; "mask_j", ...: J alone; "present_recall" and
        "absent_recall" over all frames and prompts; "copied": J of the first mask left where it was; "objects".
    """
    predictor = VideoPredictor(model, _NO_CLEAN_UP)
    scores: dict[str, list[TrackScores]] = {kind: [] for kind in PROMPTS}
    copied: list[float] = []
    for clip in clips:
        for kind, found in score_clip(predictor, clip).items():
            scores[kind] += found
        copied += [float(np.mean([region_similarity(m[0], t) for t in m[1:]])) for m in clip.masks.values()]
    if not copied:
        raise ValueError("there is no object to evaluate on")
    everything = [s for found in scores.values() for s in found]
    return {
        **{kind: float(np.mean([s.overall for s in found])) for kind, found in scores.items()},
        **{f"{kind}_j": float(np.mean([s.region for s in found])) for kind, found in scores.items()},
        "present_recall": _share(s.found for s in everything),
        "absent_recall": _share(s.rejected for s in everything),
        "copied": float(np.mean(copied)),
        "objects": float(len(copied)),
    }


def score_clip(
    predictor: VideoPredictor, clip: LabelledClip, prompts: Sequence[str] = PROMPTS
) -> dict[str, list[TrackScores]]:
    """Scores of every object of a clip after each kind of prompt; all of them in one pass through the clip."""
    session = predictor.open(clip.frames)
    for number, truth in clip.masks.items():
        for kind in prompts:
            _prompt(predictor, session, kind, number, truth[0])
    tracked: dict[Hashable, list[np.ndarray]] = {i: [] for i in session.tracks}
    for frame in predictor.propagate(session, 0, "forward"):
        if frame.frame_index:
            for name, mask in frame:
                tracked[name].append(mask)
    return {k: [_score(tracked[_name(k, n)], truth[1:]) for n, truth in clip.masks.items()] for k in prompts}


def _prompt(predictor: VideoPredictor, session: VideoSession, kind: str, number: int, truth: np.ndarray) -> None:
    name = _name(kind, number)
    if kind == "mask":
        predictor.add_mask(session, 0, name, truth)
    elif kind == "click":
        predictor.add_points(session, 0, name, centre_click(truth)[0])
    else:
        predictor.add_box(session, 0, name, tight_boxes(torch.from_numpy(truth)[None]))


def _name(kind: str, number: int) -> str:
    return f"{number} by {kind}"


def _score(masks: list[np.ndarray], truths: np.ndarray) -> TrackScores:
    shown = [(bool(m.any()), bool(t.any())) for m, t in zip(masks, truths, strict=True)]
    return TrackScores(
        region=float(np.mean([region_similarity(m, t) for m, t in zip(masks, truths, strict=True)])),
        boundary=float(np.mean([boundary_accuracy(m, t) for m, t in zip(masks, truths, strict=True)])),
        found=(sum(m for m, t in shown if t), sum(t for _, t in shown)),
        rejected=(sum(not m for m, t in shown if not t), sum(not t for _, t in shown)),
    )


def _share(counts: Iterable[tuple[int, int]]) -> float:
    hits, of = np.sum(list(counts), axis=0)
    return float(hits / max(of, 1))
