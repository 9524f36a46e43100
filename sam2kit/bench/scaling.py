"""How the time of a tracked frame grows: with objects, with the length of the clip, with the side of the square.

    objects    1 to 64 on one clip
    frame      its number in a clip with two objects; flat, if nothing is kept that grows
    side       of the square, with one object

Only frames with a full memory bank count, but for the figures by frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sam2kit.bench.contenders import moving, spots
from sam2kit.bench.worker import finish
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model

_FULL = 8  # frames after which the memory bank is full
_COUNTED = 3  # frames whose median counts

Series = dict[int, float]  # what grows -> seconds


@dataclass(frozen=True)
class Scaling:
    """Seconds per frame."""

    objects: Series
    frame: Series
    side: Series

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Plain data for JSON."""
        return {name: {str(x): s for x, s in series.items()} for name, series in vars(self).items()}


def measure_scaling(
    model: str = "nano",
    device: str = "auto",
    *,
    objects: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    frames: int = 200,
    sides: Sequence[int] = (256, 512, 768, 1024),
    progress: Callable[[str], None] | None = None,
) -> Scaling:
    """Measure.

    Args:
        model, device: as `load_model`.
        objects: how many are tracked together.
        frames: of the clip whose frames are timed one by one.
        sides: of the model's square.
        progress: is told what is being measured.
    """
    tell = progress or (lambda text: None)
    loaded = load_model(model, device)
    by_objects = {}
    for number in objects:
        tell(f"{number} objects")
        by_objects[number] = median(_seconds(loaded, number, _FULL + _COUNTED)[_FULL:])
    tell(f"{frames} frames")
    by_frame = dict(enumerate(_seconds(loaded, 2, frames), start=1))
    by_side = {}
    for side in sides:
        tell(f"side {side}")
        by_side[side] = median(_seconds(load_model(model, device, side=side), 1, _FULL + _COUNTED)[_FULL:])
    return Scaling(by_objects, by_frame, by_side)


def _seconds(model: SAM2, objects: int, frames: int) -> list[float]:
    """Of each frame that is tracked after the first, with its masks at the size of the clip."""
    predictor = VideoPredictor(model)
    session = predictor.open(moving(frames + 1))
    for number, place in enumerate(spots(objects)):
        predictor.add_points(session, 0, number, place[None])
    tracked, times = predictor.propagate(session, direction="forward"), []
    next(tracked)  # the prompted frame
    for _ in range(frames):
        started = time.perf_counter()
        _ = next(tracked).masks
        finish(model.device.type)
        times.append(time.perf_counter() - started)
    return times


def draw(scaling: Scaling, path: Path, title: str) -> Path:
    """A picture of the three series, as PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), dpi=90, layout="constrained")
    labels = {"objects": "objects", "frame": "frame of the clip", "side": "side of the square, in pixels"}
    for axis, (name, series) in zip(axes, vars(scaling).items(), strict=True):
        axis.plot(*zip(*series.items(), strict=True), marker="o" if len(series) < 30 else None, color="#0072B2")
        axis.set(xlabel=labels[name], ylabel="seconds per frame", ylim=(0, 1.1 * max(series.values())))
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path)
    pyplot.close(figure)
    return path
