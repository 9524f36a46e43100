"""The frames of one video file as FFmpeg decodes them, from the beginning or from a key frame; and what was damaged.

Surprises: one broken packet costs that packet, not the file. Only containers in FORMATS are opened: a playlist could
otherwise make the reader fetch other files or addresses. video_file.py gives the frames their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from sam2kit.media.pictures import on_white

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,av1,obu,ivf,"
    "m4v,nut,mxf,dv,yuv4mpegpipe,rm,amv"
)
MAX_PIXELS = 36_000_000  # of one frame; 8K has 33
TOO_LARGE = f"has frames of more than {MAX_PIXELS / 1e6:.0f} million pixels; make it smaller"

Matrix = tuple[int, int, int, int]


def open_container(path: Path, formats: str = FORMATS) -> av.container.InputContainer:
    """A file that holds its own content; no list of other files."""
    return av.open(str(path), options={"format_whitelist": formats, "protocol_whitelist": "file"})


class VideoDecoder:
    """An opened file; a new one begins anew, because not every container can rewind.

    Attributes:
        packets: with content, seen so far.
        damaged_packets: those that could not be decoded.
        failed_reads: how often reading the file went wrong.
        end: seconds at which the last packet ends, of the sound too.

    Args:
        careful: decode in one thread: several lose good frames beside a broken packet.
        with_sound: look at the packets of the sound, too; how far it goes shows where a file was cut.
    Raises:
        ValueError: if it is no video, has no video stream, or frames that are too large.
    """

    def __init__(self, path: Path, *, careful: bool = False, with_sound: bool = False) -> None:
        try:
            self.container = open_container(path)
        except (av.error.FFmpegError, UnicodeError) as error:
            raise ValueError(
                f"{path} is not a video that can be read: it is cut off before its index, damaged, or of another "
                "kind; try MP4, MOV, WebM or GIF"
            ) from error
        # the cover of a song is no video
        videos = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        problem = None
        if not videos:
            problem = "has no video stream; is it a sound file?"
        elif videos[0].codec_context is None:
            problem = "is packed in a way that cannot be decoded here; convert it to H.264"
        elif videos[0].codec_context.width * videos[0].codec_context.height > MAX_PIXELS:
            problem = TOO_LARGE
        if problem:
            self.container.close()
            raise ValueError(f"{path} {problem}")
        self.stream = videos[0]
        self._streams = [self.stream, *(self.container.streams.audio[:1] if with_sound else [])]
        if careful:
            self.stream.thread_count = 1
        else:
            self.stream.thread_type = "AUTO"
        self.packets = self.damaged_packets = self.failed_reads = 0
        self.end = Fraction(0)

    @property
    def tick(self) -> Fraction:
        """Seconds of one unit of time stamps."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def step(self) -> Fraction:
        """Seconds from frame to frame, as far as the header knows."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return 1 / rate if rate else Fraction(1, 25)

    def frames(self) -> Iterator[av.VideoFrame]:
        """In display order, from where the container stands."""
        for packet in self._packets():
            if not packet.size and packet.dts is not None:
                continue  # an empty packet says "the same again"; the decoder would take it for the end
            try:
                yield from self.stream.codec_context.decode(packet if packet.size else None)
            except av.error.EOFError:
                continue
            except av.error.FFmpegError:
                self.damaged_packets += 1

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Packets of the video, then the empty one that flushes; a read that fails is tried again a few times."""
        demuxer, failures_in_a_row = self.container.demux(self._streams), 0
        while failures_in_a_row < 4:
            try:
                for packet in demuxer:
                    failures_in_a_row = 0
                    if packet.pts is not None:
                        end = (packet.pts + (packet.duration or 0)) * packet.time_base
                        self.end = max(self.end, Fraction(end))
                    if packet.stream_index == self.stream.index:
                        self.packets += bool(packet.size)
                        yield packet
                return
            except av.error.FFmpegError:
                self.failed_reads += 1
                failures_in_a_row += 1
                demuxer = self.container.demux(self._streams)
        yield av.Packet()

    def promised(self) -> tuple[int, float | None, bool]:
        """What the header says: how many frames; how many seconds; and whether those count the sound, too."""
        if self.stream.frames:
            return self.stream.frames, None, False
        if self.stream.duration:
            return 0, float(self.stream.duration * self.tick), False
        tagged = _seconds(self.stream.metadata.get("DURATION", ""))
        if tagged is None and self.container.duration:
            return 0, self.container.duration / av.time_base, True
        return 0, tagged, False


def _seconds(tag: str) -> float | None:
    """Matroska writes a stream's duration as a tag, "00:00:01.600000000"."""
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """How a phone says that it was held on its side: x' = a x + c y, y' = b x + d y; only signs and sizes count."""
    held = cast(SideDataContainer, frame.side_data)  # PyAV's own annotation knows of motion vectors only
    side_data = held.get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(side_data), np.int32)[:5])
    return a, b, c, d


def is_sideways(matrix: Matrix) -> bool:
    """Whether height and width change places."""
    a, b, c, d = map(abs, matrix)
    return b + c > a + d


def upright_rgb(frame: av.VideoFrame, size_wh: tuple[int, int], matrix: Matrix) -> np.ndarray:
    """uint8 [H, W, 3]: scaled to a stored size, laid on white, turned and mirrored by the nearest quarter turn."""
    has_alpha = any(component.is_alpha for component in frame.format.components)
    image: np.ndarray = frame.reformat(*size_wh, "rgba" if has_alpha else "rgb24").to_ndarray()
    if has_alpha:
        image = on_white(image[..., :3], image[..., 3])
    a, b, c, d = matrix
    x_sign, y_sign = a, d
    if is_sideways(matrix):
        image, x_sign, y_sign = cv2.transpose(image), c, b
    if x_sign < 0 or y_sign < 0:
        image = cv2.flip(image, -1 if x_sign < 0 and y_sign < 0 else int(x_sign < 0))
    return np.ascontiguousarray(image)
