"""What the tabs are made of: what a click means, untouched uploads, thumbnails, errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from sam2kit.errors import is_out_of_memory

ADD, REMOVE, BOX = "Add", "Remove", "Box"  # what a click on a plain picture will do
# of what visitors ask for: wrong, unreadable, too much for the device, or no request of ours at all
ERRORS = (ValueError, OSError, RuntimeError, TypeError, LookupError, ArithmeticError, MemoryError)
_THUMBNAIL = 160  # pixels
_FULL = "the device has no memory left for this; wait a moment and try again, or start the app with a smaller --side"


class Untouched:
    """Makes an upload component hand over the file as it came, whatever it is: our own readers open it."""

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file."""
        return None if payload is None else payload.path


def plain_view(label: str, name: str) -> gr.Image:
    """A picture to click on, for browsers in which the click surface does not work."""
    return gr.Image(
        label=label, format="jpeg", interactive=False, visible=False, buttons=[], elem_id=name, show_label=False
    )


def fetched(made: Dependency, file: gr.DownloadButton) -> None:
    """Once an event has made a file, download it.

    Args:
        made: the event.
        file: hidden, its output; each kind of file has one, so that several can be made at once.
    """
    script = f"(file) => {{ if (file) document.querySelector('#{file.elem_id}').click(); }}"
    made.success(None, file, None, js=script, api_visibility="private")


def hidden_file(name: str) -> gr.DownloadButton:
    """What hands a file to the browser."""
    return gr.DownloadButton(visible="hidden", elem_id=name)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A small copy, so that the page does not load every example in full."""
    step = max(1, min(image.shape[:2]) // _THUMBNAIL)
    return np.ascontiguousarray(image[::step, ::step])


def example_of(examples: Sequence[Path], index: Any) -> Path:
    """One of the examples; anything may be sent in place of its number."""
    if not isinstance(index, int) or not 0 <= index < len(examples):
        raise gr.Error(f"There is no example {index!r:.20}.", print_exception=False)
    return examples[index]


def plain_words(error: Exception | str | None) -> str:
    """An error's text with file names instead of server paths."""
    if is_out_of_memory(error):
        return _FULL
    told = error.args[0] if isinstance(error, KeyError) and error.args else error
    return re.sub(r"(?<![\w/.])/(?:[^\s/'\"]+/)+([^\s/'\"]*)", r"\1", " ".join(str(told).split()))


def plain_stem(name: str, otherwise: str) -> str:
    """A stem of letters and digits, with nothing that means something to a shell; for files that programs read.

    Args:
        otherwise: what to take if nothing is left.
    """
    return re.sub(r"[^\w-]+", "_", Path(name).stem).strip("_")[:60] or otherwise


def readable_stem(file_name: str) -> str:
    """What a person's downloads are called after: as the file was, without what could lead to another folder."""
    return re.sub(r"[^\w.-]+", " ", Path(file_name).stem).strip(" .")[:80] or "picture"
