"""One visitor's work on one clip: objects with names, prompts, what was tracked, and which part of the clip it is.

Everything the Video tab can do, as plain calls without any user interface; drawing is in video_view.py. Points are
pixels of the clip.

    whole      the clip as it was opened                     frames 0 ... T-1
    part       the frames of it that are worked on now       range(start, stop, every)
    session    of the part: its frame i is the whole clip's frame part[i]
    _shelf     prompts and answers by the whole clip's frames; nothing is lost when the part changes
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from sam2kit.clicking.clicked_clip import ClickedClip
from sam2kit.clicking.renumbering import both_tracks, numbered_session, renamed_step, renumbered
from sam2kit.media.clips import Clip
from sam2kit.predict.health import HealthLimits, Readings, classify
from sam2kit.predict.session import FramePrompt, ObjectTrack, VideoSession
from sam2kit.predict.video import Direction, VideoPredictor
from sam2kit.ui.opened_clip import OpenedClip
from sam2kit.ui.video_downloads import Writing
from sam2kit.ui.video_models import VideoModels


@dataclass
class VideoWork(ClickedClip):
    """A clip that a visitor works on; see the module's text."""

    limits: HealthLimits = field(default_factory=HealthLimits)
    opened: OpenedClip | None = None
    part: range = range(0)
    models: VideoModels | None = None  # whose answers these are: they stay while the visitor's choice may change
    draft: bool = False  # a quicker, coarser model works on it
    busy: bool = False  # tracking is running
    playing: bool = False
    put_aside: bool = False  # the page asks for another video; what still runs does not bring this one back
    opened_clips: int = 0  # how many there have been: what was asked about an earlier one is not answered
    follows: bool = True  # the view follows the tracking
    effect: str = "overlay"
    previews: bool = False  # the view shows the effect instead of the prompts
    pace: dict[int, float] = field(default_factory=dict)  # seconds per frame, by number of objects
    warned: bool = False  # the visitor knows that tracking takes long
    tracked_from: dict[int, frozenset[FramePrompt]] = field(default_factory=dict)  # all prompts of the latest tracking
    writing: Writing = field(default_factory=Writing)
    _readings: Readings = field(default_factory=Readings)

    # the clip

    @property
    def is_open(self) -> bool:
        """True when there is a clip."""
        return self.session is not None

    @property
    def open_models(self) -> VideoModels:
        """The models, where a clip is open for certain."""
        assert self.models is not None, "needs an open clip"
        return self.models

    @property
    def predictor(self) -> VideoPredictor:
        """Who answers."""
        return self.open_models.predictor(draft=self.draft)

    @property
    def files(self) -> OpenedClip:
        """The clip with its folder, where one is open for certain."""
        assert self.opened is not None, "needs an open clip"
        return self.opened

    @property
    def whole(self) -> Clip:
        """The clip as it was opened."""
        return self.files.clip

    def take(self, opened: OpenedClip, models: VideoModels) -> None:
        """Begin on a clip; what was open is closed and forgotten."""
        self.close()
        session, part = models.predictor().open(opened.clip), range(len(opened.clip))
        count = self.opened_clips + 1
        fresh = VideoWork(self.limits, opened, part, models, session=session, effect=self.effect, opened_clips=count)
        vars(self).update(vars(fresh))

    @property
    def scene(self) -> str:
        """Names the frame that is shown, for requests about it."""
        return f"{self.opened_clips}.{self.part[self.frame]}"

    def close(self) -> None:
        """Close the clip and delete the visitor's files."""
        self.session = None
        self.writing.stop()
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def take_part(self, start: int, stop: int, every: int = 1) -> list[int]:
        """Work on some frames of the whole clip only; prompts and answers on those frames stay.

        Args:
            start, stop, every: of the whole clip's frames, as in range.
        Returns:
            the whole clip's frames with prompts that are not in the part. They come back with the whole clip.
        Raises:
            ValueError: if no frame would be left.
        """
        part = range(start, stop, every)
        clip = self.whole if part == range(len(self.whole)) else self.whole.cut(start, stop, every)
        shown = self.part[self.frame]
        self._put_on_shelf()
        within = {f: i for i, f in enumerate(part)}
        tracks = {number: renumbered(track, within) for number, track in self._shelf.items()}
        tracks = {i: t for i, t in tracks.items() if t.prompts or t.tracked}
        session = VideoSession(clip, self.open_session.options, tracks, run=self.open_session.run)
        self._answer_what_is_open(self.predictor, session)
        self.part, self.session, self.past, self.warned = part, session, [], False
        self.go_to(min(range(len(part)), key=lambda i: abs(part[i] - shown)))
        return sorted({f for track in self._shelf.values() for f in track.prompts} - set(part))

    def change_model(self, models: VideoModels, *, draft: bool) -> None:
        """Go on with another model: prompts are asked again, tracked frames are forgotten."""
        predictor = models.predictor(draft=draft)
        self._put_on_shelf()
        prompts = {number: ObjectTrack(dict(track.prompts)) for number, track in self._shelf.items() if track.prompts}
        within = {f: i for i, f in enumerate(self.part)}
        tracks = {number: renumbered(track, within) for number, track in prompts.items()}
        session = VideoSession(
            self.open_session.clip, predictor.options, {i: t for i, t in tracks.items() if t.prompts}
        )
        self._answer_what_is_open(predictor, session)
        self._shelf, self.session, self.models, self.draft = prompts, session, models, draft
        self.past, self.pace, self.warned = [], {}, False

    # tracking

    def states(self) -> dict[int, np.ndarray]:
        """Object number -> uint8 [T] states of health, for all objects."""
        return {
            number: classify(self._readings.of(number, self.open_session), self.limits) for number in self.objects.names
        }

    @property
    def is_tracked(self) -> bool:
        """Whether tracking has found anything."""
        return any(track.tracked for track in self.open_session.tracks.values())

    @property
    def needs_tracking(self) -> bool:
        """Whether a prompt came or went since the latest tracking, or an object was not tracked yet."""
        now, tracks = self._all_prompts(), self.open_session.tracks
        known = {n: prompts for n, prompts in self.tracked_from.items() if n in tracks}
        planned = {i for step in self.open_session.plan for i in step.object_ids}
        new = (i for i, t in tracks.items() if t.prompted and not t.tracked and i not in planned)
        return now != known or (len(self.part) > 1 and any(True for _ in new))

    def plan(self, start: int | None, direction: Direction) -> int:
        """As for every clip; remembers from which prompts."""
        count = super().plan(start, direction)
        self.tracked_from = self._all_prompts()
        return count

    def _all_prompts(self) -> dict[int, frozenset[FramePrompt]]:
        """Object number -> prompts, those outside the part included; an undone step brings back the same ones."""
        prompts = {}
        for number in self.objects.names:
            track, stored = self.open_session.tracks.get(number), self._shelf.get(number)
            here = list(track.prompts.values()) if track else []
            outside = [p for f, p in stored.prompts.items() if f not in self.part] if stored else []
            if track and (here or outside):
                prompts[number] = frozenset([*here, *outside])
        return prompts

    def prompted_frames(self) -> dict[int, list[int]]:
        """Object number -> frames with prompts."""
        tracks = self.open_session.tracks
        return {number: sorted(tracks[number].prompts) for number in self.objects.names if number in tracks}

    # clicks of pages that have no click surface

    def click(self, xy: tuple[float, float], *, positive: bool) -> None:
        """A click, in pixels of the clip."""
        self.prompt(FramePrompt(np.array([xy], np.float32), np.array([int(positive)])))

    def draw_corner(self, xy: tuple[float, float]) -> None:
        """The first or the second corner of a box, in pixels of the clip; the second asks the model."""
        if self.corner is None:
            self.corner = xy
            return
        box = np.array([*np.minimum(self.corner, xy), *np.maximum(self.corner, xy)], np.float32)
        self.prompt(FramePrompt(box_xyxy=box))

    # files

    def whole_session(self) -> VideoSession:
        """The session as it goes into a file: of the whole clip, with names as object ids."""
        self._put_on_shelf()
        names = self.objects.by_id
        plan = deque(replace(renamed_step(s, names), frame=self.part[s.frame]) for s in self.open_session.plan)
        tracks: dict[Hashable, ObjectTrack] = {names[i]: t for i, t in self._shelf.items() if i in names}
        return VideoSession(self.whole, self.open_session.options, tracks, plan, self.open_session.run)

    def adopt(self, session: VideoSession) -> None:
        """Go on with a session of the clip, or of a part of it, that came from a file."""
        self.session, self.objects = numbered_session(session)
        self.part, self._shelf, self.past, self.pace = session.clip.source_frames, {}, [], {}
        self.tracked_from = self._all_prompts()
        self.go_to(min((f for track in session.tracks.values() for f in track.prompts), default=0))

    # inside

    def _put_on_shelf(self) -> None:
        """Write what the session knows to the shelf, over what was there for its frames."""
        outside = {f: f for f in range(len(self.whole)) if f not in self.part}
        to_whole = dict(enumerate(self.part))
        old, self._shelf = self._shelf, {}
        for number in self.objects.names:
            kept = renumbered(old.get(number, ObjectTrack()), outside)
            now = renumbered(self.open_session.tracks.get(number, ObjectTrack()), to_whole)
            whole = both_tracks(kept, now)
            if whole.prompts or whole.tracked:
                self._shelf[number] = whole

    @staticmethod
    def _answer_what_is_open(predictor: VideoPredictor, session: VideoSession) -> None:
        """Ask all prompts that have no answer yet."""
        for number, track in session.tracks.items():
            for frame in sorted(set(track.prompts) - set(track.prompted)):
                predictor.add_prompt(session, frame, number, track.prompts[frame], replace=True)
