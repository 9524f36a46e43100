"""What the Video tab does, but for tracking and downloads: handlers, plain values in and updates out.

Gradio holds only the visitor's key; the work is in the session store. The layout is in video_layout.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from sam2kit.predict.session import VideoSession
from sam2kit.ui.health import frame_at_share, next_trouble
from sam2kit.ui.opened_clip import open_video
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ADD, BOX, REMOVE, plain_words
from sam2kit.ui.video_models import VideoModels
from sam2kit.ui.video_page import (
    RUNNING,
    SKIP,
    Page,
    empty_page,
    page_of_clip,
    page_of_objects,
    page_of_step,
)
from sam2kit.ui.video_saving import VideoSaving
from sam2kit.ui.video_tracking import VideoTracking
from sam2kit.ui.video_view import to_clip
from sam2kit.ui.video_work import VideoWork

HINTS = {
    ADD: "Click on the thing you want, on any frame; then press Track.",
    REMOVE: "Click where the mask should not be.",
    BOX: "Click two opposite corners around the thing.",
}


@dataclass
class VideoTab:
    """What the handlers need: the models, the visitors' work, the example clips."""

    models: VideoModels
    store: SessionStore[VideoWork]
    examples: list[Path]
    tracking: VideoTracking = field(init=False)
    saving: VideoSaving = field(init=False)

    def __post_init__(self) -> None:
        self.tracking = VideoTracking(self.models, self.store)
        self.saving = VideoSaving(self.models, self.store)

    # the clip

    def open_upload(self, key: str, source: str | Path | None) -> Page:
        """Show an uploaded video."""
        return self._open(key, source, uploaded=True) if source else empty_page()

    def open_example(self, index: int, key: str) -> Page:
        """Show one of the example clips."""
        return self._open(key, self.examples[index], uploaded=False)

    def open_session(self, key: str, source: str | Path) -> Page:
        """Go on with a session file; its clip is open."""

        def act(work: VideoWork) -> str:
            session, work.draft = self._read_session(work, Path(source))
            work.adopt(session)
            left = " Press Go on to track the rest." if session.plan else ""
            return f"The session is open: {len(work.objects.names)} objects.{left}"

        return self._step(key, act, show=page_of_clip)

    def start_over(self, key: str) -> Page:
        """Show the upload again; the clip stays open until another comes."""
        self.store.cancelled(key).set()
        return empty_page()

    def take_part(self, key: str, first: float | None, last: float | None, every: float | None) -> Page:
        """Work on frames first ... last of the whole clip, each n-th one."""

        def act(work: VideoWork) -> str:
            start, end, step = (int(v) if v is not None else -1 for v in (first, last, every))
            if not 0 <= start <= end < len(work.whole) or step < 1:
                raise ValueError(f"give frames from 0 to {len(work.whole) - 1}, first before last, and every 1, 2, …")
            lost = work.take_part(self.models.predictor(draft=work.draft), start, end + 1, step)
            kept = f"Now working on {len(work.part)} of {len(work.whole)} frames."
            if not lost:
                return kept
            frames = ", ".join(map(str, lost))
            return f"{kept} Left out, until “All frames”, are the prompts on: {frames}."

        return self._step(key, act, show=page_of_clip)

    def take_all(self, key: str) -> Page:
        """Work on the whole clip again."""
        with self.store.using(key) as work:
            last = len(work.whole) - 1 if work.is_open else 0
        return self.take_part(key, 0, last, 1)

    def change_model(self, key: str, draft: bool) -> Page:
        """Take the draft model, or the full one again."""

        def act(work: VideoWork) -> str:
            work.change_model(self.models.predictor(draft=draft), draft=draft)
            return "Draft: quicker and coarser. Press Track." if draft else "Full quality again. Press Track."

        return self._step(key, act, show=page_of_clip)

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
        """Go to where the next doubtful or lost stretch begins."""

        def find(work: VideoWork) -> int:
            found = next_trouble(list(work.states().values()), work.frame)
            if found is None:
                gr.Info("Nothing looks doubtful.")
            return work.frame if found is None else found

        return self._go(key, find)

    def show_effect(self, key: str, effect: str, previews: bool) -> Page:
        """Show the frame as the effect makes it, or with prompts."""

        def act(work: VideoWork) -> None:
            work.effect, work.previews = effect, previews

        return self._step(key, act, while_tracking=True)

    # prompts and objects

    def click(self, key: str, mode: str, event: gr.SelectData) -> Page:
        """A click on the frame: a prompt, or a corner of a box."""

        def act(work: VideoWork) -> str:
            work.previews = False
            xy = to_clip(work, event.index)
            if mode == BOX:
                work.draw_corner(self.models.predictor(draft=work.draft), xy)
                return "Now click the opposite corner." if work.corner else HINTS[ADD]
            work.click(self.models.predictor(draft=work.draft), xy, positive=mode != REMOVE)
            return HINTS[mode]

        return self._step(key, act)

    def change_mode(self, mode: str) -> str:
        """Say what the next click will do."""
        return HINTS[mode]

    def undo(self, key: str) -> Page:
        """Take back the last prompt."""
        return self._step(key, lambda work: work.undo(), show=page_of_objects)

    def clear_frame(self, key: str) -> Page:
        """Take back the active object's prompts on this frame."""
        return self._step(key, lambda work: work.clear_frame())

    def add_object(self, key: str) -> Page:
        """Begin another object."""
        return self._step(key, lambda work: work.add_object(), show=page_of_objects)

    def select(self, key: str, number: int | None) -> Page:
        """Work on another object."""
        return self._step(
            key,
            lambda work: work.select(number) if number is not None else None,
            show=page_of_objects,
            while_tracking=True,
        )

    def rename(self, key: str, number: int | None, name: str) -> Page:
        """Name an object: the one that was chosen when the name was written."""
        return self._step(
            key, lambda work: work.objects.rename(number, name), show=page_of_objects, while_tracking=True
        )

    def remove_object(self, key: str) -> Page:
        """Forget the active object."""
        return self._step(key, lambda work: work.remove_object(), show=page_of_objects)

    def leave(self, key: str) -> None:
        """Forget a visitor's work and delete the files."""
        self.store.drop(key)

    # inside

    def _open(self, key: str, source: str | Path, *, uploaded: bool) -> Page:
        self.store.cancelled(key).set()
        try:
            opened = open_video(source, uploaded=uploaded)
        except (ValueError, OSError) as error:
            gr.Warning(plain_words(error), title="This video cannot be used")
            with self.store.using(key) as work:
                return page_of_clip(work, None) if work.is_open else empty_page()
        with self.store.using(key) as work:
            work.take(opened, self.models.predictor())
            for note in opened.clip.notes:
                gr.Warning(plain_words(note), title="About this video")
            return page_of_clip(work, HINTS[ADD])

    def _read_session(self, work: VideoWork, path: Path) -> tuple[VideoSession, bool]:
        """A session and whether it is a draft: the file fits one model or the other."""
        problem: Exception | None = None
        for draft in (False, True) if self.models.has_draft else (False,):
            try:
                return self.models.predictor(draft=draft).load(path, work.whole), draft
            except (ValueError, OSError) as error:
                problem = problem or error
        raise ValueError(plain_words(problem))

    def _go(self, key: str, find: Callable[[VideoWork], int]) -> Page:
        def act(work: VideoWork) -> None:
            if work.busy:
                work.follows = False  # the visitor looks elsewhere
            if work.go_to(find(work)):
                gr.Warning("The box was half drawn and is gone: both corners belong on one frame.")

        return self._step(key, act, while_tracking=True)

    def _step(
        self,
        key: str,
        act: Callable[[VideoWork], str | None],
        *,
        show: Callable[[VideoWork, str | None], Page] = page_of_step,
        while_tracking: bool = False,
    ) -> Page:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            if not work.is_open:
                gr.Warning("Choose a video first.")
                return empty_page()
            hint = None
            if work.busy and not while_tracking:
                gr.Warning(RUNNING)
            else:
                try:
                    hint = act(work)
                except ValueError as error:
                    gr.Warning(plain_words(error))
            return show(work, hint)
