"""One visitor's work in a tab: a picture or a clip with its editor, its files, and what runs on it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import numpy as np

from sam2kit.app.editor import Editor
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel
from sam2kit.app.timeline import TimelineRow
from sam2kit.media.clip import Clip
from sam2kit.media.clips import open_clip
from sam2kit.media.effects import TRAIL_FRAMES, EffectPainter
from sam2kit.media.pictures import read_picture, shared_range
from sam2kit.predict.objects import ObjectId, TrackedObject
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.session import Session
from sam2kit.predict.tracking_quality import Readings, classify
from sam2kit.predict.video import Direction, VideoPredictor

_SQUARE = 16  # pixels, of the chequers behind what is transparent
_CHEQUERS = (205, 235)


def visitors_folder() -> TemporaryDirectory[str]:
    """A new folder for a visitor's files."""
    return TemporaryDirectory(prefix="sam2kit-", ignore_cleanup_errors=True)


@dataclass(frozen=True)
class OpenedFile:
    """A picture or a clip, and the visitor's folder that goes with it."""

    clip: Clip
    name: str
    notes: tuple[str, ...] = ()  # what could not be read
    upload: Path | None = None  # the uploaded copy of a video, which goes too
    folder: TemporaryDirectory[str] = field(default_factory=visitors_folder)

    @property
    def downloads(self) -> Path:
        """A folder for the visitor's files."""
        folder = Path(self.folder.name) / "downloads"
        folder.mkdir(exist_ok=True)
        return folder

    def close(self) -> None:
        """Close the clip and delete all its files."""
        self.clip.close()
        self.folder.cleanup()
        if self.upload is not None:
            _remove(self.upload)


def open_picture(path: Path, limits: Limits) -> OpenedFile:
    """Open a picture for a visitor.

    Raises:
        ValueError, FileNotFoundError: if it is no picture, or too large.
    """
    contrast = shared_range([path])
    image = read_picture(path, value_range=contrast)
    limits.check_picture(image.shape, path.name)
    notes = (contrast.note,) if contrast and contrast.note else ()
    return OpenedFile(open_clip(image), path.name, notes)


def open_video(source: Path, limits: Limits, *, uploaded: bool) -> OpenedFile:
    """Open a video for a visitor; an upload is linked into the visitor's own folder, where nobody tidies it away.

    Raises:
        ValueError, FileNotFoundError: if it is no video, or beyond a limit; nothing is left behind.
    """
    path, folder = source, visitors_folder()
    try:
        limits.check_file(source)
        if uploaded:
            path = Path(folder.name) / source.name
            try:
                os.link(source, path)
            except OSError:  # another disk
                shutil.copyfile(source, path)
        clip = limits.open_clip(path, source.name)
    except BaseException as error:
        folder.cleanup()
        if uploaded and isinstance(error, ValueError):  # no use in trying it again
            _remove(source)
        raise
    return OpenedFile(clip, source.name, tuple(clip.notes), source if uploaded else None, folder)


def _remove(upload: Path) -> None:
    with suppress(OSError):
        upload.unlink()


class Writing:
    """The downloads of one clip that are being made, or are ready since the visitor's latest step."""

    def __init__(self) -> None:
        self.stopped = Event()  # of those that are being made; set to end them
        self._lines: dict[str, tuple[bool, str]] = {}  # kind -> whether it has ended, and what is said of it

    @property
    def text(self) -> str:
        """A line for each, or what the buttons do."""
        lines = [text for _, text in sorted(self._lines.values(), key=lambda line: line[0])]
        return "  \n".join(lines) or "Each file holds all objects; several can be made at once."

    def say(self, kind: str, text: str, *, ended: bool = False) -> str:
        """Say something of one of them; returns what is to be shown."""
        if ended:
            self._lines.pop(kind, None)  # to the end of the list
        self._lines[kind] = (ended, text)
        return self.text

    def forget_ended(self) -> None:
        """Those that are ready need not be spoken of any more."""
        self._lines = {kind: line for kind, line in self._lines.items() if not line[0]}

    def stop(self) -> None:
        """End those that are being made; later ones are not meant."""
        self.stopped.set()
        self.stopped = Event()


@dataclass(eq=False)
class Workspace:
    """A picture or a clip that a visitor works on; before one is opened there is no editor, no file and no model."""

    editor: Editor = field(init=False)
    file: OpenedFile = field(init=False)
    model: LoadedModel = field(init=False)  # whose answers these are: they stay while the visitor's choice may change
    draft: bool = False  # a quicker, coarser model works on the clip
    busy: bool = False  # tracking is running
    playing: bool = False
    follows: bool = True  # the view follows the tracking
    put_aside: bool = False  # the page asks for another file; what still runs does not bring this one back
    effect: str = "overlay"
    cleaning: dict[str, Any] = field(default_factory=dict)  # what the visitor has chosen of the options for masks
    previews: bool = False  # the view shows the effect instead of the prompts
    seconds: dict[int, float] = field(default_factory=dict)  # per frame of tracking, by number of objects
    warned: bool = False  # the visitor knows that tracking takes long
    tracked_from: dict[ObjectId, frozenset[FramePrompt]] = field(default_factory=dict)  # prompts of the latest tracking
    tracked_with: str = ""  # how memories were chosen then
    writing: Writing = field(default_factory=Writing)
    _readings: Readings = field(default_factory=Readings)

    def take(self, file: OpenedFile, model: LoadedModel, session: Session | None = None) -> None:
        """Begin on a picture or a clip, or go on with a saved session of a picture; what was open is closed."""
        self.close()
        cleaning = self.cleaning if session is None else {}  # a saved session brings its own
        if session is None:
            session = model.predictor.open(file.clip)
            session.file_name = file.name
        vars(self).update(vars(Workspace(effect=self.effect, cleaning=cleaning)))
        self.editor, self.file, self.model = Editor(session, model.predictor), file, model
        self.clean()

    def adopt(self, session: Session, *, draft: bool) -> None:
        """Go on with a saved session of the open clip."""
        self.draft, self.seconds, self.cleaning = draft, {}, {}
        self.editor = Editor(session, self.predictor)
        self.tracked_from, self.tracked_with = self._all_prompts(), session.options.memory_selection
        self.editor.go_to(min((f for item in session.objects.values() for f in item.prompts), default=0))

    def close(self) -> None:
        """Close the file and delete all that belongs to the visitor."""
        self.writing.stop()
        if self.is_open:
            del self.editor
            self.file.close()

    @property
    def is_open(self) -> bool:
        """Whether there is a picture or a clip."""
        return hasattr(self, "editor")

    @property
    def session(self) -> Session:
        """The editor's session."""
        return self.editor.session

    def works_on(self, session: Session) -> bool:
        """Whether this is what is open."""
        editor = getattr(self, "editor", None)
        return editor is not None and editor.session is session

    @property
    def predictor(self) -> VideoPredictor:
        """Who answers."""
        return self.model.draft if self.draft else self.model.predictor

    def change_model(self, model: LoadedModel, *, draft: bool = False) -> None:
        """Go on with another model; see `Editor.change_model`."""
        self.model, self.draft, self.seconds, self.warned = model, draft, {}, False
        self.editor.change_model(self.predictor)
        self.clean()

    def clean(self, **chosen: Any) -> None:
        """Show masks as the visitor has chosen, now or before: these are fields of VideoOptions."""
        self.cleaning = {**self.cleaning, **chosen}
        self.editor.change_options(self.session.options.changed(**self.cleaning))

    # tracking

    def plan(self, start: int | None, direction: Direction) -> int:
        """Decide which frames will be tracked, and say how many. Raises ValueError if there is nothing to track."""
        self.session.plan = self.predictor.plan(self.session, start, direction)
        self.tracked_from, self.tracked_with = self._all_prompts(), self.session.options.memory_selection
        return len(self.session.plan)

    @property
    def prompted_objects(self) -> int:
        """How many objects can be tracked."""
        return len(self._all_prompts())

    @property
    def is_tracked(self) -> bool:
        """Whether tracking has found anything."""
        return any(self._is_tracked(item) for item in self.session.objects.values())

    @property
    def needs_tracking(self) -> bool:
        """Whether prompts or the choice of memories changed since the latest tracking, or an object was not tracked."""
        session, prompts = self.session, self._all_prompts()
        if self.is_tracked and session.options.memory_selection != self.tracked_with:
            return True
        if prompts != {i: known for i, known in self.tracked_from.items() if i in session.objects}:
            return True
        planned = {i for step in session.plan for i in step.object_ids}
        new = {i for i in prompts if not self._is_tracked(session.objects[i])}
        return len(session.frames) > 1 and bool(new - planned)

    def _is_tracked(self, item: TrackedObject) -> bool:
        return any(frame in self.session.frames for frame in item.tracked)

    def _all_prompts(self) -> dict[ObjectId, frozenset[FramePrompt]]:
        """All prompts of the objects that can be tracked; an undone step brings back the same ones."""
        objects = self.session.objects
        return {i: frozenset(item.prompts.values()) for i, item in objects.items() if self.session.conditioning(item)}

    def states(self) -> dict[ObjectId, np.ndarray]:
        """uint8 [T] tracking quality of all objects, on the frames that are worked on."""
        return {i: classify(self._readings.of(i, self.session), self.model.quality) for i in self.session.objects}

    def timeline(self) -> list[TimelineRow]:
        """The rows of the timeline."""
        colours = self.editor.colours_by_id()
        return [self._row(i, states, colours) for i, states in self.states().items()]

    def _row(self, object_id: ObjectId, states: np.ndarray, colours: dict[ObjectId, int]) -> TimelineRow:
        item, frames = self.session.objects[object_id], self.session.frames
        prompted = {frames.index(f): item.prompts[f] for f in sorted(item.prompts) if f in frames}
        known = self.tracked_from.get(object_id, frozenset())
        corrected = [place for place, prompt in prompted.items() if prompt not in known]
        colour = colours.get(object_id, item.number - 1)
        return TimelineRow(item.name, item.number, colour, states, list(prompted), corrected)

    # effects

    def painted(self) -> np.ndarray:
        """The frame that is shown as the effect makes it: uint8 [H, W, 3] at the size of the view."""
        editor, frame, frames = self.editor, self.editor.frame, self.session.frames
        colours = {self.session.objects[i].number: colour for i, colour in editor.colours_by_id().items()}
        view, feather = editor.view(), self.session.options.feather * editor.view_hw[0] / self.session.clip.size_hw[0]
        painter = EffectPainter(self.effect, colours=colours, feather=feather)
        if "trail" in painter.steps:  # it remembers the frames before
            place = frames.index(frame)
            for earlier in frames[max(0, place - TRAIL_FRAMES) : place]:
                painter.paint(view, editor.masks(earlier))
        painted = painter.paint(view, editor.masks())
        return painted if painted.shape[2] == 3 else _on_chequers(painted)


def _on_chequers(painted: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from RGBA, over the squares that mean "transparent"."""
    y, x = np.indices(painted.shape[:2]) // _SQUARE
    ground = np.array(_CHEQUERS, np.uint8)[(x + y) % 2][..., None]
    alpha = painted[..., 3:].astype(np.float32) / 255
    return (painted[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)
