"""The list of objects beside the picture: a thumbnail, the name, how sure the model is; pick, rename, remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np

from sam2kit.media.drawing import PALETTE, colour_of
from sam2kit.ui.surface_messages import jpeg_url
from sam2kit.ui.views import scaled

_SIDE = 52  # pixels of a thumbnail
_MARGIN = 0.12  # of the object's box, around it


@dataclass(frozen=True)
class ListedObject:
    """One row."""

    number: int
    name: str
    note: str = ""  # such as "sure 93%"
    picture: str = ""  # URL of the thumbnail


def list_message(rows: Sequence[ListedObject], active: int) -> dict[str, Any]:
    """The list's value."""
    return {
        "active": active,
        "rows": [
            {
                "number": row.number,
                "name": row.name,
                "note": row.note,
                "picture": row.picture,
                "colour": PALETTE[row.number % len(PALETTE)],
            }
            for row in rows
        ],
    }


def thumbnail_of(view: np.ndarray, mask: np.ndarray, number: int) -> str:
    """URL of a small picture of an object, the ground faded into its colour; "" if the mask is empty.

    Args:
        view: uint8 [H, W, 3].
        mask: bool [H, W].
    """
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return ""
    reach = round(max(width, height) * (0.5 + _MARGIN)) + 1
    x0, y0 = x + width // 2 - reach, y + height // 2 - reach
    rows = slice(max(y0, 0), y0 + 2 * reach)
    columns = slice(max(x0, 0), x0 + 2 * reach)
    part = view[rows, columns]
    faded = (part * 0.35 + np.array(colour_of(number)) * 0.65).astype(np.uint8)
    shown = np.where(mask[rows, columns, None], part, faded)
    return jpeg_url(scaled(shown, _SIDE), 80)


def object_list(name: str) -> gr.HTML:
    """The component; its value is a `list_message`, its events are `pick`, `rename` and `drop`."""
    return gr.HTML(
        value=None,
        html_template='<div class="sk-objects"></div>',
        js_on_load=_script(),
        elem_id=name,
        label="Objects",
        apply_default_css=False,
    )


def number_in(event: gr.EventData) -> int | None:
    """The object's number that an event names; None if it names none."""
    data = event._data if isinstance(event._data, dict) else {}
    number = data.get("number")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def name_in(event: gr.EventData) -> str:
    """The name that an event brings; "" if it brings none."""
    data = event._data if isinstance(event._data, dict) else {}
    return data["name"] if isinstance(data.get("name"), str) else ""


@cache
def _script() -> str:
    return (Path(__file__).parent / "object_list.js").read_text()
