"""What a video file's header says, in a moment and without decoding a frame; it may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from sam2kit.media.video_decoding import ONLY_FILMS


@dataclass(frozen=True)
class VideoFacts:
    """Length and size of a video, as its header states them."""

    seconds: float  # 0 where the header says nothing
    size_hw: tuple[int, int]


def video_facts(path: Path) -> VideoFacts | None:
    """The facts of a video file; None if it is none, or its header cannot be read."""
    if not path.is_file():  # a pipe has no header either
        return None
    try:
        with av.open(str(path), options=ONLY_FILMS) as container:
            if not container.streams.video:
                return None
            stream = container.streams.video[0]
            seconds = (container.duration or 0) / av.time_base
            if not seconds and stream.duration and stream.time_base:
                seconds = float(stream.duration * stream.time_base)
            return VideoFacts(seconds, (stream.height, stream.width))
    except (OSError, ValueError, av.FFmpegError):
        return None
