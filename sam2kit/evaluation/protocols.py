"""A protocol over a dataset, from a model to a report: what `sam2kit evaluate DATA` does.

clicks     pictures: 1 to 5 clicks, best of three, box         pictures.py
vos        clips: shown once, followed to the end              semi_supervised.py
offline    clips: the worst frame is corrected, again and again   interactive.py
online     clips: watched once, corrected where it gets bad    interactive.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam2kit.datasets.fingerprint import content_keys, fingerprint
from sam2kit.datasets.samples import ClipSample, Dataset, PictureSample, counted
from sam2kit.evaluation.interactive import MOST_FRAMES, interactive_rows
from sam2kit.evaluation.pictures import CLICKS, calibration, picture_rows
from sam2kit.evaluation.processes import Team
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.runs import Identity, model_fingerprint, run_samples
from sam2kit.evaluation.semi_supervised import TrackingProtocol, track_sample
from sam2kit.evaluation.tables import Report
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.video import VideoPredictor

PROTOCOLS = ("clicks", "vos", "offline", "online")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        protocol: one of PROTOCOLS; None takes clicks where there are pictures, else vos.
        clicks: of the protocol "clicks", per object.
        frames: that are corrected at most, of "offline" and "online".
        tracking: how "vos" shows objects and counts frames.
        limit: use only the first samples, so many; None uses all.
        include_training: also score samples that the model was trained on.
    Raises:
        ValueError: if there is no such protocol, or a number is below 1.
    """

    protocol: str | None = None
    clicks: int = CLICKS
    frames: int = MOST_FRAMES
    tracking: TrackingProtocol = field(default_factory=TrackingProtocol)
    limit: int | None = None
    include_training: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in (None, *PROTOCOLS):
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if self.clicks < 1 or self.frames < 1:
            raise ValueError(f"clicks and frames must be 1 or more, got {self.clicks} and {self.frames}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")

    def chosen_for(self, dataset: Dataset) -> str:
        """The protocol for this data.

        Raises:
            ValueError: if the data has nothing for it.
        """
        protocol = self.protocol or ("clicks" if dataset.pictures else "vos")
        wanted, there = ("pictures", dataset.pictures) if protocol == "clicks" else ("clips", dataset.clips)
        if not there:
            raise ValueError(f"protocol {protocol} needs {wanted}, but {dataset.path} has {_found(dataset)}")
        return protocol

    def identity(self, protocol: str) -> Identity:
        """What must be the same for results to belong together."""
        if protocol == "clicks":
            return {"protocol": protocol, "clicks": self.clicks}
        if protocol == "vos":
            tracking = self.tracking
            scoring = {f"scoring {k}": v for k, v in asdict(tracking.scoring).items()}
            return {"protocol": protocol, "prompt": tracking.prompt, "non_overlap": tracking.non_overlap, **scoring}
        return {"protocol": protocol, "frames": self.frames}


def _found(dataset: Dataset) -> str:
    return f"{len(dataset.pictures)} pictures and {len(dataset.clips)} clips"


def samples_to_score(model: SAM2, dataset: Dataset, settings: Settings) -> tuple[list[Any], list[str]]:
    """The samples that an evaluation scores: those that the model was not trained on, unless the settings want these.

    Samples are recognised by their pixels, so the data may lie elsewhere under other names. Where the model was
    trained on every one of them, all are scored.

    Returns:
        the samples; and sentences that say what this means for the numbers.
    Raises:
        ValueError: if the data has nothing for the protocol.
    """
    clicks = settings.chosen_for(dataset) == "clicks"
    samples: list[Any] = list(dataset.pictures if clicks else dataset.clips)
    notes, kinds = [], "picture" if clicks else "clip"
    if any(model.seen.values()):
        keys = dict(zip((s.name for s in samples), content_keys(samples), strict=True))
        trained_on, chosen_on = (model.seen.get(use, frozenset()) for use in ("training", "validation"))
        new = [s for s in samples if keys[s.name] not in trained_on]
        if len(new) < len(samples):
            notes.append(_note_on_training(len(samples), len(new), kinds, include=settings.include_training))
        samples = samples if settings.include_training or not new else new
        samples = samples[: settings.limit]
        chosen = sum(keys[s.name] in chosen_on - trained_on for s in samples)
        if chosen:
            notes.append(
                f"The best epoch of this model was chosen on {chosen} of the {counted(len(samples), kinds)} that are "
                "scored, so expect a little less on new ones."
            )
    return samples[: settings.limit], notes


def _note_on_training(all_of_them: int, new: int, kind: str, *, include: bool) -> str:
    trained = f"This model was trained on {all_of_them - new} of these {counted(all_of_them, kind)}"
    if not new:
        return (
            f"This model was trained on all of these {counted(all_of_them, kind)}: the numbers say how well it "
            "remembers them, not how good it is on others."
        )
    if include:
        return f"{trained}, which are scored all the same, so the numbers are flattered."
    return f"{trained}; only the other {new} are scored (--include-training scores all)."


def evaluate_dataset(
    model: SAM2,
    dataset: Dataset,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    team: Team | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report | None:
    """Measure a model on pictures or clips with true masks.

    Args:
        model: a SAM2.
        dataset: of `open_dataset`, perhaps one split of it.
        settings: protocol and its options.
        out: folder for the rows of finished samples; the same call goes on there after an interruption.
        team: the processes that share the work.
        progress: is told how many samples of this process are done, of how many.
    Returns:
        the report; None in processes other than the main one. Its `notes` say so if the model was trained on samples
        of this data; those are left out, see `samples_to_score`.
    Raises:
        ValueError: if the data has nothing for the protocol, nothing of it can be used, or the folder holds results
            of another model or protocol.
    """
    settings = settings or Settings()
    protocol = settings.chosen_for(dataset)
    identity = {"model": model_fingerprint(model), "data": fingerprint(dataset), **settings.identity(protocol)}
    samples, notes = samples_to_score(model, dataset, settings)
    score = _scorer(model, protocol, settings)
    result = run_samples(samples, score, identity, out=out, team=team, progress=progress)
    if result is None:
        return None
    details: dict[str, Any] = {}
    if protocol == "clicks" and result.rows:
        details["calibration"] = [asdict(b) for b in calibration(result.rows)]
    shown = settings.tracking.prompt if protocol == "vos" else protocol
    scored = dataset.subset(sample.name for sample in samples)
    title = f"{protocol}{f', first {shown}' if protocol == 'vos' else ''}: {scored.describe()}"
    about = {"path": str(dataset.path), **identity}
    return Report(title, result.rows, about, result.skipped, details=details, notes=notes)


def _scorer(model: SAM2, protocol: str, settings: Settings) -> Callable[[Any], list[ObjectRow]]:
    """Sample -> rows."""
    if protocol == "clicks":
        pictures = ImagePredictor(model)

        def score_picture(sample: PictureSample) -> list[ObjectRow]:
            return picture_rows(pictures, sample.name, sample.read(), settings.clicks)

        return score_picture
    if protocol == "vos":
        tracker = settings.tracking.predictor(model)
        return lambda sample: track_sample(tracker, sample, settings.tracking)
    clicked = VideoPredictor(model, VideoOptions(max_hole_area=0))

    def score_clip(sample: ClipSample) -> list[ObjectRow]:
        return interactive_rows(clicked, sample, online=protocol == "online", frames=settings.frames)

    return score_clip
