"""How a GPU is kept busy while a video is tracked.

Plain tracking launches hundreds of small kernels for each frame and waits for the answer. There are remedies, each
alone or together; masks stay the same but for rounding:

    on device   the bytes of a frame go to the GPU, which resizes them (at any pace but the plain one)
    ahead       the next frames are decoded in a thread and encoded together, beside the work on the current one
    recorded    the work on a frame is recorded as a CUDA graph (recorded.py): one launch instead of hundreds
    compiled    it is compiled by torch.compile, which takes minutes before the first frame, and again once the memory
                bank is full and for another number of objects or of prompted frames

Weights must stay where they are: load or move them before the first frame. On a CPU there is nothing to gain; the same
code runs there, so that tests reach it, but for the graph itself.
"""

from __future__ import annotations

from dataclasses import dataclass

_TOGETHER = 4  # frames: a GPU is busy with a few, and a clip may be short


@dataclass(frozen=True)
class Pace:
    """What is done for speed.

    Args:
        ahead: frames that are encoded together before they are needed; 0 encodes each when it is.
        recorded: record the work of a frame, for each number of objects and of prompted frames.
        compiled: compile the image encoder and the work of a frame.
    Raises:
        ValueError: if `ahead` is negative.
    """

    ahead: int = 0
    recorded: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.ahead < 0:
            raise ValueError(f"ahead must be 0 frames or more, got {self.ahead}")

    @classmethod
    def fastest(cls, *, compiled: bool = False) -> Pace:
        """Everything that needs no preparation; with `compiled`, everything."""
        return cls(ahead=_TOGETHER, recorded=True, compiled=compiled)

    @property
    def resizes_on_device(self) -> bool:
        """Whether frames are resized where the network is."""
        return self != Pace()

    @property
    def keeps_shapes(self) -> bool:
        """Whether a frame recalls tensors of the same shape from the first frame to the last."""
        return self.recorded or self.compiled
