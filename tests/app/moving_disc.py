"""A clip of a bright disc that crosses a soft pattern: where it is, is known on every frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tests.media.clip_factory import write_clip

FRAMES = 16
SIZE_HW = (192, 256)
RADIUS = 26
# a phone's frames do not come evenly
TIMES = [Fraction(i, 25) + Fraction(i % 3, 250) for i in range(FRAMES)]


def centre(frame: int) -> tuple[int, int]:
    """x, y of the disc."""
    return 40 + 11 * frame, 60 + 4 * frame


def disc(frame: int) -> np.ndarray:
    """bool [H, W]: the true mask."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    return (x - centre(frame)[0]) ** 2 + (y - centre(frame)[1]) ** 2 <= RADIUS**2


def write_disc_clip(path: Path) -> Path:
    """The clip as a file, with sound."""
    noise = np.random.default_rng(0).integers(60, 120, (12, 16, 3), np.uint8)
    ground = cv2.resize(noise, SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC)
    pictures = []
    for i in range(FRAMES):
        picture = ground.copy()
        cv2.circle(picture, centre(i), RADIUS, (235, 200, 40), -1, cv2.LINE_AA)
        pictures.append(picture)
    return write_clip(path, pictures=pictures, times=TIMES, audio="aac")


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two bool arrays."""
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))
