"""Opening clips: a video file, a folder of pictures, one picture or a list of them. A picture is a clip of one frame.

Surprises: opening a video file decodes it once, to learn what can truly be read; what can't is said in `notes`,
not raised. Reading backwards costs little more than forwards, as long as the frames in between fit the cache.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from sam2kit.media.clip import USUAL_FPS, Clip
from sam2kit.media.pictures import PictureSource, open_image, read_picture, shared_range

if TYPE_CHECKING:
    from sam2kit.media.video_file import Check

_SLOWEST = 0.001  # frames per second
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class FrameList(Clip):
    """Frames from memory or from picture files, at a constant rate; files are read when their frame is.

    Frames of 16 bits or floats are stretched by one range of values, which up to 32 of them tell.

    Args:
        frames: uint8 [T, H, W, 3], or a sequence of pictures that `read_picture` reads.
        fps: frames per second.
        upright: as `read_picture`.
    Raises:
        ValueError: if there is no frame, sizes differ or fps is not a positive number.
    """

    def __init__(
        self, frames: np.ndarray | Sequence[PictureSource], *, fps: float = USUAL_FPS, upright: bool = True
    ) -> None:
        if isinstance(frames, np.ndarray) and (frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8):
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        if len(frames) == 0:
            raise ValueError("a clip needs at least one frame, got none")
        if not _is_rate(fps):
            raise ValueError(f"fps must be a number from {_SLOWEST} to 1000, got {fps!r:.80}")
        self._frames, self._upright = frames, upright
        self._latest: tuple[int, np.ndarray] | None = None
        self._range = shared_range(frames)  # a fade of 16 bits stays a fade
        if self._range is not None and self._range.note:
            self.notes = (f"its frames have one range of values: {self._range.note}",)
        self.size_hw = _size_of(frames[0], upright)
        for i in range(1, len(frames)):
            if (size_hw := _size_of(frames[i], upright)) != self.size_hw:
                raise ValueError(
                    f"{_name_of(frames[i], i)} is {size_hw[1]}x{size_hw[0]}, but {_name_of(frames[0], 0)} is "
                    f"{self.size_hw[1]}x{self.size_hw[0]}; all frames of a clip need one size"
                )
        self.last_duration = 1 / Fraction(fps).limit_denominator(1001)
        self.timestamps = tuple(i * self.last_duration for i in range(len(frames)))

    def _read(self, index: int) -> np.ndarray:
        latest = self._latest  # a picture is asked for again and again
        if latest is None or latest[0] != index:
            frame = read_picture(self._frames[index], value_range=self._range, upright=self._upright)
            latest = self._latest = index, frame
        return latest[1].copy()


class PictureFolder(FrameList):
    """The pictures of a folder, by name with numbers counted as numbers (2.png before 10.png).

    Args:
        folder: holds pictures of one size; other files and hidden ones are passed over.
        fps: frames per second.
        upright: as `read_picture`.
    Raises:
        ValueError: if it holds no picture, or pictures of several sizes; names the first that differs.
    """

    def __init__(self, folder: Path, *, fps: float = USUAL_FPS, upright: bool = True) -> None:
        shown = (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith("."))
        pictures = sorted((p for p in shown if p.is_file()), key=_natural)
        if not pictures:
            raise ValueError(f"{folder} holds no pictures; it needs files such as 00000.jpg or frame 1.png")
        super().__init__(pictures, fps=fps, upright=upright)
        self.path = folder.resolve()
        self.origin = self.path if fps == USUAL_FPS and upright else None


ClipSource = Clip | PictureSource | Sequence[PictureSource]


def open_clip(source: ClipSource, *, fps: float = USUAL_FPS, check: Check | None = None, upright: bool = True) -> Clip:
    """Open whatever holds frames; a picture is a clip of one frame.

    Args:
        source: path of a video or GIF, folder of pictures, uint8 [T, H, W, 3], a list of pictures (arrays, PIL
            images, paths), or one picture. A clip comes back as it is.
        fps: frames per second where the source does not say.
        check: called with (height, width), frames and seconds so far, from the first to the latest, while a video is
            counted, which takes long for a long one; raise an error in it to refuse the video.
        upright: as `read_picture`, for pictures; videos are always turned upright.
    Returns:
        the clip; close it when done.
    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if it cannot be read as frames; says why.
    """
    if isinstance(source, Clip):
        return source
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        if os.path.isdir(path):
            return PictureFolder(path, fps=fps, upright=upright)
        if path.suffix.lower() in PICTURE_SUFFIXES:
            picture = FrameList([path], fps=fps, upright=upright)
            picture.path = picture.origin = path.resolve()
            return picture
        try:
            from sam2kit.media.video_file import VideoFile
        except ModuleNotFoundError as error:  # PyAV, which nothing else here needs
            raise ValueError(
                f"{path} needs {error.name} to be read: pip install {error.name}; pictures do not"
            ) from error
        return VideoFile(path, check=check)
    if isinstance(source, (bytes, Image.Image)) or (isinstance(source, np.ndarray) and _is_picture(source)):
        source = [source]
    if isinstance(source, (np.ndarray, list, tuple)):
        return FrameList(source, fps=fps, upright=upright)
    raise ValueError(
        f"a clip must be a path, a folder, an array [T, H, W, 3], a list of pictures or one picture, got "
        f"{type(source).__name__}"
    )


def frame_at(clip: Clip, seconds: Fraction | float) -> int:
    """The number of the frame that is shown at a time of the source's clock; the first or last one outside."""
    return max(0, bisect.bisect_right(clip.timestamps, seconds) - 1)


def _is_picture(array: np.ndarray) -> bool:
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))


def _is_rate(fps: object) -> bool:
    return isinstance(fps, (int, float, Fraction)) and _SLOWEST <= fps <= 1000


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part.casefold()) for part in re.split(r"([0-9]+)", path.name)]


def _name_of(source: PictureSource, index: int) -> str:
    return str(source) if isinstance(source, (str, PathLike)) else f"frame {index}"


def _size_of(source: PictureSource, upright: bool) -> tuple[int, int]:
    """Height and width after EXIF rotation, without decoding where a header says it."""
    if isinstance(source, np.ndarray):
        return source.shape[:2]
    if isinstance(source, Image.Image):
        return _pil_size(source, upright)
    if isinstance(source, (str, PathLike)) and os.path.isfile(source):
        with suppress(Exception), open_image(Path(source)) as image:  # a broken header fails in many ways
            return _pil_size(image, upright)
    return read_picture(source, upright=upright).shape[:2]  # says what is wrong


def _pil_size(image: Image.Image, upright: bool) -> tuple[int, int]:
    sideways = upright and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return (image.width, image.height) if sideways else (image.height, image.width)
