"""How a GPU is kept busy while a video is tracked.

Frames go to a CUDA GPU as bytes, which resizes them; the next ones are decoded in a thread and encoded together, beside
the work on the current one (frames_ahead.py); a frame's work is handed over before the answer of the one before has
been read (tracker.py); and the keys that memory attention makes of a memory are kept for all frames that recall it
(kept_keys.py). What takes preparation is asked for, alone or together; masks stay the same but for rounding:

    recorded    the work on a frame is recorded as a CUDA graph (recorded.py): one launch instead of hundreds
    compiled    it is compiled by torch.compile, which takes minutes, for each number of objects and of prompted frames

Either begins once the memory bank is full and shapes stay. Weights must stay where they are: load or move them before
the first frame. On a CPU there is nothing to gain; the same code runs there if it is asked for, so that tests reach
it, but for the graph itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

_TOGETHER = 4  # frames: a GPU is busy with a few, and a clip may be short


@dataclass(frozen=True)
class Pace:
    """What is done for speed.

    Args:
        ahead: frames that are encoded together before they are needed; 0 encodes each when it is, and None is 4 on a
            CUDA GPU and 0 elsewhere.
        keys: keep the keys of memories, 8 MB per memory of a published model in 16 bits; None does on a CUDA GPU.
        recorded: record the work of a frame, for each number of objects and of prompted frames.
        compiled: compile the image encoder and the work of a frame.
    Raises:
        ValueError: if `ahead` is negative.
    """

    ahead: int | None = None
    keys: bool | None = None
    recorded: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.ahead is not None and self.ahead < 0:
            raise ValueError(f"ahead must be 0 frames or more, got {self.ahead}")

    @classmethod
    def fastest(cls, *, compiled: bool = False) -> Pace:
        """Everything that is prepared within seconds; with `compiled`, everything."""
        return cls(ahead=_TOGETHER, recorded=True, compiled=compiled)

    def frames_ahead(self, device: torch.device) -> int:
        """How many frames are encoded together on a device."""
        if self.ahead is None:
            return _TOGETHER if device.type == "cuda" else 0
        return self.ahead


@cache  # each stream has scratch memory of its own, and after 32 of them two would share it
def gpu_stream(device: torch.device, work: Literal["track", "encode"]) -> torch.cuda.Stream:
    """The stream for a kind of work on a CUDA device: tracking, which somebody waits for, goes before encoding."""
    return torch.cuda.Stream(device, priority=-1 if work == "track" else 0)


@contextmanager
def on_track_stream(device: torch.device, *, join: bool = True) -> Iterator[None]:
    """Work on the stream for tracking, after all that the current stream has to do.

    Args:
        join: what the current stream gets later waits for this work; False if the host will wait for it.
    """
    if device.type != "cuda":
        yield
        return
    outside, stream = torch.cuda.current_stream(device), gpu_stream(device, "track")
    stream.wait_stream(outside)
    with torch.cuda.stream(stream):
        yield
    if join:
        outside.wait_stream(stream)
