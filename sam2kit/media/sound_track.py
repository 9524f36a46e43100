"""The sound track of a file, brought into the file that video_writer.py writes.

Packets are copied where the target can hold them and browsers play them; otherwise the sound is decoded and encoded
again. Either way it moves by as much as the pictures do, so it stays in sync.

Surprises: a copied track begins and ends at a packet, up to 30 ms off the span. Damage in decoded sound becomes
silence of the same length, so that what follows is not early.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from sam2kit.media.video_decoder import FORMATS, open_container

_COPIED = {".mp4": {"aac", "mp3"}, ".mov": {"aac", "mp3"}, ".webm": {"opus", "vorbis"}}
_ENCODERS: dict[str, Literal["aac", "libopus"]] = {".mp4": "aac", ".mov": "aac", ".webm": "libopus"}
_GAP = 0.02  # seconds; smaller steps between time stamps are rounding
_SILENCE = 48000  # samples that are made at once

_Pieces = Generator[tuple[Fraction, "list[av.Packet[Any]]"], None, None]  # seconds of the source's clock, packets


class SoundTrack:
    """Gives the packets of one file's sound for another file, in order.

    Args:
        source: the file with the sound.
        target: the container being written, before its first packet.
        suffix: of the target: .mp4, .mov or .webm.
        start: seconds of the source's clock that become 0.
        end: seconds of the source's clock at which the sound ends; None takes all.
    Raises:
        ValueError, av.error.FFmpegError: if the source has no sound that can be read.
    """

    def __init__(
        self, source: Path, target: av.container.OutputContainer, suffix: str, start: Fraction, end: Fraction | None
    ) -> None:
        self._problems: list[str] = []
        self._silenced = 0
        self._start, self._end = start, end
        self._input = open_container(source.resolve(), f"{FORMATS},mp3,wav,flac,aac")
        try:
            audio = self._input.streams.audio
            tick = audio[0].time_base if audio and audio[0].codec_context is not None else None
            if tick is None:
                raise ValueError("there is no sound track that can be decoded")
            self._source = audio[0]
            context = self._source.codec_context
            # AAC as it is broadcast lacks the description that an MP4 file begins with
            name = context.name.removesuffix("float")  # FFmpeg's decoder of MP3 is "mp3float"
            if name in _COPIED[suffix] and (name != "aac" or context.extradata):
                self._target = target.add_stream_from_template(self._source)
                self._pieces = self._copied(tick, exact_begin=suffix == ".webm")
            else:
                self._target = self._add_encoder(target, _ENCODERS[suffix])
                self._pieces = self._encoded()
            self._next = next(self._pieces, None)
        except BaseException:
            self._input.close()
            raise

    @property
    def problems(self) -> list[str]:
        """Sentences that say what could not be read so far."""
        silent = [f"damaged parts of the sound are silent: {self._silenced}"] if self._silenced else []
        return self._problems + silent

    def packets_until(self, seconds: Fraction | None) -> Iterator[av.Packet[Any]]:
        """The packets, from where the last call ended, that begin before a time of the source's clock; None: all."""
        while self._next is not None and (seconds is None or self._next[0] < seconds):
            yield from self._next[1]
            self._next = next(self._pieces, None)

    def close(self) -> None:
        """Close the source."""
        self._pieces.close()
        self._input.close()

    def _add_encoder(self, target: av.container.OutputContainer, codec: Literal["aac", "libopus"]) -> av.AudioStream:
        source = self._source.codec_context
        rate = source.rate if codec == "aac" and source.rate in (32000, 44100) else 48000
        stream = target.add_stream(codec, rate=rate)
        channels = 1 if source.layout.nb_channels == 1 else 2
        stream.codec_context.layout = "mono" if channels == 1 else "stereo"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.bit_rate = 80000 * channels
        return stream

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        try:
            for packet in self._input.demux(self._source):
                if packet.size or packet.dts is None:  # an empty one with a time would pass for the end
                    yield packet
        except av.error.FFmpegError as error:
            self._problems.append(f"the sound ends early because the file is damaged ({error.strerror})")

    def _copied(self, tick: Fraction, *, exact_begin: bool) -> _Pieces:
        """MP4 can hide what its first packet has too much at the front; WebM cannot, so there none begins early."""
        shift, run_up, last_dts = round(self._start / tick), None, None
        for packet in self._packets():
            if packet.pts is None:
                continue
            begin = packet.pts * tick
            if run_up is None:
                run_up = max(Fraction(0), -begin)  # the encoder's own, which the target is told of
            too_early = begin < self._start - run_up
            if too_early and (exact_begin or begin + (packet.duration or 0) * tick <= self._start):
                continue
            if self._end is not None and begin >= self._end:
                return
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            if last_dts is not None and packet.dts <= last_dts:
                continue  # going back in time would break the whole file
            last_dts = packet.dts
            packet.stream = self._target
            yield begin, [packet]

    def _encoded(self) -> _Pieces:
        context = self._target.codec_context
        limit = None if self._end is None else round((self._end - self._start) * context.rate)
        written = 0
        for samples in self._samples(context.rate, context.layout.name):
            piece = samples if limit is None else samples[:, : limit - written]
            if piece.shape[1]:
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "fltp", context.layout.name)
                frame.sample_rate, frame.pts, frame.time_base = context.rate, written, Fraction(1, context.rate)
                yield self._start + Fraction(written, context.rate), self._target.encode(frame)
                written += piece.shape[1]
            if written == limit:
                break
        yield self._start + Fraction(written, context.rate), self._target.encode(None)

    def _samples(self, rate: int, layout: str) -> Iterator[np.ndarray]:
        """float32 [C, N] pieces without gaps, the first of which begins at the start."""
        resampler = av.AudioResampler("fltp", layout, rate)
        written = 0
        for frame in self._frames():
            pieces = [out.to_ndarray() for out in resampler.resample(frame)]
            if not pieces:
                continue
            samples = np.concatenate(pieces, axis=1)
            position = written
            if frame.pts is not None and frame.time_base is not None:
                position = round((frame.pts * frame.time_base - self._start) * rate)
            if written and abs(position - written) < _GAP * rate:
                position = written
            while written < position:
                silence = min(position - written, _SILENCE)
                yield np.zeros((samples.shape[0], silence), np.float32)
                written += silence
            samples = samples[:, written - position :]
            yield samples
            written += samples.shape[1]

    def _frames(self) -> Iterator[av.AudioFrame]:
        for packet in self._packets():
            try:
                yield from self._source.codec_context.decode(packet if packet.size else None)
            except av.error.EOFError:
                continue
            except av.error.FFmpegError:
                self._silenced += 1
