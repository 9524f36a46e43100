"""One video file, decoded exactly: what it holds, and any frame by its number. Below clips.py.

What a header says about a file is a promise, and phones, screen recorders and cut-off downloads break it. So the
file is decoded once when it is opened, without turning it into colours, and what came out is what there is:

    scan: every packet -> time stamps, key frames, damage    read: seek to a key frame -> decode -> count by time stamp

Surprises: one broken packet costs that packet, not the file. Once anything is damaged, decoding uses one thread,
because threads lose good frames beside a broken packet, and no seek goes to where damage would look different. Only
containers in FORMATS are opened: a playlist could otherwise make the reader fetch other files or addresses. Broadcast
files (.ts) promise no length, so a cut one looks whole.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from sam2kit.files import check_file
from sam2kit.media.pictures import on_white
from sam2kit.media.upright import DisplayMatrix

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,av1,obu,ivf,"
    "m4v,nut,mxf,dv,yuv4mpegpipe,rm,amv"
)
ONLY_FILMS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}  # for av.open: no lists of other files
MAX_PIXELS = 36_000_000  # of one frame; 8K has 33
_TOO_LARGE = f"has frames of more than {MAX_PIXELS / 1e6:.0f} million pixels; make it smaller"
_NEAR = 4  # frames; a packet that fails is noticed about this far from its frame
_WORTH_A_SEEK = 8  # frames; decoding this many is cheaper than seeking


Check = Callable[[tuple[int, int], int, float], None]  # (height, width), frames, seconds from the first to the latest


@dataclass
class Scan:
    """What decoding the whole file once has shown."""

    size_hw: tuple[int, int] = (0, 0)  # upright
    pts: list[int | None] = field(default_factory=list)  # in display order, as the file has them
    keys: list[int] = field(default_factory=list)  # numbers of the frames where decoding can begin
    timestamps: tuple[Fraction, ...] = ()  # seconds, strictly increasing
    last_duration: Fraction = Fraction(1, 25)  # seconds that the last frame is shown
    packets: int = 0
    damaged_packets: int = 0
    damaged_frames: int = 0
    damaged_at: list[int] = field(default_factory=list)  # numbers of frames at or near which something was damaged
    end: Fraction = Fraction(0)  # seconds at which the last packet ends, sound included
    resized_at: int | None = None
    ended_early: bool = False


class FrameDecoder:
    """Decodes one video file; frames have numbers from 0, in the order in which they are shown.

    Not thread-safe: the owner holds a lock.

    Args:
        path: of the file.
        check: called after each frame while the file is counted; what it raises ends that.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no video, has no video stream, is too large, or no frame can be decoded.
    """

    def __init__(self, path: Path, check: Check | None = None) -> None:
        check_file(path, "video")
        self.path = path.resolve()
        self._careful = self._can_seek = False
        self._seen = self._undecodable = self._failed_reads = 0  # packets, packets, reads
        self._end = Fraction(0)  # seconds at which the last packet ends
        self._open()
        try:
            self.scan = self._scan(check)
            if self.scan.damaged_at or self.scan.ended_early:
                self._careful = True
                self._restart()
                self.scan = self._scan(check)
            if not self.scan.timestamps:
                raise ValueError(f"no frame of {self.path} can be decoded; the file is damaged or empty")
        except BaseException:
            self.close()
            raise
        self.notes = tuple(self._describe_damage())
        known = [pts for pts in self.scan.pts if pts is not None]
        self._can_seek = len(known) == len(self.scan.pts) and all(a < b for a, b in pairwise(known))
        self._number_of = {pts: i for i, pts in enumerate(self.scan.pts)} if self._can_seek else {}
        self._restart()

    def __getstate__(self) -> dict[str, Any]:
        opened = ("_container", "_stream", "_streams", "_numbered")
        return {name: value for name, value in vars(self).items() if name not in opened}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # what the scan has shown came along: it is not done again
        vars(self).update(state)
        self._open()
        self._restart()

    @property
    def has_audio(self) -> bool:
        """True if the file has a sound track, readable or not."""
        return bool(self._container.streams.audio)

    def close(self) -> None:
        """Close the file; later reads fail."""
        self._container.close()

    def read(self, index: int, keep_from: int) -> Iterator[tuple[int, np.ndarray]]:
        """Decode until a frame, and give it and those before it that pass on the way.

        Args:
            index: of the wanted frame, which comes last.
            keep_from: earlier frames from this number on are given too, where they are decoded anyway.
        Yields:
            the number of a frame, and the frame as uint8 [H, W, 3] RGB, upright.
        Raises:
            ValueError: if the file has changed since it was opened.
        """
        for start in self._starts(index):
            if start is not None:
                self._seek(start)
                keep_from = max(keep_from, start)  # what leads a key frame may lack its references
            for number, frame in self._numbered:
                self._next = number + 1
                if keep_from <= number <= index:
                    yield number, self._upright_rgb(frame)
                if number == index:
                    return
                if number > index:  # the key frame lay too late: begin earlier
                    break
        raise ValueError(f"frame {index} of {self.path} can no longer be read; has the file changed? open it again")

    # ---- where to begin --------------------------------------------------------------------------------------

    def _starts(self, index: int) -> Iterator[int | None]:
        """Frame numbers to begin at, the cheapest first; None continues where the decoder stands."""
        earlier = bisect.bisect_right(self.scan.keys, index)
        key = self.scan.keys[earlier - 1] if earlier else 0
        seeks = self._can_seek and not self._is_damaged(key, index)
        if self._next <= index and not (seeks and key > self._next + _WORTH_A_SEEK):
            yield None
        if seeks:
            yield from self.scan.keys[max(0, earlier - 2) : earlier][::-1]
        yield 0

    def _is_damaged(self, start: int, stop: int) -> bool:
        """True if how the frames of a range look depends on frames before it: damage is patched from what was there."""
        near = bisect.bisect_left(self.scan.damaged_at, start - _NEAR)
        return near < len(self.scan.damaged_at) and self.scan.damaged_at[near] <= stop + _NEAR

    def _seek(self, index: int) -> None:
        pts = self.scan.pts[index] if self._can_seek else None
        if index == 0 or pts is None:
            self._restart()
            return
        try:
            self._container.seek(pts, stream=self._stream)
        except av.error.FFmpegError:
            self._restart()
            return
        self._numbered = self._number_by_pts()

    def _restart(self) -> None:
        """Back to the first frame; opens the file anew, because not every container can rewind."""
        self._container.close()
        self._open()
        self._next = 0
        self._numbered = self._number_by_pts() if self._can_seek else enumerate(self._decoded())

    def _number_by_pts(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames that the scan has seen; a seek may give others too."""
        return ((self._number_of[f.pts], f) for f in self._decoded() if f.pts in self._number_of)

    # ---- packets and frames ----------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._container = av.open(str(self.path), options=ONLY_FILMS)
        except (av.error.FFmpegError, UnicodeError) as error:
            raise ValueError(
                f"{self.path} is not a video that can be read: it is cut off before its index, damaged, or of another "
                "kind; try MP4, MOV, WebM or GIF"
            ) from error
        # the cover of a song is no video
        videos = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        problem = None
        if not videos:
            problem = "has no video stream; is it a sound file?"
        elif videos[0].codec_context is None:
            problem = "is packed in a way that cannot be decoded here; convert it to H.264"
        elif videos[0].codec_context.width * videos[0].codec_context.height > MAX_PIXELS:
            problem = _TOO_LARGE
        if problem:
            self._container.close()
            raise ValueError(f"{self.path} {problem}")
        self._stream = videos[0]
        self._streams: list[av.VideoStream | av.AudioStream] = [self._stream]
        if self._careful:
            self._stream.thread_count = 1
        else:
            self._stream.thread_type = "AUTO"

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Packets of the video, then the empty one that flushes; a read that fails is tried again a few times."""
        demuxer, failures_in_a_row = self._container.demux(self._streams), 0
        while failures_in_a_row < 4:
            try:
                for packet in demuxer:
                    failures_in_a_row = 0
                    if packet.pts is not None:
                        end = (packet.pts + (packet.duration or 0)) * packet.time_base
                        self._end = max(self._end, Fraction(end))
                    if packet.stream_index == self._stream.index:
                        self._seen += bool(packet.size)
                        yield packet
                return
            except av.error.FFmpegError:
                self._failed_reads += 1
                failures_in_a_row += 1
                demuxer = self._container.demux(self._streams)
        yield av.Packet()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for packet in self._packets():
            if not packet.size and packet.dts is not None:
                continue  # an empty packet says "the same again"; the decoder would take it for the end
            try:
                yield from self._stream.codec_context.decode(packet if packet.size else None)
            except av.error.EOFError:
                continue
            except av.error.FFmpegError:
                self._undecodable += 1

    def _scan(self, check: Check | None) -> Scan:
        scan, durations = Scan(), []
        self._seen = self._undecodable = self._failed_reads = 0
        self._end = Fraction(0)
        self._streams = [self._stream, *self._container.streams.audio[:1]]  # how far the sound goes shows a cut
        for frame in self._decoded():
            if not scan.pts:
                self._matrix = DisplayMatrix.of(frame)
                self._coded_wh = frame.width, frame.height
                scan.size_hw = self._coded_wh if self._matrix.is_sideways else self._coded_wh[::-1]
            if frame.width * frame.height > MAX_PIXELS:  # the header promised less
                raise ValueError(f"{self.path} {_TOO_LARGE}")
            if (frame.width, frame.height) != self._coded_wh and scan.resized_at is None:
                scan.resized_at = len(scan.pts)
            if frame.key_frame:
                scan.keys.append(len(scan.pts))
            scan.pts.append(frame.pts)
            if check is not None:
                check(scan.size_hw, len(scan.pts), self._seconds_so_far(scan.pts))
            durations.append(getattr(frame, "duration", 0) or 0)
            scan.damaged_frames += bool(frame.is_corrupt)
            if frame.is_corrupt or self._undecodable > scan.damaged_packets:
                scan.damaged_at.append(len(scan.pts) - 1)
                scan.damaged_packets = self._undecodable
        if self._undecodable > scan.damaged_packets:
            scan.damaged_at.append(len(scan.pts))
        scan.end = self._end - Fraction(self._container.start_time or 0, av.time_base)
        scan.packets, scan.damaged_packets, scan.ended_early = self._seen, self._undecodable, self._failed_reads > 0
        if scan.pts:
            self._set_times(scan, durations)
        return scan

    def _seconds_so_far(self, pts: list[int | None]) -> float:
        if pts[0] is None or pts[-1] is None:
            return float((len(pts) - 1) * self._step)
        return float((pts[-1] - pts[0]) * self._tick)

    @property
    def _tick(self) -> Fraction:
        """Seconds of one unit of time stamps."""
        return self._stream.time_base or Fraction(1, 1000)

    @property
    def _step(self) -> Fraction:
        """Seconds from frame to frame, as far as the header knows."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return 1 / rate if rate else Fraction(1, 25)

    def _set_times(self, scan: Scan, durations: list[int]) -> None:
        """Time stamps in seconds; one that is missing or does not increase is put just after the one before."""
        tick, step = self._tick, self._step
        times: list[Fraction] = []
        for pts in scan.pts:
            time = None if pts is None else pts * tick
            if times and (time is None or time <= times[-1]):
                time = times[-1] + (step if time is None else min(step, Fraction(1, 1000)))
            times.append(Fraction(0) if time is None else time)
        scan.timestamps = tuple(times)
        steps = [b - a for a, b in pairwise(times)]
        scan.last_duration = durations[-1] * tick or (median(steps) if steps else step)

    def _describe_damage(self) -> Iterator[str]:
        scan, count = self.scan, len(self.scan.timestamps)
        promised, is_short = self._promised_frames()
        total = f"{count} of about {max(promised, count)} frames could be read"
        if is_short or scan.ended_early:
            yield f"{total}; the file is cut off"
        elif scan.damaged_packets:
            yield f"{total}; damaged packets left out: {scan.damaged_packets}"
        if scan.damaged_frames:
            yield f"frames that are damaged and may look broken: {scan.damaged_frames}"
        if scan.resized_at is not None:
            height, width = scan.size_hw
            yield f"the picture changes its size at frame {scan.resized_at}; every frame is scaled to {width}x{height}"

    def _promised_frames(self) -> tuple[int, bool]:
        """How many frames the header speaks of, about, and whether the file holds clearly less.

        Frame rates in headers are guesses, so without a number of frames it is the seconds that are compared.
        """
        stream, scan = self._stream, self.scan
        count = len(scan.timestamps)
        if stream.frames:
            return stream.frames, scan.packets < stream.frames
        if stream.duration and stream.time_base:
            promised: float | None = float(stream.duration * stream.time_base)
        else:
            promised = _tagged_seconds(stream)
        read = float(scan.timestamps[-1] + scan.last_duration - scan.timestamps[0])
        if promised is None and self._container.duration:
            promised, read = self._container.duration / av.time_base, max(read, float(scan.end))
        if not promised:
            return count, False
        return round(count * promised / read), read < 0.99 * promised - 1.2 * float(scan.last_duration)

    # ---- colours ---------------------------------------------------------------------------------------------

    def _upright_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self._coded_wh
        rgb: np.ndarray
        if any(component.is_alpha for component in frame.format.components):
            rgba = frame.reformat(width, height, "rgba").to_ndarray()
            rgb = on_white(rgba[..., :3], rgba[..., 3])
        else:
            rgb = frame.reformat(width, height, "rgb24").to_ndarray()
        return self._matrix.upright(rgb)


def _tagged_seconds(stream: av.VideoStream) -> float | None:
    """Matroska writes a stream's duration as a tag, "00:00:01.600000000"."""
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
