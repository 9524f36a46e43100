"""What the Video tab does, but for tracking, playing and downloads: handlers, plain values in and updates out.

Gradio holds only the visitor's key; the work is in the session store. Gestures on the click surface come in through
`ask`, past Gradio's queue. The layout is in video_layout.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from sam2kit.clicking.clip_view import shown_object
from sam2kit.clicking.messages import PromptRequest, ShownObject
from sam2kit.clicking.views import to_original
from sam2kit.media.effects import combined
from sam2kit.predict.health import next_trouble
from sam2kit.predict.session import VideoSession
from sam2kit.ui.asking import answer_request
from sam2kit.ui.health_strip import frame_at_share
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Networks
from sam2kit.ui.object_list import name_in, number_in
from sam2kit.ui.opened_clip import open_video
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ADD, BOX, ERRORS, REMOVE, example_of, plain_words
from sam2kit.ui.turns import Turns
from sam2kit.ui.video_page import RUNNING, SKIP, Page, Pages, empty_page
from sam2kit.ui.video_playing import VideoPlaying
from sam2kit.ui.video_saving import VideoSaving
from sam2kit.ui.video_tracking import VideoTracking
from sam2kit.ui.video_work import VideoWork

HINTS = {
    ADD: "Click on the thing you want, on any frame; then press Track.",
    REMOVE: "Click where the mask should not be.",
    BOX: "Click two opposite corners around the thing.",
}


_PATIENCE = 20.0  # seconds, for a frame that is being tracked


@dataclass
class VideoTab:
    """What the handlers need: the networks, the visitors' work, the example clips."""

    networks: Networks
    store: SessionStore[VideoWork]
    examples: list[Path]
    limits: Limits = field(default_factory=Limits)
    jobs: Turns = field(default_factory=Turns)  # one long job at a time
    plain: bool = False  # a picture instead of the click surface
    pages: Pages = field(init=False)
    tracking: VideoTracking = field(init=False)
    playing: VideoPlaying = field(init=False)
    saving: VideoSaving = field(init=False)

    def __post_init__(self) -> None:
        self.pages = Pages(self.plain)
        self.tracking = VideoTracking(self.store, self.pages, self.jobs)
        self.playing = VideoPlaying(self.store, self.pages)
        self.saving = VideoSaving(self.store)

    # gestures

    def ask(self, sent: Any) -> dict[str, Any]:
        """All prompts of an object on the frame that is shown, as the click surface sends them."""

        def act(work: VideoWork, request: PromptRequest) -> ShownObject:
            if work.busy:
                raise ValueError(RUNNING)
            if not work.is_open:
                raise ValueError("open a video first")
            request = request.about(work.scene, work.whole.size_hw)
            work.playing = False
            work.set_prompts(request.number, request.points, request.box_xyxy)
            return shown_object(work, request.number)

        return answer_request(sent, self.store, act)

    def answered(self, key: str) -> Page:
        """After an answer on the click surface: what stands beside it."""
        with self.store.using(key) as work:
            if not work.is_open:
                return empty_page()
            hid_prompts, work.previews = work.previews, False
            page = self.pages.beside(work, None)
            return page._replace(view=self.pages.view(work, key)) if hid_prompts else page

    def click(self, key: str, mode: str, event: gr.SelectData) -> Page:
        """A click on the plain picture: a prompt, or a corner of a box."""

        def act(work: VideoWork) -> str | None:
            work.previews = False
            xy = to_original(event.index, work.whole.size_hw)
            if mode == BOX:
                work.draw_corner(xy)
                return None
            work.click(xy, positive=mode != REMOVE)
            return None

        return self._step(key, act)

    def change_mode(self, mode: str) -> str:
        """Say what the next click on the plain picture will do."""
        return HINTS[mode]

    # the clip

    def open_upload(self, key: str, source: str | Path | None) -> Page:
        """Show an uploaded video."""
        return self._open(key, source, uploaded=True) if source else empty_page()

    def open_example(self, index: int, key: str) -> Page:
        """Show one of the example clips."""
        return self._open(key, example_of(self.examples, index), uploaded=False)

    def open_session(self, key: str, source: str | Path) -> Page:
        """Go on with a session file; its clip is open."""

        def act(work: VideoWork) -> str:
            session, work.draft = _read_session(work, Path(source))
            work.adopt(session)
            left = " Press Go on to track the rest." if session.plan else ""
            return f"The session is open: {len(work.objects.names)} objects.{left}"

        return self._step(key, act, show=self.pages.of_clip)

    def bring_back(self, key: str) -> Page:
        """The work, on a page that was loaded again; once the tracking that the old page watched has stopped."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            with self.store.still(key) as work:
                if work is None or not work.is_open:
                    return Page()
                if not work.busy or time.monotonic() > deadline:
                    work.playing = work.previews = work.put_aside = False
                    return self.pages.of_clip(work, key, None)
            time.sleep(0.05)

    def start_over(self, key: str) -> Page:
        """Show the upload again; the clip stays open until another comes."""
        self.store.cancelled(key).set()
        with self.store.using(key) as work:
            work.playing, work.put_aside = False, True
        return empty_page()

    def take_part(self, key: str, first: float | None, last: float | None, every: float | None) -> Page:
        """Work on frames first ... last of the whole clip, each n-th one."""

        def act(work: VideoWork) -> str:
            start, end, step = (int(v) if v is not None else -1 for v in (first, last, every))
            if not 0 <= start <= end < len(work.whole) or step < 1:
                raise ValueError(f"give frames from 0 to {len(work.whole) - 1}, first before last, and every 1, 2, …")
            lost = work.take_part(start, end + 1, step)
            kept = f"Now working on {len(work.part)} of {len(work.whole)} frames."
            if not lost:
                return kept
            frames = ", ".join(map(str, lost))
            return f"{kept} Left out, until “All frames”, are the prompts on: {frames}."

        return self._step(key, act, show=self.pages.of_clip)

    def take_all(self, key: str) -> Page:
        """Work on the whole clip again."""
        with self.store.using(key) as work:
            last = len(work.whole) - 1 if work.is_open else 0
        return self.take_part(key, 0, last, 1)

    def change_model(self, key: str, draft: bool) -> Page:
        """Take the draft model, or the full one again."""

        def act(work: VideoWork) -> str:
            work.change_model(work.open_models, draft=draft)
            return "Draft: quicker and coarser. Press Track." if draft else "Full quality again. Press Track."

        return self._step(key, act, show=self.pages.of_clip)

    def change_network(self, key: str) -> Page:
        """Another network answers from now on: prompts are asked again, tracked frames are forgotten."""
        with self.store.using(key) as work:
            if not work.is_open or work.models is self.networks.videos(key):
                return Page()
            if work.busy:
                gr.Warning("Tracking goes on with the model that it began with; choose again when it has ended.")
                return Page()

        def act(work: VideoWork) -> str:
            work.change_model(self.networks.videos(key), draft=False)
            return "The model that you chose has answered all prompts; press Track."

        return self._step(key, act, show=self.pages.of_clip)

    # frames

    def show_frame(self, key: str, frame: float | None) -> Page:
        """The slider was moved; it is not moved back."""
        return self._go(key, lambda work: work.frame if frame is None else int(frame))._replace(slider=SKIP)

    def step_frame(self, key: str, by: int) -> Page:
        """Some frames on or back."""
        return self._go(key, lambda work: work.frame + by)

    def jump(self, key: str, event: gr.EventData) -> Page:
        """A click on the health strip."""
        share = event._data.get("share") if isinstance(event._data, dict) else None
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            return Page()
        return self._go(key, lambda work: frame_at_share(share, len(work.part)))

    def next_trouble(self, key: str) -> Page:
        """Go to where the next uncertain or lost stretch begins."""

        def find(work: VideoWork) -> int:
            found = next_trouble(list(work.states().values()), work.frame)
            if found is None:
                gr.Info("No frame is uncertain or lost.")
            return work.frame if found is None else found

        return self._go(key, find)

    def show_effect(self, key: str, objects: str, background: str, previews: bool) -> Page:
        """Show the frame as the effects make it, or with prompts."""

        def act(work: VideoWork) -> None:
            work.effect, work.previews = combined(objects, background), previews

        return self._step(key, act, while_tracking=True)

    # objects

    def undo(self, key: str) -> Page:
        """Take back the last prompt."""
        return self._step(key, lambda work: work.undo())

    def clear_frame(self, key: str) -> Page:
        """Take back the active object's prompts on this frame."""
        return self._step(key, lambda work: work.clear_frame())

    def restart(self, key: str) -> Page:
        """Remove all objects and masks; the clip stays."""

        def act(work: VideoWork) -> str:
            work.restart()
            return "All objects are gone; Undo brings them back."

        return self._step(key, act)

    def add_object(self, key: str) -> Page:
        """Begin another object."""
        return self._step(key, lambda work: work.add_object())

    def pick(self, key: str, event: gr.EventData) -> Page:
        """Work on another object."""
        return self._with_number(key, event, lambda work, number: work.select(number), while_tracking=True)

    def rename(self, key: str, event: gr.EventData) -> Page:
        """Name an object."""
        name = name_in(event)
        return self._with_number(key, event, lambda work, n: work.objects.rename(n, name), while_tracking=True)

    def drop(self, key: str, event: gr.EventData) -> Page:
        """Forget an object and all that was tracked of it."""

        def act(work: VideoWork, number: int) -> None:
            active = work.objects.active
            work.select(number)
            work.remove_object()
            if active in work.objects.names:
                work.select(active)

        return self._with_number(key, event, act)

    # inside

    def _open(self, key: str, source: str | Path, *, uploaded: bool) -> Page:
        self.store.cancelled(key).set()
        try:
            models = self.networks.videos(key)
            opened = open_video(source, self.limits, uploaded=uploaded)
        except ERRORS as error:
            gr.Warning(plain_words(error), title="This video cannot be used")
            with self.store.using(key) as work:
                work.put_aside = False
                return self.pages.of_clip(work, key, None) if work.is_open else empty_page()
        with self.store.using(key) as work:
            work.take(opened, models)
            for note in opened.clip.notes:
                gr.Warning(plain_words(note), title="About this video")
            return self.pages.of_clip(work, key, None)

    def _go(self, key: str, find: Callable[[VideoWork], int]) -> Page:
        def act(work: VideoWork) -> None:
            work.playing = False
            if work.busy:
                work.follows = False  # the visitor looks elsewhere
            if work.go_to(find(work)):
                gr.Warning("The box was half drawn and is gone: both corners belong on one frame.")

        return self._step(key, act, while_tracking=True)

    def _with_number(
        self, key: str, event: gr.EventData, act: Callable[[VideoWork, int], None], *, while_tracking: bool = False
    ) -> Page:
        """A step about the object that an event names."""
        number = number_in(event)
        if number is None:
            return Page()
        return self._step(key, lambda work: act(work, number), while_tracking=while_tracking)

    def _step(
        self,
        key: str,
        act: Callable[[VideoWork], str | None],
        *,
        show: Callable[[VideoWork, str, str | None], Page] | None = None,
        while_tracking: bool = False,
    ) -> Page:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            if not work.is_open:
                gr.Warning("Choose a video first.")
                return empty_page()
            hint = None
            work.writing.forget_ended()
            if work.busy and not while_tracking:
                gr.Warning(RUNNING)
            else:
                try:
                    hint = act(work)
                except ERRORS as error:
                    gr.Warning(plain_words(error))
            return (show or self.pages.of_step)(work, key, hint)


def _read_session(work: VideoWork, path: Path) -> tuple[VideoSession, bool]:
    """A session and whether it is a draft: the file fits one model or the other."""
    models = work.open_models
    problem: Exception | None = None
    for draft in (False, True) if models.has_draft else (False,):
        try:
            return models.predictor(draft=draft).load(path, work.whole), draft
        except (ValueError, OSError) as error:
            problem = problem or error
    raise ValueError(plain_words(problem))
