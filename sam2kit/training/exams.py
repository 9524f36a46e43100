"""What a fine-tuned model is judged by: held-out samples of the user's data, and how much of the rest it still knows.

The held-out part of the data says whether training helps; procedural scenes and clips that no training sees say what
it costs elsewhere. Both are asked before and after, by the paper's protocols.

Surprise: with a limit on the time, as many samples are evaluated as fit, in a random order; the same ones are then
evaluated after training. What the base model scored on a sample is kept on disk (kept_scores.py), with the time it
took, which counts again, so that the limit means the same.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from sam2kit.datasets.in_memory import ClipInMemory, PictureInMemory
from sam2kit.datasets.samples import ClipSample, Sample
from sam2kit.evaluation.clips import score_clip
from sam2kit.evaluation.pictures import click_curve, picture_rows
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.semi_supervised import TrackingProtocol, track_sample
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.video import VideoPredictor
from sam2kit.score_table import JUDGED
from sam2kit.training.held_out import held_out_clips, held_out_pictures
from sam2kit.training.kept_scores import KeptScores

PICTURE_MEASURES = ("click1", "click3", "click5", "box")  # mIoU
CLIP_PROMPTS = ("mask", "click", "box")
_GENERAL_PICTURES, _GENERAL_CLIPS = 24, 4

Measure = Callable[[SAM2, Sample], list[ObjectRow]]


def held_out_rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
    """mIoU after 1, 3 and 5 clicks and a box, and "missed", of each object of a picture; J&F after a mask, a click and
    a box of each object of a clip."""
    if not isinstance(sample, ClipSample):
        rows = picture_rows(ImagePredictor(model), sample.name, sample.read(), clicks=5)
        return [replace(r, scores={name: r.scores[name] for name in (*PICTURE_MEASURES, "missed")}) for r in rows]
    of_object: dict[str, dict[str, float]] = {}
    for prompt in CLIP_PROMPTS:
        protocol = TrackingProtocol(prompt)
        for row in track_sample(protocol.predictor(model), sample, protocol):
            of_object.setdefault(row.object_id, {})[f"{prompt} J&F"] = row.scores["J&F"]
    return [ObjectRow(sample.name, object_id, scores) for object_id, scores in of_object.items()]


def general_rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
    """mIoU after one click on each object of a procedural scene; J&F from a mask on those of a procedural clip."""
    if isinstance(sample, ClipSample):
        clip = sample.read(range(sample.frame_count))
        tracker = VideoPredictor(model, VideoOptions(max_hole_area=0))
        found = score_clip(tracker, clip, prompts=("mask",))["mask"]
        return [ObjectRow(sample.name, str(n), {"clips mask J&F": s.overall}) for n, s in enumerate(found)]
    picture, predictor = sample.read(), ImagePredictor(model)
    embedding = predictor.encode(picture.image)
    curves = {n: click_curve(predictor, embedding, mask, 1) for n, mask in enumerate(picture.masks) if mask.any()}
    return [ObjectRow(sample.name, str(n), {"scenes click1": curve.ious[0]}) for n, curve in curves.items()]


def general_samples(*, clips: bool) -> list[Sample]:
    """Held-out procedural scenes, and clips where asked for.

    A small number, the same each time; `sam2kit evaluate` takes all.
    """
    scenes = enumerate(held_out_pictures(_GENERAL_PICTURES))
    samples: list[Sample] = [PictureInMemory(f"scene {n}", picture) for n, picture in scenes]
    if clips:
        samples += [ClipInMemory(f"clip {n}", clip) for n, clip in enumerate(held_out_clips(_GENERAL_CLIPS))]
    return samples


@dataclass
class Exam:
    """Samples to evaluate a model on, shared by several processes.

    Args:
        samples: pictures, clips or both.
        accelerator: the processes that share the work.
        measure: model and sample -> scores of each object.
        bar: whether to draw a progress bar.
    """

    samples: Sequence[Sample]
    accelerator: Accelerator
    measure: Measure = held_out_rows
    bar: bool = False
    seconds: float = 0.0  # that the last evaluation took, or would have taken without kept scores
    skipped: set[str] = field(default_factory=set)  # names of samples that could not be used

    def take(self, model: SAM2, goes_on: Callable[[int, int], None] = lambda done, of: None) -> dict[str, float]:
        """Means over all objects of all samples, see `means_of`.

        Raises:
            ValueError: if no held-out sample can be used.
        """
        return means_of(self.rows(model, goes_on))

    def rows(
        self,
        model: SAM2,
        goes_on: Callable[[int, int], None] = lambda done, of: None,
        *,
        words: str = "evaluating",
        limit: float | None = None,
        kept: KeptScores | None = None,
    ) -> list[ObjectRow]:
        """Scores of every object of all samples, the same on all processes.

        Args:
            goes_on: called before each of this process's samples with how many are done, of how many.
            words: what the progress bar says.
            limit: seconds after which no further sample is begun; the first is always finished. The exam has only the
                finished samples afterwards.
            kept: scores of the same model from earlier evaluations, and where new ones are added.
        """
        order = list(self.samples)
        if limit is not None:
            order = [order[n] for n in np.random.default_rng(0).permutation(len(order))]
        mine = order[self.accelerator.process_index :: self.accelerator.num_processes]
        rows: list[ObjectRow] = []
        done: list[str] = []
        seconds = 0.0
        shown = self.bar and self.accelerator.is_main_process
        with tqdm(total=len(mine), desc=words, unit="sample", disable=not shown) as bar:
            for sample in mine:
                if limit is not None and done and seconds >= limit:
                    break
                goes_on(len(done), len(mine))
                found, took = self._timed(model, sample, kept)
                rows, seconds = rows + found, seconds + took
                done.append(sample.name)
                bar.update()
        everyone = self._gathered([(rows, done, seconds)])
        self.seconds = max(took for _, _, took in everyone)
        names = {name for _, some, _ in everyone for name in some}
        self.samples = [sample for sample in self.samples if sample.name in names]
        place = {sample.name: n for n, sample in enumerate(self.samples)}
        return sorted((row for some, _, _ in everyone for row in some), key=lambda row: place[row.sample])

    def only(self, names: Iterable[str]) -> None:
        """Keep the samples with these names, as in an earlier evaluation."""
        wanted = set(names)
        self.samples = [sample for sample in self.samples if sample.name in wanted]

    def _timed(self, model: SAM2, sample: Sample, kept: KeptScores | None) -> tuple[list[ObjectRow], float]:
        """Scores of one sample, and the seconds that they took when they were computed."""
        started = time.monotonic()
        try:
            if kept is None:
                return self.measure(model, sample), time.monotonic() - started
            return kept.rows(sample, partial(self.measure, model, sample))
        except (ValueError, OSError) as error:
            if sample.name not in self.skipped:
                warnings.warn(f"{error}; the held-out sample is left out")
            self.skipped.add(sample.name)
            return [], time.monotonic() - started

    def _gathered(
        self, of_this: list[tuple[list[ObjectRow], list[str], float]]
    ) -> list[tuple[list[ObjectRow], list[str], float]]:
        return gather_object(of_this) if self.accelerator.num_processes > 1 else of_this


def means_of(rows: Sequence[ObjectRow]) -> dict[str, float]:
    """Mean of every measure over the objects that have it, 0..1.

    Returns:
        the measures; "missed", the share of objects that one click does not find; "score", the mean of the mIoU and
        J&F values, by which the best epoch is chosen; "objects".
    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("no held-out sample can be used; hold out more, or look at `sam2kit data check`")
    means = plain_means(rows)
    judged = [means[name] for name in JUDGED if name in means]
    return {"score": float(np.mean(judged)), **means, "objects": float(len(rows))}


def plain_means(rows: Sequence[ObjectRow]) -> dict[str, float]:
    """The means without score and count."""
    names = dict.fromkeys(name for row in rows for name in row.scores)
    return {name: float(np.mean([r.scores[name] for r in rows if name in r.scores])) for name in names}
