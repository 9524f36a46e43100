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

from sam2kit.datasets.fingerprint import fingerprint
from sam2kit.datasets.samples import ClipSample, Dataset, PictureSample
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
    Raises:
        ValueError: if there is no such protocol, or a number is below 1.
    """

    protocol: str | None = None
    clicks: int = CLICKS
    frames: int = MOST_FRAMES
    tracking: TrackingProtocol = field(default_factory=TrackingProtocol)

    def __post_init__(self) -> None:
        if self.protocol not in (None, *PROTOCOLS):
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if self.clicks < 1 or self.frames < 1:
            raise ValueError(f"clicks and frames must be 1 or more, got {self.clicks} and {self.frames}")

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
        the report; None in processes other than the main one.
    Raises:
        ValueError: if the data has nothing for the protocol, nothing of it can be used, or the folder holds results
            of another model or protocol.
    """
    settings = settings or Settings()
    protocol = settings.chosen_for(dataset)
    identity = {"model": model_fingerprint(model), "data": fingerprint(dataset), **settings.identity(protocol)}
    samples = dataset.pictures if protocol == "clicks" else dataset.clips
    score = _scorer(model, protocol, settings)
    result = run_samples(samples, score, identity, out=out, team=team, progress=progress)
    if result is None:
        return None
    details: dict[str, Any] = {}
    if protocol == "clicks" and result.rows:
        details["calibration"] = [asdict(b) for b in calibration(result.rows)]
    shown = settings.tracking.prompt if protocol == "vos" else protocol
    title = f"{protocol}{f', first {shown}' if protocol == 'vos' else ''}: {dataset.describe()}"
    return Report(title, result.rows, {"path": str(dataset.path), **identity}, result.skipped, details=details)


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
