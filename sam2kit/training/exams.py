"""What a fine-tuned model is judged by: held-out samples of the user's data, and how much of the rest it still knows.

The held-out part of the data says whether training helps; procedural scenes and clips that no training sees say what
it costs elsewhere. Both are asked before and after, by the paper's protocols.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from sam2kit.datasets.samples import ClipSample, PictureSample, Sample
from sam2kit.evaluation.clips import evaluate_clips
from sam2kit.evaluation.pictures import evaluate_pictures, picture_rows
from sam2kit.evaluation.semi_supervised import TrackingProtocol, track_sample
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.training.held_out import held_out_clips, held_out_pictures

PICTURE_MEASURES = ("click1", "click3", "click5", "box")  # mIoU
CLIP_PROMPTS = ("mask", "click", "box")
CLIP_MEASURES = tuple(f"{prompt} J&F" for prompt in CLIP_PROMPTS)
_GENERAL_PICTURES, _GENERAL_CLIPS = 24, 4


@dataclass(frozen=True)
class Exam:
    """Held-out samples.

    Args:
        samples: pictures, clips or both.
        accelerator: the processes that share the work.
    """

    samples: Sequence[Sample]
    accelerator: Accelerator
    skipped: set[str] = field(default_factory=set)  # names of samples that could not be used

    def take(self, model: SAM2, goes_on: Callable[[int, int], None] = lambda done, of: None) -> dict[str, float]:
        """Mean over all objects of all samples, the same on all processes.

        Args:
            goes_on: called before each of this process's samples with how many are done, of how many.
        Returns:
            mIoU after 1, 3 and 5 clicks and a box for pictures; J&F after a mask, a click and a box for clips, in
            0..1; "missed", the share of objects that one click does not find; "score", the mean of the mIoU and J&F
            values, by which the best epoch is chosen; "objects".
        Raises:
            ValueError: if no held-out sample can be used.
        """
        rank, size = self.accelerator.process_index, self.accelerator.num_processes
        rows, mine = [], self.samples[rank::size]
        for done, sample in enumerate(mine):
            goes_on(done, len(mine))
            rows += self._rows(model, sample)
        if size > 1:
            rows = gather_object(rows)
        if not rows:
            raise ValueError("no held-out sample can be used; hold out more, or look at `sam2kit data check`")
        names = dict.fromkeys(name for row in rows for name in row)
        means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
        judged = [means[name] for name in (*PICTURE_MEASURES, *CLIP_MEASURES) if name in means]
        return {"score": float(np.mean(judged)), **means, "objects": float(len(rows))}

    def _rows(self, model: SAM2, sample: Sample) -> list[dict[str, float]]:
        """Scores of each object of one sample."""
        try:
            return _clip_rows(model, sample) if isinstance(sample, ClipSample) else _picture_rows(model, sample)
        except (ValueError, OSError) as error:
            if sample.name not in self.skipped:
                warnings.warn(f"{error}; the held-out sample is left out")
            self.skipped.add(sample.name)
            return []


def _picture_rows(model: SAM2, sample: PictureSample) -> list[dict[str, float]]:
    rows = picture_rows(ImagePredictor(model), sample.name, sample.read(), clicks=5)
    return [{name: row.scores[name] for name in (*PICTURE_MEASURES, "missed")} for row in rows]


def _clip_rows(model: SAM2, sample: ClipSample) -> list[dict[str, float]]:
    of_object: dict[str, dict[str, float]] = {}
    for prompt in CLIP_PROMPTS:
        protocol = TrackingProtocol(prompt)
        for row in track_sample(protocol.predictor(model), sample, protocol):
            of_object.setdefault(row.object_id, {})[f"{prompt} J&F"] = row.scores["J&F"]
    return list(of_object.values())


def general_knowledge(model: SAM2, *, clips: bool) -> dict[str, float]:
    """mIoU after one click on held-out procedural scenes, and J&F from a mask on held-out procedural clips.

    A small sample, the same each time; `sam2kit evaluate` takes the whole one.
    """
    known = {"scenes click1": evaluate_pictures(model, held_out_pictures(_GENERAL_PICTURES))["click1"]}
    if clips and model.memory_is_trained:
        known["clips mask J&F"] = evaluate_clips(model, held_out_clips(_GENERAL_CLIPS))["mask"]
    return known
