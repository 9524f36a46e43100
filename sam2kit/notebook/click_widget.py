"""Click on things in a picture or a clip, in a notebook: the app's editor and canvas between the cells.

    widget = ClickWidget(predictor, "cup.jpg")     the canvas (anywidget), and around it buttons, a slider for the
    widget                                         frames, the list of objects (ipywidgets)
    widget.masks["Object 1"]                       what the next cell reads is what the page shows

    browser -> kernel    {id, ask | preview: a request of the canvas}, or {id, gesture: one of GESTURES, ...}
    kernel -> browser    {id, answer}: one for each; and the scene, whenever it changes

Surprise: with ipykernel 7, some messages come in the thread that runs the cells, and some in another (a "subshell"). A
lock lets one thing happen at a time. Tracking goes on between messages, so that Stop, and other cells, get their turn.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import anywidget
import ipywidgets
import numpy as np
import traitlets
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sam2kit.app.canvas import PromptRequest, canvas_css, canvas_script, jpeg_url, refusal
from sam2kit.app.editor import GESTURES, Editor, snapshot
from sam2kit.media.clips import ClipSource
from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.media.pictures import PictureSource
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.image import ImagePredictor, detections_of
from sam2kit.predict.options import CleaningOptions, VideoOptions
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.session import Session
from sam2kit.predict.video import Direction, VideoPredictor

if TYPE_CHECKING:
    import supervision

HINT = "A picture of the click widget. To click, run the notebook in JupyterLab, Notebook 7, VS Code or Colab."
_SHOWN_EVERY = 0.3  # seconds of tracking between two pictures: each of them has to travel to the browser
_ERRORS = (ValueError, LookupError, OSError, RuntimeError)  # of what people ask for; the last when a device is full
_HERE = Path(__file__).parent
_Method = TypeVar("_Method", bound=Callable[..., Any])
_WIDTH, _LINE, _LETTERS = 720, 26, 13  # pixels: of a still picture at most, of the line below it, of its letters


class ClickCanvas(anywidget.AnyWidget):
    """The canvas alone; `answer` gets what the browser asks."""

    scene = traitlets.Dict().tag(sync=True)  # see sam2kit/app/canvas.py
    label = traitlets.Unicode().tag(sync=True)  # for those who cannot see the picture
    frames = traitlets.Bool().tag(sync=True)  # whether there are several

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]], **traits: Any) -> None:
        self._esm = (
            f"{canvas_script()}\n{(_HERE / 'widget.js').read_text()}"  # the app's, and the widget's own behind it
        )
        self._css = canvas_css() + (_HERE / "widget.css").read_text()
        self._answer = answer
        super().__init__(**traits)
        self.on_msg(self._heard)

    def _heard(self, _: Any, content: Any, __: Any) -> None:
        """Answer a message, whatever it is: the page waits."""
        if not isinstance(content, dict):
            return
        answer = refusal("the kernel could not answer that; its log says why")
        try:
            answer = self._answer(content)
        except _ERRORS as error:
            answer = refusal(str(error))
        finally:
            self.send({"id": content.get("id"), "answer": answer})


def _alone(method: _Method) -> _Method:
    """A method that waits until no other thread is in one of the same widget's."""

    @wraps(method)
    def waits(self: ClickWidget, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return waits  # type: ignore[return-value]


class ClickWidget(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """A picture or a clip to click on.

    Click adds, shift-click or right click takes away, a drag is a box, the wheel zooms, `?` tells the rest; "Track"
    follows the objects of a clip through its frames.

    Args:
        predictor: answers; an `ImagePredictor` will do for pictures.
        source: whatever `VideoPredictor.open` takes, or a session to go on with; the widget works on a copy of it.
    Raises:
        ValueError, FileNotFoundError: if it cannot be opened.
    """

    def __init__(
        self, predictor: VideoPredictor | ImagePredictor, source: ClipSource | PictureSource | Session
    ) -> None:
        if isinstance(predictor, ImagePredictor):
            known = predictor.options
            cleaning = {one.name: getattr(known, one.name) for one in fields(CleaningOptions)}
            options = VideoOptions.for_pictures(**cleaning)
            predictor = VideoPredictor(predictor.model, picture_options=options, lock=predictor.lock)
        self._lock = RLock()
        session = snapshot(source) if isinstance(source, Session) else predictor.open(source)
        self._editor = Editor(session, predictor)
        self._tracking: Iterator[FrameMasks] | None = None  # while it runs
        self._rows: dict[int, _Row] = {}
        prompted = (f for item in session.objects.values() for f in item.prompts)
        self._editor.go_to(min(prompted, default=session.frames[0]))
        if session.is_picture:
            self._editor.encode()
        super().__init__(self._make_controls(session))
        self.add_class("sk-widget")
        self.refresh()

    # what the next cell wants to know

    @property
    def frame(self) -> int:
        """The frame that is shown; set it to show another."""
        return self._editor.frame

    @frame.setter
    @_alone
    def frame(self, frame: int) -> None:
        self._check_idle()
        self._editor.go_to(self._editor.session.frame_in_use(frame))
        self.refresh()

    @property
    @_alone
    def prompts(self) -> dict[str, FramePrompt]:
        """Object -> what was asked on the frame that is shown, in pixels; `session` has all others."""
        objects = self._editor.session.objects.values()
        return {item.name: item.prompts[self.frame] for item in objects if self.frame in item.prompts}

    @property
    @_alone
    def masks(self) -> dict[str, np.ndarray]:
        """Object -> bool [H, W] on the frame that is shown; `session.masks(frame)` has all others."""
        found = self._editor.session.masks(self.frame)
        return dict(zip(found.names, found.masks, strict=True))

    @property
    @_alone
    def session(self) -> Session:
        """All of it, with the objects' names as ids: a copy, to be tracked, saved, exported."""
        session = snapshot(self._editor.session)
        names = {i: item.name for i, item in session.objects.items() if not item.is_empty}
        session.objects = {name: session.objects[i] for i, name in names.items()}
        steps = (replace(step, object_ids=tuple(names[i] for i in step.object_ids)) for step in session.plan)
        session.plan, session.active = deque(steps), names.get(session.active)  # type: ignore[arg-type]
        return session

    @_alone
    def to_detections(self) -> supervision.Detections:
        """The masks on the frame that is shown as `supervision.Detections`; `data["class_name"]` holds the names."""
        found = self._editor.session.masks(self.frame)
        return detections_of(found.masks, found.predicted_iou, names=np.array(found.names, str))

    # what a cell may do as well

    @_alone
    def prompt(
        self,
        name: str,
        points_xy: ArrayLike = (),
        labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
        *,
        frame: int | None = None,
    ) -> None:
        """Let these be all prompts of an object on a frame, as if they had been clicked; a new name begins an object.

        Args:
            points_xy: [N, 2] clicks (x, y) in pixels.
            labels: [N] 1 "this", 0 "not this"; all 1 when left out.
            box_xyxy: [4] (x0, y0, x1, y1).
            frame: None means the one that is shown.
        Raises:
            ValueError, IndexError: if they cannot be used; nothing has changed then.
        """
        self._check_idle()
        editor, session = self._editor, self._editor.session
        frame = self.frame if frame is None else session.frame_in_use(frame)
        known = {item.name: object_id for object_id, item in session.objects.items()}
        empty = next((i for i, item in session.objects.items() if item.is_empty), None)
        object_id = known.get(name, session.next_id() if empty is None else empty)
        editor.predictor.set_prompts(session, frame, object_id, points_xy, labels, box_xyxy)
        session.rename(object_id, name)
        editor.go_to(frame)
        self.refresh()

    @_alone
    def track(self, direction: Direction = "both") -> None:
        """Follow all objects through the clip, as the button does.

        Raises:
            ValueError: if there is nothing to track.
        """
        tracking = self._tracking or self._begin(direction)
        try:
            for _ in tracking:
                pass
        finally:  # also when the cell is interrupted; what was tracked stays
            self._stop()

    @_alone
    def refresh(self) -> None:
        """Show what there is now; needed only after somebody else changed it."""
        self._canvas.scene = self._editor.scene(editable=self._tracking is None)
        self._refresh_controls()

    @_alone
    def still(self) -> np.ndarray:
        """The frame with all masks, and the prompts of the active object: uint8 [H, W, 3]."""
        editor = self._editor
        found = editor.session.masks(self.frame)
        colours = [editor.colour(editor.session.objects[i]) or 0 for i in found.object_ids]  # type: ignore[index]
        drawn = draw_masks(editor.session.clip.frame(self.frame), found.masks, colours)
        return draw_prompts(drawn, *editor.prompts())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; and for those who cannot show one, a picture that says so."""
        data = super()._repr_mimebundle_(**kwargs)
        picture = jpeg_url(still_picture(self.still())).partition(",")[2]
        return {**(data or {}), "text/plain": repr(self), "image/jpeg": picture}

    def __repr__(self) -> str:
        return f"ClickWidget({self._canvas.label}; objects: {', '.join(self._editor.names)})"

    # controls

    def _make_controls(self, session: Session) -> list[ipywidgets.Widget]:
        """All parts of the widget; the canvas finds buttons by their classes."""

        def button(text: str, what: str, act: Callable[[], object], tooltip: str, width: str = "auto") -> Any:
            made = ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": width})
            made.add_class(f"sk-do-{what}")
            made.on_click(lambda _: act())
            return made

        def idle(act: Callable[[], object]) -> Callable[[], None]:
            return lambda: self._act(act)

        editor, frames = self._editor, session.frames
        name = session.file_name or ("A picture" if session.is_picture else "A clip")
        self._canvas = ClickCanvas(self._answered, label=f"{name}; click on things", frames=not session.is_picture)
        self._new = button("New object", "new", idle(editor.new_object), "Begin another object (N)")
        self._undo = button("Undo", "undo", idle(editor.undo), "Take back the last step (U)")
        self._clear = button("Clear all", "clear", idle(editor.clear), "Remove all objects; undo brings them back")
        self._slider = ipywidgets.IntSlider(self.frame, frames[0], frames[-1], frames.step, description="Frame")
        self._slider.observe(lambda change: self._slide(change["new"]), "value")
        before = button("◂", "before", idle(lambda: editor.step(-1)), "Frame before", "44px")
        after = button("▸", "after", idle(lambda: editor.step(1)), "Next frame", "44px")
        self._track = button("Track", "track", self._start_or_stop, "Follow all objects through the clip (T)")
        frame_bar = ipywidgets.HBox([before, self._slider, after, self._track])
        frame_bar.layout.display = "none" if session.is_picture else "flex"
        self._list = ipywidgets.VBox(layout={"max_height": "232px", "overflow_y": "auto"})
        self._name = ipywidgets.Text(description="Name", continuous_update=False)
        self._name.observe(lambda change: self._rename(change["new"]), "value")
        self._says = ipywidgets.HTML()
        self._while_idle = [self._new, self._clear, self._slider, before, after]
        tools = ipywidgets.HBox([self._new, self._undo, self._clear])
        return [self._canvas, frame_bar, tools, self._list, self._name, self._says]

    def _refresh_controls(self) -> None:
        """The list of objects and the buttons; the picture itself stays."""
        editor, idle = self._editor, self._tracking is None
        items = editor.session.objects.values()
        self._rows = {item.number: self._rows.get(item.number) or _Row(self, item.number) for item in items}
        for item in items:
            self._rows[item.number].show(editor.shown(item), active=item is editor.active, idle=idle)
        self._list.children = list(self._rows.values())
        for control in self._while_idle:
            control.disabled = not idle
        self._undo.disabled = not idle or not editor.can_undo
        self._track.description, self._track.button_style = ("Track", "primary") if idle else ("Stop", "danger")
        self._slider.value, self._name.value = editor.frame, editor.active.name

    @_alone
    def _act(self, act: Callable[[], object], *, while_tracking: bool = False) -> None:
        """What a control does, and how that looks; mistakes get a line."""
        self._says.value = ""
        try:
            if not while_tracking:
                self._check_idle()
            act()
        except _ERRORS as error:
            self._tell(error)
        self.refresh()

    def _tell(self, error: Exception) -> None:
        self._says.value = f'<span class="sk-problem">{html.escape(str(error), quote=False)}</span>'

    def _slide(self, frame: int) -> None:
        if frame != self._editor.frame:
            self._act(lambda: self._editor.go_to(frame))

    def _rename(self, name: str) -> None:
        if name != self._editor.active.name:
            self._act(lambda: self._editor.rename(self._editor.active.number, name), while_tracking=True)

    @_alone
    def _answered(self, content: dict[str, Any]) -> dict[str, Any]:
        """What the canvas asks."""
        self._check_idle()
        self._says.value = ""
        if "preview" in content:
            return self._editor.preview(PromptRequest.read(content["preview"]))
        if "gesture" in content:
            gesture = GESTURES[content["gesture"]]
            self._act(lambda: gesture(self._editor, content))
            return {}
        answer = self._editor.answer(PromptRequest.read(content.get("ask")))
        self._refresh_controls()
        return answer

    # tracking

    def _check_idle(self) -> None:
        if self._tracking is not None:
            raise ValueError("tracking is running; Stop ends it")

    def _begin(self, direction: Direction = "both") -> Iterator[FrameMasks]:
        predictor, session = self._editor.predictor, self._editor.session
        session.plan = predictor.plan(session, None, direction)
        self._tracking = predictor.resume(session)
        return self._tracking

    @_alone
    def _start_or_stop(self) -> None:
        """Track between the messages of the kernel, or no longer."""
        if self._tracking is not None:
            self._stop()
            return
        self._act(self._begin)
        if self._tracking is not None:
            self._task = asyncio.get_running_loop().create_task(self._track_on(self._tracking))

    async def _track_on(self, tracking: Iterator[FrameMasks]) -> None:
        while self._track_for_a_moment(tracking):
            await asyncio.sleep(0.01)

    @_alone
    def _track_for_a_moment(self, tracking: Iterator[FrameMasks]) -> bool:
        """Show the frame that was reached; whether there is more to do."""
        if self._tracking is not tracking:  # it was stopped; what runs now may belong to a later press
            return False
        until = time.monotonic() + _SHOWN_EVERY
        try:
            for done in tracking:
                self._editor.go_to(done.frame_index)
                if time.monotonic() > until:
                    break
            else:
                self._tracking = None
        except _ERRORS as error:
            self._tell(error)
            self._tracking = None
        self.refresh()
        return self._tracking is not None

    def _stop(self) -> None:
        self._tracking = None
        self.refresh()


class _Row(ipywidgets.HBox):  # type: ignore[misc]
    """An object in the list: a thumbnail in its colour, its name, and a button that removes it."""

    def __init__(self, widget: ClickWidget, number: int) -> None:
        self._picture = ipywidgets.HTML()
        self._pick = ipywidgets.Button(layout={"width": "240px"})
        self._drop = ipywidgets.Button(description="✕", tooltip="Remove", layout={"width": "40px"})
        self._pick.on_click(lambda _: widget._act(lambda: widget._editor.select(number), while_tracking=True))
        self._drop.on_click(lambda _: widget._act(lambda: widget._editor.remove(number)))
        super().__init__([self._picture, self._pick, self._drop])
        self.add_class("sk-row")

    def show(self, shown: dict[str, Any], *, active: bool, idle: bool) -> None:
        """What is known of it."""
        colour = shown["colour"] or "transparent"
        source = f' src="{shown["picture"]}"' if shown["picture"] else ""
        self._picture.value = f'<img alt="" style="border-left: 6px solid {colour}"{source}>'
        self._pick.description = " · ".join(text for text in (shown["name"], shown["note"]) if text)
        self._pick.button_style = "info" if active else ""
        self._drop.disabled = not idle


def still_picture(view: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] at most 720 pixels wide, with a line below that says how to get the live widget."""
    picture = Image.fromarray(view)
    if picture.width > _WIDTH:
        picture = picture.resize((_WIDTH, round(picture.height * _WIDTH / picture.width)), Image.Resampling.LANCZOS)
    wide = ImageFont.load_default(_LETTERS).getlength(HINT)
    font = ImageFont.load_default(min(_LETTERS, max(6, int(_LETTERS * (picture.width - 12) / wide))))
    page = ImageOps.expand(picture, (0, 0, 0, _LINE), (245, 245, 245))
    ImageDraw.Draw(page).text((6, picture.height + _LINE // 2), HINT, (90, 90, 90), font, anchor="lm")
    return np.asarray(page)
