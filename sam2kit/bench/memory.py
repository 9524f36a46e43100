"""How much memory tracking takes, for a short and for a long video."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

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
    peaks = [round(r["peak"] / _MEGABYTE, 1) for r in runs]
    return {
        f"peak MB, {short} frames": peaks[0],
        f"peak MB, {long} frames": peaks[1],
        "difference MB": round(peaks[1] - peaks[0], 1),
        "frames per second": round(long / runs[1]["seconds"], 1),
    }


def _in_own_process(model: str, device: str, side: int | None, clip: Path, frames: int) -> dict[str, float]:
    from sam2kit.media.video_writing import VideoWriter

    with VideoWriter(clip, _SIZE_HW) as writer:
        for number, frame in enumerate(moving_discs(frames)):
            writer.write(frame, Fraction(number, 30))
    command = [sys.executable, "-m", "sam2kit.bench.memory", model, device, str(side or 0), str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}; was memory short?"]
        raise ValueError(f"tracking {frames} frames failed: {said[0]}")
    return json.loads(done.stdout)


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


def _track(model: str, device: str, side: int, path: Path) -> dict[str, float]:
    """Track both discs through a file."""
    from sam2kit.predict.video import VideoPredictor
    from sam2kit.weights import load_model

    predictor = VideoPredictor(load_model(model, device, side=side or None))
    session = predictor.open(path)
    height, width = _SIZE_HW
    predictor.add_points(session, 0, 1, [0.8 * width, 0.5 * height])
    predictor.add_points(session, 0, 2, [0.2 * width, 0.5 * height])
    started = time.perf_counter()
    for frame in predictor.propagate(session):
        assert frame.masks.shape == (2, height, width), "both objects have a mask on every frame"
    seconds = time.perf_counter() - started
    return {"peak": peak_memory(), "seconds": seconds}


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count what the parent held before this program began
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, kilobytes elsewhere


if __name__ == "__main__":
    print(json.dumps(_track(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
