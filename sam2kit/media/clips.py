"""One way into the project for moving pictures: upright RGB frames by number, each with its time.

A clip is a video file, a folder of pictures or a list of frames; a cut of a clip is a clip again. Frames keep the
source's own times, because a phone's frame rate varies and a frame number times 1/fps drifts away from the sound.

Surprises: opening a video file decodes it once, to learn what can truly be read; what can't is said in `notes`,
not raised. Reading backwards costs little more than forwards, as long as the frames in between fit the cache.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import re
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sam2kit.media.pictures import PictureSource, open_image, read_picture, shared_range
from sam2kit.media.value_range import ValueRange

if TYPE_CHECKING:
    from sam2kit.media.video_decoding import Check

_SLOWEST = 0.001  # frames per second
_USUAL_FPS = 25.0  # of frames that have no times of their own
CACHE_BYTES = 96 * 2**20
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class Clip(ABC):
    """Frames by number from 0, and the time of each.

    Attributes:
        size_hw: height and width of every frame, in pixels.
        timestamps: seconds in the source's own clock, one per frame, strictly increasing.
        last_duration: seconds for which the last frame is shown.
        notes: sentences that say what could not be read; empty if all is well.
        path: the file or folder that the frames come from; None for frames in memory.
        origin: the path with which `open_clip` gives the same clip again, or of which this is a part; None where no
            path does.
        has_audio: True if the file at `path` has a sound track.
    """

    size_hw: tuple[int, int]
    timestamps: tuple[Fraction, ...]
    last_duration: Fraction
    notes: tuple[str, ...] = ()
    path: Path | None = None
    origin: Path | None = None
    has_audio: bool = False

    @abstractmethod
    def _read(self, index: int) -> np.ndarray:
        """The frame of a valid index, as uint8 [H, W, 3] that the caller may keep."""

    def __len__(self) -> int:
        return len(self.timestamps)

    def frame(self, index: int) -> np.ndarray:
        """One frame, exactly.

        Args:
            index: from 0; negative numbers are not taken.
        Returns:
            uint8 [H, W, 3] RGB, upright; the caller's own, to keep or to draw on.
        Raises:
            IndexError: if there is no such frame.
            ValueError: if the source can no longer be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no frame {index}; the clip has frames 0 to {len(self) - 1}")
        return self._read(index)

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[np.ndarray]:
        """The frames of range(start, stop, step), one at a time.

        Args:
            start: first frame.
            stop: the frame to stop before; None goes to the end, or to frame 0 if step is negative.
            step: may be negative, not 0.
        Yields:
            uint8 [H, W, 3] RGB.
        """
        if stop is None:
            stop = len(self) if step > 0 else -1
        for index in range(start, stop, step):
            yield self.frame(index)

    @property
    def source_frames(self) -> range:
        """Which frames of the whole clip these are; files and commands count frames so, whatever part is used."""
        return range(len(self))

    @property
    def fps(self) -> float:
        """Frames per second, on average; 25 if there is only one frame."""
        seconds = self.timestamps[-1] - self.timestamps[0]
        return float((len(self) - 1) / seconds) if seconds else _USUAL_FPS

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """Seconds of the source's clock at which the first frame appears and the last one ends."""
        return self.timestamps[0], self.timestamps[-1] + self.last_duration

    @property
    def duration(self) -> float:
        """Seconds, including those of the last frame."""
        return float(self.span[1] - self.span[0])

    def cut(self, start: int, stop: int | None = None, every: int = 1) -> Clip:
        """A part of this clip, as a clip; nothing is copied, and it lives only as long as this one is open.

        Args:
            start: first frame.
            stop: the frame to stop before; None goes to the end.
            every: take only each n-th frame.
        Returns:
            a clip with frames from 0; its timestamps keep the source's clock.
        Raises:
            ValueError: if no frame would be left.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self) or every < 1:
            raise ValueError(
                f"cannot cut frames {start} to {stop}, every {every}, from a clip of {len(self)}; "
                f"give 0 <= start < stop <= {len(self)} and every >= 1"
            )
        return _Cut(self, range(start, stop, every), stop)

    def fingerprint(self) -> str:
        """A short text that recognises the same clip: its size, its times, its first and last frame."""
        digest = hashlib.sha256(repr((self.size_hw, [str(t) for t in self.timestamps])).encode())
        for index in (0, len(self) - 1):
            digest.update(self.frame(index).tobytes())
        return digest.hexdigest()[:32]

    def close(self) -> None:  # noqa: B027 - most clips hold nothing open
        """Let go of files; frames cannot be read any more."""

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VideoFile(Clip):
    """A video file; several threads may read from it.

    Args:
        path: of the file.
        check: see `open_clip`.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no video, has no video stream, frames beyond 8K, or none that can be decoded; or if PyAV,
            which nothing else here needs, is not installed.
    """

    def __init__(self, path: str | PathLike[str], *, check: Check | None = None) -> None:
        try:
            from sam2kit.media.video_decoding import FrameDecoder
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{path} needs {error.name} to be read: pip install {error.name}; pictures do not"
            ) from error
        self._decoder = FrameDecoder(Path(path), check)
        self.path = self.origin = self._decoder.path
        self.size_hw = self._decoder.scan.size_hw
        self.timestamps = self._decoder.scan.timestamps
        self.last_duration = self._decoder.scan.last_duration
        self.notes = self._decoder.notes
        self.has_audio = self._decoder.has_audio
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()  # least recently used first
        self._capacity = max(4, CACHE_BYTES // (self.size_hw[0] * self.size_hw[1] * 3))
        self._last_read = -1
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_cache")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # in another process the file is opened anew; frames stay behind
        vars(self).update(state, _lock=threading.Lock(), _cache=OrderedDict(), _last_read=-1)

    def _read(self, index: int) -> np.ndarray:
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.path} has been closed; open it again")
            if index not in self._cache:
                backwards = index < self._last_read
                for number, frame in self._decoder.read(index, index - self._capacity + 1 if backwards else index):
                    self._keep(number, frame)
            self._cache.move_to_end(index)
            self._last_read = index
            return self._cache[index].copy()

    def _keep(self, number: int, frame: np.ndarray) -> None:
        self._cache[number] = frame
        self._cache.move_to_end(number)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)

    def close(self) -> None:
        """Close the file and forget the cached frames."""
        with self._lock:
            self._closed = True
            self._cache.clear()
            self._decoder.close()


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
        self, frames: np.ndarray | Sequence[PictureSource], *, fps: float = _USUAL_FPS, upright: bool = True
    ) -> None:
        if isinstance(frames, np.ndarray) and (frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8):
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        if len(frames) == 0:
            raise ValueError("a clip needs at least one frame, got none")
        if not _is_rate(fps):
            raise ValueError(f"fps must be a number from {_SLOWEST} to 1000, got {fps!r:.80}")
        self._frames, self._upright = frames, upright
        self._range: ValueRange | None = shared_range(frames)  # a fade of 16 bits stays a fade
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
        source = self._frames[index]
        frame = read_picture(source, value_range=self._range, upright=self._upright)
        return frame.copy() if frame is source or isinstance(source, np.ndarray) else frame


class PictureFolder(FrameList):
    """The pictures of a folder, by name with numbers counted as numbers (2.png before 10.png).

    Args:
        folder: holds pictures of one size; other files and hidden ones are passed over.
        fps: frames per second.
        upright: as `read_picture`.
    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no picture, or pictures of several sizes; names the first that differs.
    """

    def __init__(self, folder: str | PathLike[str], *, fps: float = _USUAL_FPS, upright: bool = True) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder at {folder}")
        pictures = [
            p
            for p in folder.iterdir()
            if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
        ]
        if not pictures:
            raise ValueError(f"{folder} holds no pictures; it needs files such as 00000.jpg or frame 1.png")
        pictures.sort(key=_natural)
        super().__init__(pictures, fps=fps, upright=upright)
        self.path = folder.resolve()
        self.origin = self.path if fps == _USUAL_FPS and upright else None


class _Cut(Clip):
    def __init__(self, source: Clip, numbers: range, stop: int) -> None:
        self._source, self._numbers = source, numbers
        self.size_hw, self.notes = source.size_hw, source.notes
        self.path, self.origin, self.has_audio = source.path, source.origin, source.has_audio
        self.timestamps = tuple(source.timestamps[i] for i in numbers)
        end = source.timestamps[stop] if stop < len(source) else source.span[1]
        self.last_duration = end - self.timestamps[-1]

    @property
    def source_frames(self) -> range:
        within = self._source.source_frames
        return within[self._numbers.start : self._numbers.stop : self._numbers.step]

    def _read(self, index: int) -> np.ndarray:
        return self._source.frame(self._numbers[index])


ClipSource = Clip | str | PathLike[str] | np.ndarray | Sequence[PictureSource]


def open_clip(source: ClipSource, *, fps: float = _USUAL_FPS, check: Check | None = None, upright: bool = True) -> Clip:
    """Open whatever holds frames.

    Args:
        source: path of a video or GIF, folder of pictures, uint8 [T, H, W, 3], or a list of pictures (arrays, PIL
            images, paths). A clip comes back as it is.
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
        if path.suffix.lower() in PICTURE_SUFFIXES and os.path.isfile(path):
            raise ValueError(f"{path} is one picture; give a video, a folder of pictures, or a list with this path")
        return VideoFile(path, check=check)
    if isinstance(source, (np.ndarray, list, tuple)):
        return FrameList(source, fps=fps, upright=upright)
    raise ValueError(
        f"a clip must be a path, a folder, an array [T, H, W, 3] or a list of pictures, got {type(source).__name__}"
    )


def frame_at(clip: Clip, seconds: Fraction | float) -> int:
    """The number of the frame that is shown at a time of the source's clock; the first or last one outside."""
    return max(0, bisect.bisect_right(clip.timestamps, seconds) - 1)


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
    if isinstance(source, (str, PathLike)) and Path(source).is_file():
        try:
            with open_image(Path(source)) as image:
                return _pil_size(image, upright)
        except Exception:  # a broken header fails in many ways; reading it as a whole says what is wrong
            return read_picture(source, upright=upright).shape[:2]
    if isinstance(source, Image.Image):
        return _pil_size(source, upright)
    return read_picture(source, upright=upright).shape[:2]


def _pil_size(image: Image.Image, upright: bool) -> tuple[int, int]:
    sideways = upright and image.getexif().get(0x0112) in _SIDEWAYS
    return (image.width, image.height) if sideways else (image.height, image.width)
