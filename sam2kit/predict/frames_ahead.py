"""The next frames of a propagation, decoded and encoded before it comes to them.

One thread decodes. What it has is encoded together, on a CUDA stream of their own, while the propagation works on
the frames before; on a CPU, together but at once. A frame that cannot be read fails when its turn has come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, takewhile
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from sam2kit.media.clips import CACHE_BYTES
from sam2kit.model.sam2 import ImageFeatures
from sam2kit.predict.geometry import pinned_frame
from sam2kit.predict.pace import gpu_stream
from sam2kit.predict.session import VideoSession

Frame = np.ndarray | Tensor  # uint8 [H, W, 3]; for a GPU in pinned memory
Encode = Callable[[Sequence[Frame]], ImageFeatures]


class FramesAhead:
    """Brings image features into a session; used in a with statement.

    Args:
        session: whose plan is followed.
        count: frames that are encoded together.
        encode: frames -> the features of all.
        device: where features are made.
    """

    def __init__(
        self,
        session: VideoSession,
        count: int,
        *,
        encode: Encode,
        device: torch.device,
    ) -> None:
        self.session, self.count = session, count
        self._encode = encode
        self._frames: dict[int, Future[Frame]] = {}
        self._features: dict[int, tuple[ImageFeatures, torch.cuda.Event | None]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames ahead")
        self._stream = gpu_stream(device, "encode") if device.type == "cuda" else None
        height, width = session.clip.size_hw
        # what is decoded ahead must not push the current frame out of the clip's cache: others draw on it
        self._in_thread = max(1, min(2 * count, CACHE_BYTES // (2 * 3 * height * width)))

    def __enter__(self) -> FramesAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def bring(self, after: int = 0) -> None:
        """Put the features of a step's frame into the session, and go on with those of later steps.

        Args:
            after: how many steps of the plan come before it.
        """
        steps = islice(self.session.plan, after, after + 4 * self.count)
        frame, *later = coming = list(dict.fromkeys(step.frame for step in steps))
        for known in (self._frames, self._features):
            for passed in set(known) - set(coming):
                del known[passed]
        self._read(coming)
        if frame not in self.session.features:
            if frame not in self._features:
                self._encode_together([frame, *self._decoded_of(later)])
            self.session.keep_features(frame, self._taken(frame))
        self._features.pop(frame, None)
        self._read(later)
        ready = self._decoded_of(later)
        enough = min(self.count, self._in_thread, len(self._waiting(later)))
        if self._stream is not None and len(self._features) < self.count and len(ready) >= enough > 0:
            self._encode_together(ready)

    def _read(self, coming: list[int]) -> None:
        for frame in self._waiting(coming)[: self._in_thread]:
            if frame not in self._frames:
                self._frames[frame] = self._thread.submit(self._decode, frame)

    def _decode(self, frame: int) -> Frame:
        decoded = self.session.clip.frame(frame)
        return decoded if self._stream is None else pinned_frame(decoded)

    def _decoded_of(self, frames: list[int]) -> list[int]:
        """Those from the first on that are decoded; one that cannot be ends the row, and fails when it is needed."""
        return list(takewhile(lambda f: f in self._frames and _is_good(self._frames[f]), self._waiting(frames)))

    def _waiting(self, frames: list[int]) -> list[int]:
        """Those without features."""
        return [f for f in frames if f not in self._features and f not in self.session.features]

    def _encode_together(self, frames: list[int]) -> None:
        """Encode the first of some frames, and as many of the others as go together."""
        batch = frames[: self.count]
        pixels = [self._frames.pop(f).result() for f in batch]
        done = None
        if self._stream is None:
            together = self._encode(pixels)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))  # weights may be on their way
            with torch.cuda.stream(self._stream):
                together = self._encode(pixels)
                done = self._stream.record_event()
        self._features |= {frame: (together[i : i + 1], done) for i, frame in enumerate(batch)}

    def _taken(self, frame: int) -> ImageFeatures:
        features, done = self._features[frame]
        if done is not None:
            here = torch.cuda.current_stream(features.stride16.device)
            here.wait_event(done)
            for tensor in vars(features).values():
                for stream in (here, gpu_stream(here.device, "track")):
                    tensor.record_stream(stream)
        return features


def _is_good(decoding: Future[Frame]) -> bool:
    return decoding.done() and decoding.exception() is None
