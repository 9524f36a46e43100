"""Follow things through frames that come one at a time, in constant memory: a camera, a generator.

    stream = predictor.stream()
    stream.push(first_frame)
    stream.add_points("dog", [[120, 80]])
    for frame in camera:
        show(stream.push(frame).mask("dog"))

It is a session whose clip grows at one end and is forgotten at the other. Prompts go to the latest frame; the masks
are those that a forward propagation through a file of the same frames would give (for fewer than 16 frames: if
`length` said so from the start).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sam2kit.media.clip import Clip
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.objects import Step
from sam2kit.predict.session import Session

if TYPE_CHECKING:
    from sam2kit.predict.video import VideoPredictor


class VideoStream:
    """Objects in frames that come one at a time. Made by `VideoPredictor.stream`."""

    def __init__(self, predictor: VideoPredictor, *, length: int | None = None) -> None:
        self.predictor = predictor
        self._clip = _LatestFrame()
        self._shown: FrameMasks | None = None
        reach = POINTER_FRAMES if length is None else min(length, POINTER_FRAMES)
        options, config = predictor.options, predictor.model.config
        self.session = Session(self._clip, options, pointer_frames=reach, config=config)

    def __len__(self) -> int:
        return len(self._clip)

    def push(self, frame: PictureSource) -> FrameMasks:
        """Take the next frame, uint8 [H, W, 3] RGB of the same size as before, and segment all objects in it."""
        with self._clip.next_frame(read_picture(frame)) as now:
            self.session.frames = range(now + 1)
            step = Step(now, False, self.session.object_ids)
            found = self.predictor.track_frame(self.session, step)
        if self._shown is not None:
            self._shown.release()
        self._shown = found
        for item in self.session.objects.values():
            old = [f for f in item.tracked if f <= now - POINTER_FRAMES]
            needed = self.predictor.tracker.recallable(self.session, item, step)[1] if old else ()
            for passed in set(old) - set(needed):
                del item.tracked[passed], item.directions[passed]
        return found

    def add_points(self, object_id: Hashable, points_xy: ArrayLike, labels: ArrayLike | None = None) -> FrameMasks:
        """Click on the latest frame; see `VideoPredictor.add_points`."""
        return self.predictor.add_points(self.session, self._latest(), object_id, points_xy, labels)

    def add_box(self, object_id: Hashable, box_xyxy: ArrayLike) -> FrameMasks:
        """Draw a box on the latest frame; see `VideoPredictor.add_box`."""
        return self.predictor.add_box(self.session, self._latest(), object_id, box_xyxy)

    def add_mask(self, object_id: Hashable, mask: ArrayLike) -> FrameMasks:
        """Give a mask on the latest frame; see `VideoPredictor.add_mask`."""
        return self.predictor.add_mask(self.session, self._latest(), object_id, mask)

    def remove_object(self, object_id: Hashable) -> None:
        """Forget an object; KeyError if there is none."""
        self.session.remove_object(object_id)

    def _latest(self) -> int:
        if not len(self._clip):
            raise ValueError("no frame has come yet: push one before prompting")
        return len(self._clip) - 1


class _LatestFrame(Clip):
    """A clip that has only its latest frame left."""

    def __init__(self) -> None:
        self.timestamps: tuple[Fraction, ...] = ()
        self._count = 0
        self._latest: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def next_frame(self, frame: np.ndarray) -> Iterator[int]:
        """Take a frame, give its number; a frame that fails has not come."""
        before = self._latest
        if before is not None and frame.shape != before.shape:
            (h, w), (was_h, was_w) = frame.shape[:2], before.shape[:2]
            raise ValueError(f"frames of a stream have one size; got {w}x{h} after {was_w}x{was_h}")
        self.size_hw = frame.shape[:2]
        self._latest, self._count = frame, self._count + 1
        try:
            yield self._count - 1
        except BaseException:
            self._latest, self._count = before, self._count - 1
            raise

    def _read(self, index: int) -> np.ndarray:
        if self._latest is None or index != self._count - 1:
            raise ValueError(f"frame {index} of the stream has passed; only the latest one can be prompted")
        return self._latest

    def fingerprint(self) -> str:
        """A stream has none: its frames are gone."""
        raise ValueError("a stream cannot be saved: its frames are gone; save the frames as a video and open that")
