"""The list of objects beside the picture: a thumbnail, the name, how sure the model is; object_list.js shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sam2kit.clicking.messages import jpeg_url
from sam2kit.clicking.views import scaled
from sam2kit.media.drawing import PALETTE, colour_of

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
