"""The files of requests: what a client uploaded, and a place for what it gets back.

Results lie in Gradio's cache, from where Gradio serves them and deletes them after the hour that layout.py says, in a
folder with a name that nobody can guess.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from sam2kit.media.drawing import colour_of
from sam2kit.media.exports import NamedMask
from sam2kit.ui.limits import Limits


def uploaded(file: Any, limits: Limits) -> tuple[Path, str]:
    """Where an upload lies, and what it was called.

    Args:
        file: what a client sent in place of a file: anything, so nothing else on this machine may be named by it.
        limits: what is taken.
    Raises:
        ValueError: if it is no upload, or too large.
    """
    given = file if isinstance(file, dict) else {}
    path, cache = Path(str(given.get("path"))).resolve(), Path(get_upload_folder()).resolve()
    if not path.is_relative_to(cache) or not path.is_file():
        raise ValueError("a file is needed; with gradio_client, give handle_file(path or address)")
    name = Path(str(given.get("orig_name") or path.name)).name
    limits.check_upload(path, name)
    return path, name


@contextmanager
def result_folder() -> Iterator[Path]:
    """A folder for the files of one answer; if there is no answer, there is no folder."""
    folder = Path(get_upload_folder()) / secrets.token_urlsafe(24)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def served(path: Path) -> dict[str, Any]:
    """A file of a result folder, as Gradio wants to be told of it."""
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()


def label_image(objects: Sequence[NamedMask], size_hw: tuple[int, int]) -> Image.Image:
    """A picture whose pixels are the numbers of the objects, from 1; where they overlap, the smaller one is on top.

    8-bit with a palette, or 16-bit grey if there are more than 255 objects.
    """
    labels = np.zeros(size_hw, np.uint8 if len(objects) < 256 else np.uint16)
    for number, item in sorted(enumerate(objects, start=1), key=lambda each: -each[1].area):
        labels[item.mask] = number
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette([0, 0, 0, *(channel for i in range(len(objects)) for channel in colour_of(i))])
    return image
