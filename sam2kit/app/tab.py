"""What the Image and the Video tab do: handlers, plain values in and updates out. Both are this component, on different
files; the layout is in tab_layout.py, what takes long in jobs.py, what is handed out in downloads.py.

Gradio holds only the visitor's key; the work is in the store. Clicks come in through `ask` and `preview`, past Gradio's
queue; everything else is an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from sam2kit.app.canvas import PromptRequest, number_in, refusal, stale
from sam2kit.app.components import ERRORS, as_warning, plain_words, sent_with
from sam2kit.app.downloads import Downloads
from sam2kit.app.editor import GESTURES, Editor
from sam2kit.app.jobs import Jobs
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel, Models
from sam2kit.app.page import (
    GONE,
    MASK_OPTIONS,
    RUNNING,
    SKIP,
    Page,
    empty_page,
    page_beside,
    page_of_file,
    page_of_step,
    view_update,
)
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore
from sam2kit.app.timeline import place_at_share
from sam2kit.app.work import OpenedFile, Workspace, open_picture, open_video
from sam2kit.data.label_images import read_label_image
from sam2kit.data.sample import counted
from sam2kit.media.effects import combined, parts_of
from sam2kit.predict.options import CAREFUL
from sam2kit.predict.session import Session
from sam2kit.predict.session_file import is_picture_session
from sam2kit.predict.tracking_quality import next_trouble

_PATIENCE = 20.0  # seconds, for a frame that is being tracked
AnyWork = TypeVar("AnyWork")

# what the buttons do with an editor
EDITS: dict[str, Callable[[Editor], object]] = {
    "new": Editor.new_object, "undo": Editor.undo, "clear_frame": Editor.clear_frame, "clear": Editor.clear,
}  # fmt: skip
_WHILE_TRACKING = ("pick", "rename")


def answer_request(
    sent: Any,
    entering: Callable[[PromptRequest], AbstractContextManager[AnyWork | None]],
    act: Callable[[AnyWork, PromptRequest], dict[str, Any]],
) -> dict[str, Any]:
    """Carry out a request of the canvas, as it was sent, on its visitor's work; every tab's requests come through here.

    What goes wrong becomes an answer that says so, as this goes past Gradio. `entering` takes the work's lock; it gives
    None where the request is overtaken, or may be left out.
    """
    try:
        request = PromptRequest.read(sent)
        with entering(request) as work:
            return stale() if work is None else act(work, request)
    except KeyError:
        return refusal(GONE)
    except ERRORS as error:
        return refusal(plain_words(error))


@dataclass
class ClickTab:
    """A tab with a picture or a clip: what the handlers need."""

    name: str  # "image" or "video"
    models: Models
    store: TabStore[Workspace]
    examples: list[Path]
    limits: Limits = field(default_factory=Limits)
    queue: FairQueue = field(default_factory=FairQueue)  # one long job at a time

    def __post_init__(self) -> None:
        self.is_video = self.name == "video"
        self.jobs = Jobs(self.name, self.models, self.store, self.queue)
        self.downloads = Downloads(self.store)

    # clicks

    def ask(self, sent: Any) -> dict[str, Any]:
        """All prompts of an object on the frame that is shown, as the canvas sends them; what the page shows then."""
        return answer_request(sent, lambda request: self.store.newest(request.key, request.sequence), self._answer)

    def _answer(self, work: Workspace, request: PromptRequest) -> dict[str, Any]:
        if work.busy:
            raise ValueError(RUNNING)
        if not work.is_open:
            raise ValueError("open a video first" if self.is_video else "open a photo first")
        work.playing = False
        answer = work.editor.answer(request)
        hid_prompts, work.previews = work.previews, False
        page = page_beside(work)
        if hid_prompts:
            page = page._replace(view=view_update(work, request.key))
        to_measure = self.is_video and work.prompted_objects and work.prompted_objects not in work.seconds
        return answer | {"page": page.following, "measure": bool(to_measure)}

    def preview(self, sent: Any) -> dict[str, Any]:
        """The mask that a click would give; left out while the model is busy, or the visitor's work is in use."""

        def act(work: Workspace, request: PromptRequest) -> dict[str, Any]:
            return stale() if not work.is_open or work.busy or work.previews else work.editor.preview(request)

        busy = self.models.are_busy
        return answer_request(sent, lambda r: nullcontext() if busy else self.store.if_free(r.key), act)

    # the file

    def open_upload(self, key: str, source: str | Path | None) -> Page:
        """Show an uploaded photo or video."""
        return self._open(key, Path(source), uploaded=True) if source else empty_page(self.name)

    def open_example(self, index: int, key: str) -> Page:
        """Show one of the examples; anything may be sent in place of its number."""
        if index not in range(len(self.examples)):
            raise gr.Error(f"There is no example {index!r:.20}.", print_exception=False)
        return self._open(key, self.examples[int(index)], uploaded=False)

    def _open(self, key: str, source: Path, *, uploaded: bool) -> Page:
        if self.is_video:
            return self._take(key, lambda: (open_video(source, self.limits, uploaded=uploaded), None))
        return self._take(key, lambda: (open_picture(source, self.limits), None))

    def open_session(self, key: str, source: str | Path) -> Page:
        """Go on with a session file: of a picture, which is in it, or of the clip that is open."""
        if self.is_video:
            self.jobs.stop(key)
            return self._step(key, lambda work: _adopt_session(work, Path(source)), show=page_of_file)

        def opened() -> tuple[OpenedFile, Session]:
            path = Path(source)
            if not is_picture_session(path):
                raise ValueError(
                    f"{path.name} is a session of a video: open the video in the Video tab, then the session there"
                )
            session = Session.load(path)
            self.limits.check_picture(session.clip.size_hw, session.file_name)
            return OpenedFile(session.clip, session.file_name), session

        return self._take(key, opened)

    def _take(self, key: str, open_it: Callable[[], tuple[OpenedFile, Session | None]]) -> Page:
        """Show another file, perhaps with a session of it; what is open stays open if it cannot be used."""
        self.jobs.stop(key)
        model = self.models.of(key)
        try:
            opened, session = open_it()
        except ERRORS as error:
            gr.Warning(plain_words(error), title="This file cannot be used")
            with self.store.using(key) as work:
                work.put_aside = False
                return page_of_file(work, key) if work.is_open else empty_page(self.name)
        with self.store.using(key) as work:
            work.take(opened, model, session)
            hint = None if session is None else _about_session(session, model)
            if not self.is_video:
                with as_warning():  # a click will try again
                    work.editor.encode()
                hint = f"Scientific picture: {opened.notes[0]}." if opened.notes else hint
            for note in opened.notes if self.is_video else ():
                gr.Warning(plain_words(note), title="About this video")
            return page_of_file(work, key, hint)

    def bring_back(self, key: str) -> Page:
        """The work, on a page that was loaded again; once the tracking that the old page watched has stopped."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            with self.store.still(key) as work:
                if work is None or not work.is_open:
                    return Page()
                if not work.busy or time.monotonic() > deadline:
                    work.playing = work.previews = work.put_aside = False
                    effect, ground = parts_of(work.effect)
                    return page_of_file(work, key)._replace(effect=effect, ground=ground)
            time.sleep(0.05)

    def start_over(self, key: str) -> Page:
        """Show the upload again; what is open stays so until another file comes."""
        self.jobs.stop(key)
        with self.store.using(key) as work:
            work.playing, work.put_aside = False, True
        return empty_page(self.name)

    def take_part(self, key: str, first: float | None, last: float | None, every: float | None) -> Page:
        """Work on frames first ... last of the clip, each n-th one; a last one of -1 is the end."""

        def act(work: Workspace) -> str:
            most = len(work.session.clip) - 1
            start, end, step = (int(v) if v is not None else -2 for v in (first, last, every))
            end = most if end == -1 else end
            if not 0 <= start <= end <= most or step < 1:
                raise ValueError(f"give frames from 0 to {most}, first before last, and every 1, 2, …")
            left_out = work.editor.work_on(range(start, end + 1, step))
            work.warned = False
            kept = f"Now working on {len(work.session.frames)} of {most + 1} frames."
            frames = ", ".join(map(str, left_out))
            return f"{kept} Left out, until “All frames”, are the prompts on: {frames}." if left_out else kept

        return self._step(key, act, show=page_of_file)

    def take_draft(self, key: str, draft: bool) -> Page:
        """Take the draft model, or the full one again."""

        def act(work: Workspace) -> str:
            work.change_model(work.model, draft=draft)
            return "Draft: quicker and coarser. Press Track." if draft else "Full quality again. Press Track."

        return self._step(key, act, show=page_of_file)

    def change_model(self, key: str) -> Page:
        """Another model answers from now on: masks of a picture stay, prompts of a clip are asked again."""
        model = self.models.of(key)
        with self.store.using(key) as work:
            if not work.is_open or work.model is model:
                return Page()
            if work.busy:
                gr.Warning("Tracking goes on with the model that it began with; choose again when it has ended.")
                return Page()

        def act(work: Workspace) -> str:
            work.change_model(model)
            if work.session.is_picture:
                return "New clicks are answered by the model that you chose."
            return "The model that you chose has answered all prompts; press Track."

        return self._step(key, act, show=page_of_file)

    # frames

    def show_frame(self, key: str, frame: float | None) -> Page:
        """The slider was moved; it is not moved back."""
        return self._go(key, lambda work: work.editor.frame if frame is None else frame)._replace(slider=SKIP)

    def step_frame(self, key: str, by: int) -> Page:
        """Some frames on or back."""
        return self._go(key, lambda work: work.editor.frame + by * work.session.frames.step)

    def jump(self, key: str, event: gr.EventData) -> Page:
        """A click on the timeline, on a row or on a button that goes where help is needed."""
        sent = sent_with(event)
        if "number" in sent:
            return self._go(key, partial(_help_wanted, number=number_in(sent), place=number_in(sent, "place")))
        share = sent.get("share")
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            return Page()
        return self._go(key, lambda work: work.session.frames[place_at_share(share, len(work.session.frames))])

    def next_uncertain(self, key: str) -> Page:
        """Go to where the next uncertain or lost stretch begins."""

        def find(work: Workspace) -> int:
            frames, here = work.session.frames, work.editor.frame
            found = next_trouble(list(work.states().values()), frames.index(here))
            if found is None:
                gr.Info("No frame is uncertain or lost.")
            return here if found is None else frames[found]

        return self._go(key, find)

    def _go(self, key: str, find: Callable[[Workspace], float]) -> Page:
        def act(work: Workspace) -> None:
            work.playing = False
            if work.busy:
                work.follows = False  # the visitor looks elsewhere
            work.editor.go_to(find(work))

        return self._step(key, act, while_tracking=True)

    def show_effect(self, key: str, objects: str, background: str, previews: bool) -> Page:
        """Show the frame as the effects make it, or with prompts."""

        def act(work: Workspace) -> None:
            work.effect, work.previews = combined(objects, background), previews

        return self._step(key, act, while_tracking=True)

    def clean(self, key: str, careful: bool, *values: Any) -> Page:
        """Show all masks as these values of MASK_OPTIONS have it; and let later tracking choose memories carefully."""

        def act(work: Workspace) -> str | None:
            selection = CAREFUL if careful else "latest"
            changes = selection != work.session.options.memory_selection
            work.clean(memory_selection=selection, **dict(zip(MASK_OPTIONS, values, strict=True)))
            return "Press Track again: memories are chosen otherwise now." if changes and work.is_tracked else None

        return self._step(key, act, while_tracking=True)

    def take_masks(self, key: str, source: str) -> Page:
        """Take the masks in a picture file as prompts on the frame that is shown: one object for each number or colour
        in it; the first is the chosen object's, if that has nothing there yet."""

        def act(work: Workspace) -> str | None:
            session, frame, labels = work.session, work.editor.frame, read_label_image(Path(source))
            (height, width), size_hw = session.clip.size_hw, labels.ids.shape
            numbers = labels.numbers()
            if size_hw != (height, width) or not numbers:
                came = f"is {size_hw[1]}x{size_hw[0]}" if numbers else "holds no mask"
                raise ValueError(f"this file {came}; a mask picture of {width}x{height} pixels was expected")
            session.check_room(len(numbers))
            for place, number in enumerate(numbers):
                is_free = place == 0 and work.editor.active.result(frame) is None
                object_id = session.active if is_free and session.active is not None else session.next_id()
                work.predictor.add_mask(session, frame, object_id, labels.ids == number)
            return f"{counted(len(numbers), 'mask')} taken from the file."

        return self._step(key, act)

    # objects

    def edit(self, key: str, what: str) -> Page:
        """Do one of EDITS."""

        def act(work: Workspace) -> str | None:
            EDITS[what](work.editor)
            return "All objects are gone; Undo brings them back." if what == "clear" and self.is_video else None

        return self._step(key, act)

    def gesture(self, key: str, what: str, event: gr.EventData) -> Page:
        """Do one of GESTURES; what is no event changes nothing."""

        def act(work: Workspace) -> None:
            GESTURES[what](work.editor, sent_with(event))

        return self._step(key, act, while_tracking=what in _WHILE_TRACKING)

    def _step(
        self,
        key: str,
        act: Callable[[Workspace], str | None],
        *,
        show: Callable[[Workspace, str, str | None], Page] = page_of_step,
        while_tracking: bool = False,
    ) -> Page:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            if not work.is_open:
                gr.Warning(f"Choose a {'video' if self.is_video else 'photo'} first.")
                return empty_page(self.name)
            hint = None
            work.writing.forget_ended()
            if work.busy and not while_tracking:
                gr.Warning(RUNNING)
            else:
                with as_warning():
                    hint = act(work)
            return show(work, key, hint)


def _help_wanted(work: Workspace, number: int, place: int) -> int:
    """The frame of a place, with that object active."""
    work.editor.select(number)
    frames = work.session.frames
    return frames[min(max(place, 0), len(frames) - 1)]


def _about_session(session: Session, model: LoadedModel) -> str:
    if session.config != model.predictor.model.config:
        return "The session is open. Another model made its masks; new clicks are answered by this one."
    return f"The session is open: {sum(not item.is_empty for item in session.objects.values())} objects."


def _adopt_session(work: Workspace, path: Path) -> str:
    """Go on with a session of the open clip; the file fits the full model or the draft."""
    if is_picture_session(path):
        raise ValueError(f"{path.name} is a session of a picture: open it in the Image tab")
    problem: Exception | None = None
    for draft in (False, True) if work.model.has_draft else (False,):
        predictor = work.model.draft if draft else work.model.predictor
        try:
            session = predictor.load(path, work.file.clip)
        except (ValueError, OSError) as error:
            problem = problem or error
            continue
        work.adopt(session, draft=draft)
        left = " Press Go on to track the rest." if session.plan else ""
        return f"The session is open: {len(session.objects)} objects.{left}"
    raise ValueError(plain_words(problem))
