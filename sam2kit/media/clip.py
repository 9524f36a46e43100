"""What a clip is: upright RGB frames by number, each with its time; and a part of one.

Frames keep the source's own times, because a phone's frame rate varies and a frame number times 1/fps drifts from the
sound. clips.py opens whatever holds frames; video_file.py reads video files.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

USUAL_FPS = 25.0  # of frames that have no times of their own
CACHE_BYTES = 96 * 2**20


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
        return float((len(self) - 1) / seconds) if seconds else USUAL_FPS

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

    def __exit__(self, *_: object) -> None:
        self.close()


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
