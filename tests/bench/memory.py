"""How much memory tracking takes, for a short and for a long video."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from pathlib import Path

import numpy as np

from sam2kit.media.video_writer import VideoWriter
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model
from tests.bench.worker import peak_memory

_SIZE_HW = (360, 640)
_MEGABYTE = 2**20


def compare_memory(
    model: str, device: str, *, side: int | None = None, short: int = 100, long: int = 2000
) -> dict[str, float]:
    """Peak memory of tracking two objects through a short and a long video file, each in a process of its own.

    Args:
        model, device, side: as `load_model`.
        short, long: frames of the two clips.
    Returns:
        peak resident memory of each in MB, their difference, and frames per second.
    Raises:
        ValueError: if a run fails; says what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = [_in_own_process(model, device, side, Path(folder) / f"{n}.mp4", n) for n in (short, long)]
    peaks = [round(peak / _MEGABYTE, 1) for peak, _ in runs]
    return {
        f"peak MB, {short} frames": peaks[0],
        f"peak MB, {long} frames": peaks[1],
        "difference MB": round(peaks[1] - peaks[0], 1),
        "frames per second": round(long / runs[1][1], 1),
    }


def _in_own_process(model: str, device: str, side: int | None, clip: Path, frames: int) -> tuple[int, float]:
    with VideoWriter(clip, _SIZE_HW) as writer:
        for number, frame in enumerate(moving_discs(frames)):
            writer.write(frame, Fraction(number, 30))
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_track, model, device, side, clip).result()
    except (BrokenProcessPool, ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"tracking {frames} frames failed: {error}") from error


def moving_discs(frames: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] frames of two discs that circle over stripes."""
    height, width = _SIZE_HW
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ground = np.stack([90 + 40 * np.sin(x / 17), 100 + 30 * np.sin(y / 23), np.full_like(x, 80)], axis=2)
    for t in range(frames):
        frame = ground.copy()
        for phase, colour in ((0.0, (220, 60, 40)), (np.pi, (40, 90, 230))):
            cx = width * (0.5 + 0.3 * np.cos(0.02 * t + phase))
            cy = height * (0.5 + 0.3 * np.sin(0.02 * t + phase))
            frame[(x - cx) ** 2 + (y - cy) ** 2 < 45**2] = colour
        yield frame.astype(np.uint8)


def _track(model: str, device: str, side: int | None, path: Path) -> tuple[int, float]:
    """Track both discs through a file: bytes held at most, seconds."""
    predictor = VideoPredictor(load_model(model, device, side=side))
    session = predictor.open(path)
    height, width = _SIZE_HW
    predictor.add_points(session, 0, 1, [0.8 * width, 0.5 * height])
    predictor.add_points(session, 0, 2, [0.2 * width, 0.5 * height])
    started = time.perf_counter()
    for frame in predictor.propagate(session):
        assert frame.masks.shape == (2, height, width), "both objects have a mask on every frame"
    return peak_memory(), time.perf_counter() - started
