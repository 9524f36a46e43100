"""The network of the Video tab: as it is, or as a quicker draft; and how long tracking will take with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from threading import Lock
from time import perf_counter

import torch

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.session import ObjectTrack, Step, VideoSession
from sam2kit.predict.video import VideoPredictor
from sam2kit.ui.zero_gpu import video_predictor
from sam2kit.ui.zero_videos import ZeroVideoPredictor

DRAFT_SIDE = 512  # pixels; a quarter of the work of the published 1024
_FULL_SIDE = 1024
_MEASURING = 20  # seconds for which a GPU is lent


class VideoModels:
    """The predictor, and a draft of it that looks at smaller pictures with the same weights.

    Args:
        model: has learned to track.
        lock: held during each pass through the network; visitors share it.
    """

    def __init__(self, model: SAM2, *, lock: AbstractContextManager[object] | None = None) -> None:
        self._full = video_predictor(model, lock=Lock() if lock is None else lock)
        self._draft: VideoPredictor | None = None
        self._making = Lock()

    @property
    def has_draft(self) -> bool:
        """Whether a draft would be quicker."""
        return self._full.model.config.side == _FULL_SIDE

    def predictor(self, *, draft: bool = False) -> VideoPredictor:
        """The predictor of either kind; the draft is made at first use and shares the weights."""
        if not draft:
            return self._full
        with self._making:
            if self._draft is None:
                small = model_at_side(self._full.model, DRAFT_SIDE)
                self._draft = video_predictor(small, self._full.options, lock=self._full.lock)
            return self._draft


def model_at_side(model: SAM2, side: int) -> SAM2:
    """The same weights, in the same memory, for squares of another size."""
    with torch.device("meta"):
        other = SAM2(replace(model.config, side=side))
    other.load_state_dict(model.state_dict(), assign=True)
    other.compute_dtype, other.memory_is_trained = model.compute_dtype, model.memory_is_trained
    return other.to(model.device).eval()


def still_of(session: VideoSession, *, with_features: bool = False) -> VideoSession:
    """What is known now, as a session of its own that later tracking does not change."""
    tracks = {i: t.without_memories() for i, t in session.tracks.items()}
    features = OrderedDict(session.features) if with_features else OrderedDict()
    return VideoSession(session.clip, session.options, tracks, run=session.run, features=features)


def seconds_per_frame(
    predictor: VideoPredictor, session: VideoSession, clock: Callable[[], float] = perf_counter
) -> float:
    """Measure how long one more frame of tracking takes when the memory is full.

    Tracks two frames of an invented session, in which an answer that is known stands for all that would be
    recalled; the given session stays as it is.

    Args:
        session: with at least one prompted object.
    """
    known = {i: next(iter(t.prompted.values())) for i, t in session.tracks.items() if t.prompted}
    if isinstance(predictor, ZeroVideoPredictor):  # where the GPU is, or each frame would make the trip
        tracks = {i: ObjectTrack(prompted={0: r}) for i, r in known.items()}
        return predictor.gpu.call(_MEASURING, _measure, VideoSession(session.clip, session.options, tracks))
    reach = predictor.model.config.memory.slots
    begin = min(max(len(session) - 1 - reach, 0), next(iter(session.features), 0))
    features = OrderedDict(session.features)
    trial = VideoSession(session.clip, session.options, run=1, features=features)
    trial.tracks = {i: ObjectTrack(prompted={begin: replace(r, prompted=True)}) for i, r in known.items()}
    ids, last = tuple(trial.tracks), min(begin + reach, len(session) - 1)
    first = min(begin + 1, last)
    before = clock()
    predictor.track_frame(trial, Step(first, False, ids))
    if last - first < 1:
        return clock() - before
    for track in trial.tracks.values():
        for frame in range(first + 1, last):
            track.tracked[frame] = track.tracked[first]
            track.memories[frame] = track.memories[first]
    before = clock()
    predictor.track_frame(trial, Step(last, False, ids))
    return clock() - before


def _measure(model: SAM2, session: VideoSession) -> Iterator[float]:
    yield seconds_per_frame(VideoPredictor(model), session)


def in_words(seconds: float) -> str:
    """A time as people say it: "12 s", "4 min"."""
    if seconds < 1:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
