"""Frames that lie in picture files, in videos or in memory, read when they are asked for; and what can be wrong.

Surprise: a phone's photo is stored sideways and shown upright. Masks come in either position, and their size says
which; a mask that fits the stored picture only is turned with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from sam2kit.media.clip import Clip
from sam2kit.media.clips import PICTURE_SUFFIXES, open_clip
from sam2kit.media.pictures import ValueRange, open_image, read_picture, shared_range

_OPEN_CLIPS = 4  # each may cache some 100 MB of frames
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> what puts the stored picture upright
    2: np.fliplr,
    3: lambda mask: np.rot90(mask, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}


@dataclass(frozen=True)
class Note:
    """Something about a sample or a file that people should know."""

    kind: str  # one of report.KINDS
    text: str  # a sentence with the file's name: what came, what was wanted, what to do


class BadSampleError(ValueError):
    """A sample cannot be used; the sentence names the file and says what to do.

    Args:
        text: the sentence.
        kind: one of report.KINDS.
    """

    def __init__(self, text: str, kind: str = "unreadable") -> None:
        super().__init__(text)
        self.kind = kind

    @property
    def note(self) -> Note:
        """The same, as a remark on the dataset."""
        return Note(self.kind, str(self))


@dataclass(frozen=True)
class FrameSize:
    """How large a frame is, upright and as stored."""

    name: str  # of its file, for messages
    size_hw: tuple[int, int]  # upright
    orientation: int = 1  # EXIF

    @property
    def stored_hw(self) -> tuple[int, int]:
        """Height and width in the file, before EXIF turns it."""
        return self.size_hw[::-1] if self.orientation >= 5 else self.size_hw

    def truth_hw(self, stated_hw: tuple[int, int] | None, name: str) -> tuple[int, int]:
        """The size in which coordinates are meant: what the label file with this name states, if it does.

        Raises:
            BadSampleError: if the stated size is neither the upright nor the stored one.
        """
        if stated_hw is None or stated_hw in (self.size_hw, self.stored_hw):
            return stated_hw or self.size_hw
        raise self._other_size(stated_hw, f"{name} describes a picture of")

    def fit(self, mask: np.ndarray, name: str) -> np.ndarray:
        """A mask [H, W] of the upright or the stored picture, in the upright one.

        Raises:
            BadSampleError: if it has neither size; names where it came from.
        """
        if mask.shape == self.size_hw:
            return mask
        if mask.shape == self.stored_hw:
            return np.ascontiguousarray(_TURNS[self.orientation](mask))
        raise self._other_size(mask.shape, f"{name} is")

    def _other_size(self, got_hw: tuple[int, ...], came: str) -> BadSampleError:
        (height, width), (mask_height, mask_width) = self.size_hw, got_hw
        cure = "export masks and pictures in one size"
        if mask_height * width == mask_width * height:
            cure = "resize one of them to the other's size (masks with nearest neighbour, never smoothly)"
        elif (mask_width, mask_height) == (height, width):
            cure = "one of them is turned by a quarter: turn it back"
        text = f"{came} {mask_width}x{mask_height}, but its picture {self.name} is {width}x{height}; {cure}"
        return BadSampleError(text, "size")


@dataclass(frozen=True)
class Frames:
    """Where the frames of a sample are; can be sent to another process."""

    read: Callable[[int], np.ndarray]  # gives uint8 [H, W, 3]; raises BadSampleError
    files: tuple[Path, ...]  # the picture, the frames in order, or the video; none if they are in memory
    count: int  # of a video, as far as it is known before opening
    is_picture: bool = False  # whether there is one frame only; a video is a clip, however few of its frames are known

    def size(self, index: int, image: np.ndarray) -> FrameSize:
        """Of a frame that was read; a picture file may have been turned."""
        if len(self.files) != self.count:
            return FrameSize(f"frame {index} of {self.files[0] if self.files else 'a clip'}", image.shape[:2])
        path = self.files[index]
        return FrameSize(path.name if self.is_picture else str(path), image.shape[:2], _orientation(path))


def frame_files(*files: Path) -> Frames:
    """A picture file for each frame. Of 16 bits or floats, all have one range of values."""
    return Frames(partial(_read_file, files), files, len(files), len(files) == 1)


def _read_file(files: tuple[Path, ...], index: int) -> np.ndarray:
    return picture_of(files[index], files[index], _range_of(files) if len(files) > 1 else None)


def pictures_in(folder: Path, *, deep: bool = True) -> list[Path]:
    """The picture files of a folder, by name; hidden files and folders are passed over."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def frames_of_video(path: Path, count: int, truth: Path) -> Frames:
    """A video, opened when a frame is asked for; only its path is kept, as thousands of open videos would not do.

    Args:
        path: of a file, or of a folder of frames.
        count: of frames, as far as they are known before opening.
        truth: where its masks are, for the message.
    """
    files = tuple(pictures_in(path)) if path.is_dir() else (path,)
    return Frames(partial(_read_video, path, truth), files, count)


def _read_video(path: Path, truth: Path, index: int) -> np.ndarray:
    clip = opened_clip(path)
    if index >= len(clip):
        text = f"{truth} has masks for frame {index}, but {path} has only {len(clip)} frames"
        raise BadSampleError(f"{text}; use the video that was annotated, uncut", "size")
    try:
        return clip.frame(index)
    except ValueError as error:
        raise BadSampleError(f"{error}; replace the file") from error


@lru_cache(maxsize=64)
def _range_of(files: tuple[Path, ...]) -> ValueRange | None:
    return shared_range(files)


def picture_of(source: Path | bytes, path: Path, value_range: ValueRange | None = None) -> np.ndarray:
    """uint8 [H, W, 3]; whatever is wrong becomes one sentence that names `path`."""
    try:
        return read_picture(source, value_range=value_range)
    except FileNotFoundError as error:
        raise BadSampleError(f"there is no picture {path}; put it back or remove its labels", "missing") from error
    except ValueError as error:
        raise BadSampleError(f"{error}; save it again from its source, or remove it") from error


def _orientation(path: Path) -> int:
    try:
        with open_image(path) as image:
            orientation = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF fails in many ways, and then turns nothing
        return 1
    return orientation if orientation in _TURNS else 1


def opened_clip(path: Path) -> Clip:
    """The clip at a path; not to be closed, others may read from it.

    Raises:
        BadSampleError: if it cannot be read.
    """
    try:
        return _opened(path, stamp_of(path))
    except FileNotFoundError as error:
        raise BadSampleError(f"there is no clip {path}; put it back", "missing") from error
    except (ValueError, OSError) as error:
        raise BadSampleError(f"{error}; replace the file, or remove it") from error


@lru_cache(maxsize=_OPEN_CLIPS)
def _opened(path: Path, stamp: tuple[int, int]) -> Clip:
    return open_clip(path)


def stamp_of(path: Path) -> tuple[int, int]:
    """Time and size of a file: a part of what is remembered by, because files are replaced."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size
