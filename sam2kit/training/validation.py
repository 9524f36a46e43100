"""What a fine-tuned model is evaluated on, before and after: held-out samples of the data, and a forgetting check.

The held-out part of the data says whether training helps; procedural scenes and clips that no training sees say what
it costs elsewhere. Both by the paper's protocols. Scores of base models are kept on disk, so that training twice from
the same base does not wait for them twice: in ~/.cache/sam2kit/scores (or where SAM2KIT_CACHE says), a small file for
each sample and model, which may be deleted at any time.

Surprise: with a limit on the time, as many samples are evaluated as fit, in a random order; the same ones are then
evaluated after training. Kept scores count with the time they once took, so that the limit means the same.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from sam2kit.config import __version__
from sam2kit.data.sample import Dataset, Sample, SampleInMemory
from sam2kit.data.splitting import split
from sam2kit.evaluation.clicks import picture_rows
from sam2kit.evaluation.metrics import AFTER_FIRST
from sam2kit.evaluation.reports import ObjectRow, means_of
from sam2kit.evaluation.runs import model_fingerprint
from sam2kit.evaluation.semi_supervised import TrackingProtocol, track_scores
from sam2kit.files import read_json, write_json
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import JUDGED
from sam2kit.nano.held_out import held_out_clips, held_out_pictures
from sam2kit.predict.image import ImagePredictor

_PICTURE_MEASURES = ("click1", "click3", "click5", "box", "missed")
_CLIP_PROMPTS = ("mask", "click", "box")
_CHECKED_PICTURES, _CHECKED_CLIPS = 24, 4  # of the forgetting check

Measure = Callable[[SAM2, Sample], list[ObjectRow]]


def held_out_rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
    """mIoU after 1, 3 and 5 clicks and a box, and "missed", of each object of a picture; J&F after a mask, a click and
    a box of each object of a clip."""
    if sample.is_picture:
        rows = picture_rows(ImagePredictor(model), sample.name, sample.read(), clicks=5)
        return [replace(row, scores={name: row.scores[name] for name in _PICTURE_MEASURES}) for row in rows]
    tracked = track_scores(TrackingProtocol().predictor(model), sample, _CLIP_PROMPTS)
    return [
        ObjectRow(sample.name, str(i), {f"{prompt} J&F": tracked[prompt][i][0].overall for prompt in _CLIP_PROMPTS})
        for i in tracked[_CLIP_PROMPTS[0]]
    ]


def forgetting_rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
    """mIoU after one click on each object of a procedural scene; J&F from a mask on those of a procedural clip."""
    if not sample.is_picture:
        tracked = track_scores(TrackingProtocol().predictor(model), sample, ["mask"], AFTER_FIRST)["mask"]
        overall = [score.overall for score, _ in tracked.values()]
        return [ObjectRow(sample.name, str(n), {"clips mask J&F": value}) for n, value in enumerate(overall)]
    rows = picture_rows(ImagePredictor(model), sample.name, sample.read(), clicks=1)
    return [replace(row, scores={"scenes click1": row.scores["click1"]}) for row in rows]


def forgetting_samples(*, clips: bool) -> list[Sample]:
    """Held-out procedural scenes, and clips where asked for: a few, the same each time."""
    scenes = enumerate(held_out_pictures(_CHECKED_PICTURES))
    samples: list[Sample] = [SampleInMemory(f"scene {n}", picture) for n, picture in scenes]
    if clips:
        samples += [SampleInMemory(f"clip {n}", clip) for n, clip in enumerate(held_out_clips(_CHECKED_CLIPS))]
    return samples


def parts_of(data: Dataset, *, overfit: int, held_out: float, seed: int) -> tuple[Dataset, Dataset]:
    """What to train on, and what to evaluate on: the same few samples, to overfit them, or the data's splits."""
    if overfit:
        some = data.subset(sample.name for sample in data.samples[:overfit])
        return some, some
    return split(data, held_out, seed)


def some_of(data: Dataset, count: int, seed: int) -> list[Sample]:
    """At most so many samples, drawn evenly; half of them clips where there are both."""
    kinds = [kind for kind in (data.pictures, data.clips) if kind]
    drawn: list[Sample] = []
    for kind in kinds:
        chosen = np.random.default_rng([seed, 3]).permutation(len(kind))[: max(count // len(kinds), 1)]
        drawn += [kind[n] for n in sorted(chosen)]
    return drawn


@dataclass
class Validation:
    """Samples to evaluate a model on, shared by several processes.

    Args:
        samples: pictures, clips or both.
        accelerator: the processes that share the work.
        measure: model and sample -> scores of each object.
    """

    samples: Sequence[Sample]
    accelerator: Accelerator
    measure: Measure = held_out_rows
    seconds: float = 0.0  # that the last evaluation took, or would have taken without kept scores
    skipped: set[str] = field(default_factory=set)  # names of samples that could not be used

    def evaluate(
        self,
        model: SAM2,
        goes_on: Callable[[int, int], None] = lambda done, total: None,
        *,
        limit: float | None = None,
        kept: str = "",
    ) -> list[ObjectRow]:
        """Scores of every object of all samples, the same on all processes.

        Args:
            goes_on: called before each of this process's samples with how many are done, of how many.
            limit: seconds after which no further sample is begun; the first is always finished. Only the finished
                samples are left afterwards.
            kept: a name for this way of measuring, under which scores are kept on disk; "" keeps none.
        """
        order = list(self.samples)
        if limit is not None:
            order = [order[n] for n in np.random.default_rng(0).permutation(len(order))]
        mine = order[self.accelerator.process_index :: self.accelerator.num_processes]
        keep = f"{kept} {model_fingerprint(model)} {model.device.type} {__version__}" if kept else ""
        rows: list[ObjectRow] = []
        done: list[str] = []
        seconds = 0.0
        for sample in mine:
            if limit is not None and done and seconds >= limit:
                break
            goes_on(len(done), len(mine))
            found, took = self._timed(model, sample, keep)
            rows, seconds = rows + found, seconds + took
            done.append(sample.name)
        everyone = [(rows, done, seconds)]
        if self.accelerator.num_processes > 1:
            everyone = gather_object(everyone)
        self.seconds = max(took for _, _, took in everyone)
        self.only(name for _, some, _ in everyone for name in some)
        place = {sample.name: n for n, sample in enumerate(self.samples)}
        return sorted((row for some, _, _ in everyone for row in some), key=lambda row: place[row.sample])

    def only(self, names: Iterable[str]) -> None:
        """Keep the samples with these names, as in an earlier evaluation."""
        wanted = set(names)
        self.samples = [sample for sample in self.samples if sample.name in wanted]

    def _timed(self, model: SAM2, sample: Sample, keep: str) -> tuple[list[ObjectRow], float]:
        """Scores of one sample, and the seconds that they took when they were computed."""
        started = time.monotonic()
        try:
            path = _kept_scores(keep, sample) if keep else None
            if path is not None and (known := _read_scores(path, sample.name)) is not None:
                return known
            rows = self.measure(model, sample)
        except (ValueError, OSError) as error:
            if sample.name not in self.skipped:
                warnings.warn(f"{error}; the held-out sample is left out")
            self.skipped.add(sample.name)
            return [], time.monotonic() - started
        seconds = time.monotonic() - started
        if path is not None:
            try:
                write_json({"rows": [row.as_dict() for row in rows], "seconds": seconds}, path)
            except OSError as error:
                warnings.warn(f"{error}; the base model will be evaluated again next time")
        return rows, seconds


def held_out_means(rows: Sequence[ObjectRow]) -> dict[str, float]:
    """Mean of every measure over the objects that have it, 0..1.

    Returns:
        the measures; "missed", the share of objects that one click does not find; "score", the mean of the mIoU and
        J&F values, by which the best epoch is chosen; "objects".
    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("no held-out sample can be used; hold out more, or look at `sam2kit data check`")
    means = means_of(rows)
    return {"score": float(np.mean([means[n] for n in JUDGED if n in means])), **means, "objects": float(len(rows))}


def _kept_scores(keep: str, sample: Sample) -> Path:
    """Where the scores of a sample are kept; known by every pixel and every mask, whatever files they come from."""
    digest = hashlib.sha256(keep.encode())
    for index in range(sample.frame_count):
        digest.update(sample.frame(index).tobytes())
    for index in sample.truth_frames:
        read = sample.read([index])
        digest.update(repr((index, read.frames.shape, sorted(read.masks))).encode())
        for number in sorted(read.masks):
            digest.update(read.masks[number].tobytes())
    folder = Path(os.environ.get("SAM2KIT_CACHE") or Path.home() / ".cache" / "sam2kit")
    return folder / "scores" / f"{digest.hexdigest()[:32]}.json"


def _read_scores(path: Path, name: str) -> tuple[list[ObjectRow], float] | None:
    try:
        kept = read_json(path)
        return [replace(ObjectRow.from_dict(row), sample=name) for row in kept["rows"]], float(kept["seconds"])
    except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged: computed again
        return None
