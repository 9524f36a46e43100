"""Frames into a video file that browsers play, at the times that the frames came with.

    .mp4   H.264 yuv420p, sizes made even, index at the front    .webm  VP9, also with transparency
    .mov   the same; ProRes 4444 where it has transparency

Surprises: nothing is resampled to a constant rate. A file appears under its name only when it is complete; until
then it is `name.part.mp4` beside it. H.264 is written without B-frames: decoding order is then display order, so
the file begins at exactly 0 in every player and the last frame has its own duration.
"""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from sam2kit.files import explain_write_errors
from sam2kit.media.sound_track import SoundTrack

_TICK = Fraction(1, 90000)  # seconds; whole numbers of it make 24, 25, 30 and 29.97 frames per second
_BT709 = 1  # the number of these colours in FFmpeg's lists of matrices, primaries and curves
_LIMITED_RANGE = 1
_Codec = Literal["libx264", "libvpx-vp9", "prores_ks"]
_H264 = {"preset": "veryfast", "bf": "0", "crf": "18"}  # constant rate factors that look like the source
_VP9 = {"b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}
_WITHOUT_HIDDEN_FRAMES = {"auto-alt-ref": "0", "lag-in-frames": "0"}  # which carry no transparency
_CODECS: dict[tuple[str, bool], tuple[_Codec, str, dict[str, str]]] = {  # (suffix, alpha): codec, pixels, options
    (".mp4", False): ("libx264", "yuv420p", _H264),
    (".mov", False): ("libx264", "yuv420p", _H264),
    (".webm", False): ("libvpx-vp9", "yuv420p", {**_VP9, "crf": "24"}),
    (".webm", True): ("libvpx-vp9", "yuva420p", {**_VP9, **_WITHOUT_HIDDEN_FRAMES, "crf": "20"}),
    (".mov", True): ("prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "16"}),
}
_LARGEST_SIDE = {"libx264": 16_384, "libvpx-vp9": 65_535, "prores_ks": 65_535}  # pixels


class VideoWriter:
    """Writes frames one by one; use it with `with`, so that a failure leaves no file.

    Args:
        path: ends in .mp4, .mov or .webm; a file that is there is replaced at the end.
        size_hw: height and width of the frames, in pixels.
        audio_from: a file whose sound is taken; sound that cannot be read is left out and said in `notes`.
        span: seconds of the sound's clock at which the first frame appears and the last one ends; None begins at
            the first frame's timestamp and takes all sound after it.
        alpha: frames have a fourth channel, opaque at 255.
    Raises:
        ValueError: if the suffix is unknown, or cannot hold transparency or frames of this size.
    """

    _first: Fraction  # timestamps of the first and the latest frame, from the first one on
    _last: Fraction

    def __init__(
        self,
        path: str | Path,
        size_hw: tuple[int, int],
        *,
        audio_from: str | os.PathLike[str] | None = None,
        span: tuple[Fraction, Fraction] | None = None,
        alpha: bool = False,
    ) -> None:
        self.path, self.size_hw, self.alpha = Path(path), (int(size_hw[0]), int(size_hw[1])), alpha
        self._suffix = self.path.suffix.lower()
        if (self._suffix, alpha) not in _CODECS:
            wanted = ".webm or .mov, which hold transparency" if alpha else ".mp4, .mov or .webm"
            raise ValueError(f"a video cannot be written to {self.path.name!r}; end its name in {wanted}")
        self._part = self.path.with_name(f"{self.path.stem}.part{self.path.suffix}")
        self._audio_from, self._span = None if audio_from is None else Path(audio_from), span
        self._codec, self._pix_fmt, self._options = _CODECS[self._suffix, alpha]
        if max(self.size_hw) > (most := _LARGEST_SIDE[self._codec]):
            larger = "end the name in .webm, which holds larger ones, or " if self._codec == "libx264" else ""
            raise ValueError(
                f"{self._suffix} holds frames of at most {most} pixels a side, got "
                f"{self.size_hw[1]}x{self.size_hw[0]}; {larger}make them smaller"
            )
        self._problems: list[str] = []
        self._container: av.container.OutputContainer | None = None  # from the second frame on, or the end
        self._sound: SoundTrack | None = None
        self._mixes = False
        self._waiting: tuple[np.ndarray, int] | None = None  # a frame is written when its duration is known
        self._tick = Fraction(1, 1000) if self._suffix == ".webm" else _TICK
        self._duration = round(Fraction(1, 25) / self._tick)
        self._durations: dict[int, int] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say what went wrong with the sound; empty if all is well."""
        return (*(self._sound.problems if self._sound else ()), *self._problems)

    def write(self, frame: np.ndarray, timestamp: Fraction) -> None:
        """Add a frame.

        Args:
            frame: uint8 [H, W, 3] RGB, or [H, W, 4] with alpha; not changed, and not kept after the next call.
            timestamp: seconds of the source's clock; the first one becomes 0.
        Raises:
            ValueError: if shape or type differ from what was announced, or time does not increase.
        """
        wanted = (*self.size_hw, 4 if self.alpha else 3)
        if frame.shape != wanted or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 {list(wanted)}, got {frame.dtype} {list(frame.shape)}")
        if self._waiting is None:
            self._first = Fraction(timestamp)
        pts = round((Fraction(timestamp) - self._first) / self._tick)
        if self._waiting is not None:
            if timestamp <= self._last:
                raise ValueError(f"timestamps must increase, got {float(timestamp)} s after {float(self._last)} s")
            pts = max(pts, self._waiting[1] + 1)
            self._duration = pts - self._waiting[1]
            with explain_write_errors(self.path):
                self._encode(*self._waiting)
        self._waiting, self._last = (frame.copy(), pts), timestamp

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None:
                with explain_write_errors(self.path):
                    self._finish()
        finally:
            if self._sound is not None:
                self._sound.close()
            with contextlib.suppress(av.error.FFmpegError, ValueError, OSError):  # what it has written is removed
                if self._container is not None:
                    self._container.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._waiting is None:
            raise ValueError(f"no frame was written to {self.path}; write at least one")
        if self._span is not None:
            end = round((self._span[1] - self._first) / self._tick)
            if end > self._waiting[1]:
                self._duration = end - self._waiting[1]
        self._encode(*self._waiting)
        self._mux(self._stream.encode(None))
        self._mux_sound(None)
        self._opened.close()
        self._container = None
        os.replace(self._part, self.path)

    @property
    def _opened(self) -> av.container.OutputContainer:
        assert self._container is not None, "encoding a frame opens the file"
        return self._container

    def _open(self) -> None:
        height, width = self.size_hw
        even = self._pix_fmt == "yuv420p" and self._codec == "libx264"
        self._padding = (height % 2, width % 2) if even else (0, 0)
        options = {} if self._suffix == ".webm" else {"movflags": "+faststart", "video_track_timescale": "90000"}
        rate = (1 / (self._duration * self._tick)).limit_denominator(1001)  # for the header; the first step decides
        self._container = av.open(str(self._part), "w", options=options)
        self._stream = self._opened.add_stream(self._codec, rate=rate, options=self._options)
        self._stream.width, self._stream.height = width + self._padding[1], height + self._padding[0]
        self._stream.pix_fmt = self._pix_fmt
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = self._tick
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        if self.alpha and self._suffix == ".webm":
            self._stream.metadata["alpha_mode"] = "1"
        if self._audio_from is not None:
            self._open_sound(self._audio_from)

    def _open_sound(self, source: Path) -> None:
        end = None if self._span is None else self._span[1]
        try:
            self._sound = SoundTrack(source, self._opened, self._suffix, self._first, end)
            self._mixes = True
        except (av.error.FFmpegError, ValueError, OSError) as error:
            self._problems.append(f"the sound of {source.name} could not be read ({_reason(error)})")

    def _encode(self, frame: np.ndarray, pts: int) -> None:
        if self._container is None:
            self._open()
        rows, columns = self._padding
        if rows or columns:
            frame = cv2.copyMakeBorder(frame, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgba" if self.alpha else "rgb24")
        picture = picture.reformat(format=self._pix_fmt, dst_colorspace="itu709", dst_color_range="MPEG")
        picture.pts, picture.time_base = pts, self._tick
        self._durations[pts] = self._duration
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            assert packet.pts is not None, "an encoder gives every packet a time"
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._mux_sound(self._first + packet.pts * self._tick)
            self._opened.mux(packet)

    def _mux_sound(self, until: Fraction | None) -> None:
        """Sound goes in between the pictures, so that a player needs no far jumps."""
        if self._sound is None or not self._mixes:
            return
        try:
            for packet in self._sound.packets_until(until):
                self._opened.mux(packet)
        except (av.error.FFmpegError, ValueError) as error:
            self._problems.append(f"the sound ends early because it could not be written ({_reason(error)})")
            self._mixes = False


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
