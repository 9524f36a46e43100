"""What the app takes from a visitor, so that one of them cannot use up the machine for all."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from sam2kit.media.clip import Clip
from sam2kit.media.clips import open_clip
from sam2kit.media.video_file import read_header


@dataclass(frozen=True)
class Limits:
    """None is no limit."""

    upload_mb: int = 1024  # of one file
    picture_megapixels: float = 100.0
    clip_seconds: float | None = None
    clip_frames: int = 36_000  # twenty minutes at 30 frames per second
    clip_megapixels: float = 9.0  # of one frame; 4K has 8.3
    photos: int = 40  # in the Fine-tune tab
    finetune_minutes: float = 15.0
    visitors: int = 32  # whose work is kept at a time; the least recently used goes first
    minutes_after_leaving: float = 60.0  # that a visitor's work waits for a reload, or for the page to be opened again

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not value > 0:
                raise ValueError(f"the limit {f.name} must be above 0, got {value}")

    @property
    def picture_pixels(self) -> int:
        """Of one picture: what `read_picture` may decode."""
        return round(self.picture_megapixels * 1e6)

    def check_picture(self, size_hw: tuple[int, ...], name: str) -> None:
        """Raise ValueError, with what to do, if a picture is too large."""
        megapixels, most = size_hw[0] * size_hw[1] / 1e6, self.picture_megapixels
        if megapixels > most:
            raise ValueError(
                f"{name} has {megapixels:.0f} megapixels; this app takes {most:g} at most. Make it smaller first"
            )

    def check_upload(self, path: Path, name: str) -> None:
        """Raise ValueError if a file, which the visitor calls by a name, takes too much space."""
        if path.stat().st_size > self.upload_mb * 2**20:
            raise ValueError(f"{name} has more than {self.upload_mb} MB, which is the most this app takes")

    def check_file(self, path: Path) -> None:
        """Raise ValueError if what a video's header says is too long or too large; nothing is decoded."""
        self.check_upload(path, path.name)
        facts = read_header(path)
        if facts is not None:
            self._check_clip(facts.size_hw, 0, facts.seconds, path.name)

    def open_clip(self, path: Path, name: str) -> Clip:
        """Open a video; it is given up as soon as it is seen to be too long or too large.

        Raises:
            ValueError, FileNotFoundError: as `open_clip`; or beyond a limit.
        """
        clip = open_clip(path, check=lambda size_hw, frames, seconds: self._check_clip(size_hw, frames, seconds, name))
        try:
            self._check_clip(clip.size_hw, len(clip), clip.duration, name)
        except ValueError:
            clip.close()
            raise
        return clip

    def _check_clip(self, size_hw: tuple[int, int], frames: int, seconds: float, name: str) -> None:
        (height, width), most = size_hw, self.clip_megapixels
        problem = ""
        if height * width > most * 1e6:
            problem = f"is {width}x{height}; this app takes videos up to {most:g} megapixels. Make it smaller first"
        elif self.clip_seconds is not None and seconds > self.clip_seconds + 0.5:
            problem = (
                f"lasts {seconds:.0f} seconds or more; this app takes {self.clip_seconds:g} at most. Cut it first, or "
                "run the app on your own machine, where it takes longer ones"
            )
        elif frames > self.clip_frames:
            problem = (
                f"has {frames} frames or more; this app takes {self.clip_frames} at most. Cut it into pieces first"
            )
        if problem:
            raise ValueError(f"{name} {problem}")


def default_limits() -> Limits:
    """For one person at home; tighter ones where the app runs as a Space, for everybody."""
    if "SPACE_ID" not in os.environ:
        return Limits()
    return Limits(
        upload_mb=200, picture_megapixels=50, clip_seconds=120, clip_frames=7200, photos=20, finetune_minutes=5,
        minutes_after_leaving=10,
    )  # fmt: skip
