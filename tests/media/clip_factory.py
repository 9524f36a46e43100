"""Small clips whose pictures say which frame they are, and files that are broken on purpose.

A frame shows its number as six black or white blocks across the upper half; below, the left half is red and the
right half is blue, so that a turned or mirrored picture is recognised.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 6
QUARTER_TURN_RIGHT = (0, 1, -1, 0)  # the turning part of a display matrix, row by row: what a phone held upright writes
QUARTER_TURN_LEFT = (0, -1, 1, 0)
UPSIDE_DOWN = (-1, 0, 0, -1)
MIRRORED = (-1, 0, 0, 1)


def numbered_frame(number: int, size_hw: tuple[int, int] = (64, 96)) -> np.ndarray:
    """uint8 [H, W, 3] RGB."""
    height, width = size_hw
    frame = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        frame[: height // 2, width * bit // BITS : width * (bit + 1) // BITS] = 235 if number >> bit & 1 else 20
    frame[height // 2 :, : width // 2] = 200, 30, 30
    frame[height // 2 :, width // 2 :] = 30, 30, 200
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number that a frame shows; fails if it is not upright."""
    height, width = frame.shape[:2]
    red, blue = (frame[height * 3 // 4, width * x // 4].astype(int) for x in (1, 3))
    assert red[0] > red[2] + 60, f"the lower left is {red}, not red: the frame is not upright"
    assert blue[2] > blue[0] + 60, f"the lower right is {blue}, not blue: the frame is not upright"
    bits = [frame[height // 4, width * (2 * bit + 1) // (2 * BITS)].mean() > 128 for bit in range(BITS)]
    return sum(bool(value) << bit for bit, value in enumerate(bits))


def write_clip(
    path: Path,
    count: int = 24,
    *,
    size_hw: tuple[int, int] = (64, 96),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[Fraction] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio: str | None = None,
    pictures: Sequence[np.ndarray] | None = None,
) -> Path:
    """A clip at 25 frames per second, or at the given times; key frames are 8 frames apart."""
    times = [Fraction(i, 25) for i in range(count)] if times is None else times
    pictures = [numbered_frame(i, size_hw) for i in range(len(times))] if pictures is None else pictures
    height, width = pictures[0].shape[:2]
    with usual_priority(), av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "8", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        if path.suffix in (".avi", ".gif"):
            stream.codec_context.time_base = Fraction(1, 25)
        sound = container.add_stream(audio, rate=48000) if audio else None
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            _write_sine(container, sound, float(times[-1] - times[0]) + 0.04)
    return path


@contextmanager
def usual_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does when root encodes: it gives the calling thread real-time priority and leaves it there.

    All threads started later inherit it, and as soon as more of them spin than there are cores, nothing else runs.
    """
    try:
        yield
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _write_sine(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """A tone of 440 Hz that begins after 0.1 s of silence."""
    clock = np.arange(round(seconds * 48000)) / 48000
    samples = (np.sin(clock * 440 * 2 * np.pi) * 8000 * (clock >= 0.1)).astype(np.int16)
    for begin in range(0, len(samples), 4800):
        piece = np.repeat(samples[begin : begin + 4800], 2)[None]
        frame = av.AudioFrame.from_ndarray(piece, "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def set_display_matrix(path: Path, turn: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into the first track header of an MP4, as a phone does."""
    content = bytearray(path.read_bytes())
    matrix_at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = turn
    matrix = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    content[matrix_at : matrix_at + 36] = matrix
    path.write_bytes(content)
    return path


def write_turned_clip(path: Path, turn: tuple[int, int, int, int], count: int = 12) -> Path:
    """An MP4 whose stored pictures are turned the other way, so that its display matrix puts them upright."""
    undo = {
        QUARTER_TURN_RIGHT: lambda image: np.rot90(image, 1),
        QUARTER_TURN_LEFT: lambda image: np.rot90(image, -1),
        UPSIDE_DOWN: lambda image: np.rot90(image, 2),
        MIRRORED: lambda image: image[:, ::-1],
    }[turn]
    write_clip(path, count, pictures=[undo(numbered_frame(i)) for i in range(count)], audio="aac")
    return set_display_matrix(path, turn)


def cut_off(path: Path, share: float) -> Path:
    """Keep only the first part of a file's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def corrupt_packet(path: Path, number: int, kind: str = "video") -> Path:
    """Overwrite one packet of a file with nonsense; kind is "video" or "audio"."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(**{kind: 0}) if p.size]
    content = bytearray(path.read_bytes())
    position, size = packets[number]
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def sound_of(path: Path) -> np.ndarray:
    """float32 [N]: the first channel of a file's sound, as decoded."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "stereo", 48000)
        pieces = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate(pieces)


def alpha_frames(path: Path) -> list[np.ndarray]:
    """uint8 [H, W, 4] each; VP9 needs libvpx, as FFmpeg's own decoder drops transparency."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        vp9 = stream.codec_context.name == "vp9"
        decoder = av.CodecContext.create("libvpx-vp9", "r") if vp9 else stream.codec_context
        packets = (packet if packet.size else None for packet in container.demux(stream))
        return [f.reformat(format="rgba").to_ndarray() for packet in packets for f in decoder.decode(packet)]
