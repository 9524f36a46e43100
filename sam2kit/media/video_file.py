"""A video file as a clip, decoded exactly: what it holds, and any frame by its number.

What a header says about a file is a promise, and phones, screen recorders and cut-off downloads break it. So the
file is decoded once when it is opened, without turning it into colours, and what came out is what there is:

    scan: every packet -> time stamps, key frames, damage    read: seek to a key frame -> decode -> count by time stamp

Surprises: once anything is damaged, decoding uses one thread, because threads lose good frames beside a broken packet,
and no seek goes to where damage would look different. Broadcast files (.ts) promise no length, so a cut
one looks whole.
"""

from __future__ import annotations

import bisect
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import av
import numpy as np

from sam2kit.files import check_file
from sam2kit.media.clip import CACHE_BYTES, Clip
from sam2kit.media.video_decoder import (
    MAX_PIXELS,
    TOO_LARGE,
    VideoDecoder,
    display_matrix,
    is_sideways,
    open_container,
    upright_rgb,
)

_NEAR = 4  # frames; a packet that fails is noticed about this far from its frame
_WORTH_A_SEEK = 8  # frames; decoding this many is cheaper than seeking
_OF_ONE_PROCESS = ("_lock", "_cache", "_decoder", "_numbered")

Check = Callable[[tuple[int, int], int, float], None]  # (height, width), frames, seconds from the first to the latest


@dataclass
class _Scan:
    """What decoding the whole file once has shown; frames in display order."""

    pts: list[int | None] = field(default_factory=list)  # as the file has them
    durations: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)  # frames where decoding can begin
    damaged_at: list[int] = field(default_factory=list)  # frames at or near which something was damaged
    damaged_frames: int = 0
    resized_at: int | None = None


class VideoFile(Clip):
    """A video file; several threads may read from it, and other processes open it anew without a second scan.

    Args:
        path: of the file.
        check: see `open_clip`.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no video, has no video stream, frames beyond 8K, or none that can be decoded.
    """

    path: Path

    def __init__(self, path: str | PathLike[str], *, check: Check | None = None) -> None:
        check_file(Path(path), "video")
        self.path = self.origin = Path(path).resolve()
        self._careful = self._closed = False
        scan = self._scan(check)
        if scan.damaged_at or self._decoder.failed_reads:
            self._careful = True
            self._decoder.container.close()
            scan = self._scan(check)
        if not scan.pts:
            self._decoder.container.close()
            raise ValueError(f"no frame of {self.path} can be decoded; the file is damaged or empty")
        self._set_times(scan)
        self.notes = tuple(self._describe(scan))
        self.has_audio = bool(self._decoder.container.streams.audio)
        self._pts, self._keys, self._damaged_at = scan.pts, scan.keys, scan.damaged_at
        known = [pts for pts in scan.pts if pts is not None]
        self._can_seek = len(known) == len(scan.pts) and all(a < b for a, b in pairwise(known))
        self._number_of = {pts: i for i, pts in enumerate(known)} if self._can_seek else {}
        self._capacity = max(4, CACHE_BYTES // (self.size_hw[0] * self.size_hw[1] * 3))
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _OF_ONE_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._decoder = VideoDecoder(self.path, careful=self._careful)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()  # least recently used first
        self._last_read = -1
        self._restart()

    def close(self) -> None:
        """Close the file and forget the cached frames."""
        with self._lock:
            self._closed = True
            self._cache.clear()
            self._decoder.container.close()

    def _read(self, index: int) -> np.ndarray:
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.path} has been closed; open it again")
            if index not in self._cache:
                backwards = index < self._last_read
                for number, frame in self._decode(index, index - self._capacity + 1 if backwards else index):
                    self._cache[number] = frame
                    self._cache.move_to_end(number)
                    while len(self._cache) > self._capacity:
                        self._cache.popitem(last=False)
            self._cache.move_to_end(index)
            self._last_read = index
            return self._cache[index].copy()

    def _decode(self, index: int, keep_from: int) -> Iterator[tuple[int, np.ndarray]]:
        """The frame `index`, after those from `keep_from` on that are decoded on the way; each with its number."""
        for start in self._starts(index):
            if start is not None:
                self._seek(start)
                keep_from = max(keep_from, start)  # what leads a key frame may lack its references
            for number, frame in self._numbered:
                self._next = number + 1
                if keep_from <= number <= index:
                    yield number, upright_rgb(frame, self._coded_wh, self._matrix)
                if number == index:
                    return
                if number > index:  # the key frame lay too late: begin earlier
                    break
        raise ValueError(f"frame {index} of {self.path} can no longer be read; has the file changed? open it again")

    def _starts(self, index: int) -> Iterator[int | None]:
        """Frame numbers to begin at, the cheapest first; None continues where the decoder stands."""
        earlier = bisect.bisect_right(self._keys, index)
        key = self._keys[earlier - 1] if earlier else 0
        seeks = self._can_seek and not self._is_damaged(key, index)
        if self._next <= index and not (seeks and key > self._next + _WORTH_A_SEEK):
            yield None
        if seeks:
            yield from self._keys[max(0, earlier - 2) : earlier][::-1]
        yield 0

    def _is_damaged(self, start: int, stop: int) -> bool:
        """True if how the frames of a range look depends on frames before it: damage is patched from what was there."""
        near = bisect.bisect_left(self._damaged_at, start - _NEAR)
        return near < len(self._damaged_at) and self._damaged_at[near] <= stop + _NEAR

    def _seek(self, index: int) -> None:
        pts = self._pts[index]
        if index == 0 or pts is None:
            self._restart()
            return
        try:
            self._decoder.container.seek(pts, stream=self._decoder.stream)
        except av.error.FFmpegError:
            self._restart()
        else:
            self._numbered = self._number_by_pts()

    def _restart(self) -> None:
        self._decoder.container.close()
        self._decoder = VideoDecoder(self.path, careful=self._careful)
        self._next = 0
        self._numbered = self._number_by_pts() if self._can_seek else enumerate(self._decoder.frames())

    def _number_by_pts(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames that the scan has seen; a seek may give others too."""
        return ((self._number_of[f.pts], f) for f in self._decoder.frames() if f.pts in self._number_of)

    def _scan(self, check: Check | None) -> _Scan:
        scan, failed = _Scan(), 0
        self._decoder = decoder = VideoDecoder(self.path, careful=self._careful, with_sound=True)
        try:
            for number, frame in enumerate(decoder.frames()):
                if number == 0:
                    self._matrix = display_matrix(frame)  # files keep it per frame; players, too, take the first one's
                    self._coded_wh = frame.width, frame.height
                    self.size_hw = self._coded_wh if is_sideways(self._matrix) else self._coded_wh[::-1]
                if frame.width * frame.height > MAX_PIXELS:  # the header promised less
                    raise ValueError(f"{self.path} {TOO_LARGE}")
                if (frame.width, frame.height) != self._coded_wh and scan.resized_at is None:
                    scan.resized_at = number
                if frame.key_frame:
                    scan.keys.append(number)
                scan.pts.append(frame.pts)
                scan.durations.append(getattr(frame, "duration", 0) or 0)  # PyAV 15 has none
                scan.damaged_frames += bool(frame.is_corrupt)
                if frame.is_corrupt or decoder.damaged_packets > failed:
                    scan.damaged_at.append(number)
                    failed = decoder.damaged_packets
                if check is not None:
                    first = scan.pts[0]
                    passed = number * decoder.step
                    if frame.pts is not None and first is not None:
                        passed = (frame.pts - first) * decoder.tick
                    check(self.size_hw, number + 1, float(passed))
        except BaseException:
            decoder.container.close()
            raise
        if decoder.damaged_packets > failed:
            scan.damaged_at.append(len(scan.pts))
        return scan

    def _set_times(self, scan: _Scan) -> None:
        """Time stamps in seconds; one that is missing or does not increase is put just after the one before."""
        tick, step = self._decoder.tick, self._decoder.step
        times: list[Fraction] = []
        for pts in scan.pts:
            time = None if pts is None else pts * tick
            if times and (time is None or time <= times[-1]):
                time = times[-1] + (step if time is None else min(step, Fraction(1, 1000)))
            times.append(Fraction(0) if time is None else time)
        self.timestamps = tuple(times)
        steps = [b - a for a, b in pairwise(times)]
        self.last_duration = scan.durations[-1] * tick or (median(steps) if steps else step)

    def _describe(self, scan: _Scan) -> Iterator[str]:
        """Notes on what is damaged. Frame rates in headers are guesses, so without a count it is seconds that count."""
        decoder, count, read = self._decoder, len(self), self.duration
        promised, seconds, with_sound = decoder.promised()
        is_short = decoder.packets < promised
        if with_sound:
            read = max(read, float(decoder.end - Fraction(decoder.container.start_time or 0, av.time_base)))
        if seconds:
            promised = round(count * seconds / read)
            is_short = read < 0.99 * seconds - 1.2 * float(self.last_duration)
        total = f"{count} of about {max(promised, count)} frames could be read"
        if is_short or decoder.failed_reads:
            yield f"{total}; the file is cut off"
        elif decoder.damaged_packets:
            yield f"{total}; damaged packets left out: {decoder.damaged_packets}"
        if scan.damaged_frames:
            yield f"frames that are damaged and may look broken: {scan.damaged_frames}"
        if scan.resized_at is not None:
            height, width = self.size_hw
            yield f"the picture changes its size at frame {scan.resized_at}; every frame is scaled to {width}x{height}"


class VideoHeader(NamedTuple):
    """Length and size of a video, as its header states them in a moment; it may be wrong."""

    seconds: float  # 0 where the header says nothing
    size_hw: tuple[int, int]


def read_header(path: Path) -> VideoHeader | None:
    """What a video file's header says; None if it is no video, or its header cannot be read."""
    if not os.path.isfile(path):  # a pipe has no header either
        return None
    try:
        with open_container(path) as container:
            if not container.streams.video:
                return None
            stream = container.streams.video[0]
            seconds = (container.duration or 0) / av.time_base
            if not seconds and stream.duration and stream.time_base:
                seconds = float(stream.duration * stream.time_base)
            return VideoHeader(seconds, (stream.height, stream.width))
    except (OSError, ValueError, av.FFmpegError):
        return None
