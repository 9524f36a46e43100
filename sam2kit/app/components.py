"""What the tabs are made of: the canvas with its list of objects, uploads, hidden files, errors in plain words.

The canvas shows a picture, masks and prompts, and takes every gesture:

    left click  add        right click or shift-click  remove        click on a point  delete it
    drag        box        wheel or pinch  zoom                      middle drag or two fingers  move

All of the drawing happens in the browser (canvas.js); what is said is in canvas.py. A click goes straight to `ask`,
past Gradio's queue, and its answer brings all that changes on the page: there is no second trip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from sam2kit.app.canvas import canvas_script
from sam2kit.hardware import is_out_of_memory
from sam2kit.media.clips import open_clip

# of what visitors ask for: wrong, unreadable, too much for the device, or no request of ours at all
ERRORS = (ValueError, OSError, RuntimeError, TypeError, LookupError, ArithmeticError, MemoryError)
_THUMBNAIL = 160  # pixels
_FULL = "the device has no memory left for this; wait a moment and try again, or start the app with a smaller --side"

Reply = dict[str, Any]


def click_canvas(
    ask: Callable[[Any], Reply],
    preview: Callable[[Any], Reply],
    *,
    name: str,
    label: str,
    keys: dict[str, tuple[str, str]],
    height: float = 0.64,
    below: int = 0,
) -> gr.HTML:
    """The canvas `{name}-view`; its value is a scene (see `Editor.scene`) or None.

    Its events: `answered` after each answer that was shown, if that held a "page", which `follow` takes; `measure`
    where the answer asked for it; and the GESTURES of editor.py from canvas, list of objects and candidates.

    Args:
        ask, preview: answer requests as they came, for each change of prompts and for what a click would give.
        name: of the tab; `objects_and_candidates` is to be called with the same.
        label: for those who cannot see it.
        keys: key of the keyboard -> CSS selector of what it presses, and what that does; in order, for the help text.
        height: the most that the picture takes of the window's height.
        below: pixels that are left below the picture, in windows of desktops, for what is to be seen together with it.
    """

    def ask_server(sent: Any) -> Reply:
        return ask(sent)

    def preview_server(sent: Any) -> Reply:
        return preview(sent)

    settings = {
        "name": name, "title": label, "keys": keys | _candidate_keys(name), "height": height, "below": below,
        "objects": f"#{name}-objects .sk-objects", "candidates": f"#{name}-candidates .sk-candidates",
        "masks": f"#{name}-take-masks",  # the button that takes what is dropped on the canvas, if the tab has one
    }  # fmt: skip
    return gr.HTML(
        value=None,
        label=label,
        html_template='<div class="sk-surface"></div>',
        js_on_load=(f"{canvas_script()}\nclickCanvas(element, props, server, trigger, watch, {json.dumps(settings)});"),
        server_functions=[ask_server, preview_server],
        visible=False,
        elem_id=f"{name}-view",
        apply_default_css=False,
    )


def objects_and_candidates(name: str) -> None:
    """Where the canvas of a tab shows the candidates of an ambiguous click, and the list of objects."""
    for what, hidden in (("candidates", " hidden"), ("objects", "")):
        gr.HTML(
            f'<div class="sk-{what}"{hidden}></div>', elem_id=f"{name}-{what}", label=what.capitalize(),
            apply_default_css=False, js_on_load=None,
        )  # fmt: skip


def standalone_list(name: str, noun: str) -> gr.HTML:
    """A list of something else than objects; its value is a `list_message`, its events are `pick` and `drop`."""
    return gr.HTML(
        value=None,
        html_template=f'<div class="sk-objects" data-noun="{noun}"></div>',
        js_on_load=f"{canvas_script()}\nstandaloneList(element, props, trigger, watch);",
        elem_id=name,
        label=f"{noun.capitalize()}s",
        apply_default_css=False,
    )


def follow(view: gr.HTML, name: str, parts: Sequence[gr.components.Component]) -> None:
    """After an answer, let the parts of the page take what it says of them; all in the browser."""
    script = f"() => window.sam2kit['{name}']"
    view.answered(None, None, list(parts), js=script, show_progress="hidden", api_visibility="private")


def _candidate_keys(name: str) -> dict[str, tuple[str, str]]:
    return {str(i + 1): (f"#{name}-candidates [data-candidate='{i}']", f"candidate {i + 1}") for i in range(3)}


def sent_with(event: gr.EventData) -> dict[str, Any]:
    """What an event brings; anything may be sent."""
    return event._data if isinstance(event._data, dict) else {}


class _Untouched:
    """Makes an upload component hand over the file as it came, whatever it is: our own readers open it."""

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file."""
        return None if payload is None else payload.path


class PhotoUpload(_Untouched, gr.Image):
    """An image upload that hands over the untouched file."""

    def get_block_name(self) -> str:
        """Gradio finds the front end by this name."""
        return "image"


class VideoUpload(_Untouched, gr.File):
    """An upload that hands over the untouched file."""

    def get_block_name(self) -> str:
        """Gradio finds the front end by this name."""
        return "file"


def fetched(made: Dependency, file: gr.DownloadButton) -> None:
    """Download the file that an event has made; each kind has a hidden button, so that several can be made at once."""
    script = f"(file) => {{ if (file) document.querySelector('#{file.elem_id}').click(); }}"
    made.success(None, file, None, js=script, api_visibility="private")


def hidden_file(name: str) -> gr.DownloadButton:
    """What hands a file to the browser."""
    return gr.DownloadButton(visible="hidden", elem_id=name)


def thumbnails(examples: Sequence[Path]) -> list[list[np.ndarray]]:
    """Small copies for a gallery, of a clip's middle frame, so that the page does not load every example in full."""
    small = []
    for path in examples:
        with open_clip(path) as clip:
            frame = clip.frame(len(clip) // 2)
        step = max(1, min(frame.shape[:2]) // _THUMBNAIL)
        small.append([np.ascontiguousarray(frame[::step, ::step])])
    return small


@contextmanager
def as_error() -> Iterator[None]:
    """What goes wrong inside ends the event with one sentence, instead of a traceback in the log."""
    try:
        yield
    except ERRORS as error:
        raise gr.Error(plain_words(error), print_exception=False) from error


@contextmanager
def as_warning(title: str = "Warning") -> Iterator[None]:
    """What goes wrong inside is told in passing."""
    try:
        yield
    except ERRORS as error:
        gr.Warning(plain_words(error), title=title)


def plain_words(error: Exception | str | None) -> str:
    """An error's text with file names instead of server paths."""
    if is_out_of_memory(error):
        return _FULL
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return re.sub(r"(?<![\w/.])/(?:[^\s/'\"]+/)+([^\s/'\"]*)", r"\1", " ".join(str(text).split()))


def plain_stem(name: str, otherwise: str) -> str:
    """A stem of letters and digits, with nothing that means something to a shell; `otherwise` if nothing is left."""
    return re.sub(r"[^\w-]+", "_", Path(name).stem).strip("_")[:60] or otherwise


def readable_stem(file_name: str) -> str:
    """What a person's downloads are called after: as the file was, without what could lead to another folder."""
    return re.sub(r"[^\w.-]+", " ", Path(file_name).stem).strip(" .")[:80] or "picture"


def in_words(seconds: float) -> str:
    """A time as people say it: "12 s", "4 min"."""
    if seconds < 1:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
