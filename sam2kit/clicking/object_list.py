"""What stands beside the picture: the list of objects, and the candidates of an ambiguous click.

A thumbnail, the name and the predicted IoU of each; object_list.js and candidates.js show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sam2kit.clicking.messages import colour_code, jpeg_url, mask_png
from sam2kit.clicking.views import scaled
from sam2kit.media.drawing import colour_of

_SIDE = 52  # pixels of a thumbnail
_CANDIDATE_SIDE = 120  # pixels of a candidate's
PREDICTED_IOU = "The model's own estimate of the mask's IoU with the true one (0 to 1)"  # a tooltip
_MARGIN = 0.12  # of the object's box, around it


@dataclass(frozen=True)
class ListedObject:
    """One row."""

    number: int
    name: str
    note: str = ""  # such as "predicted IoU 0.93"
    picture: str = ""  # URL of the thumbnail
    colour: int | None = None  # see ObjectColours.of
    tooltip: str = ""  # what the note means


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
                "colour": colour_code(row.colour),
                "tooltip": row.tooltip,
            }
            for row in rows
        ],
    }


def candidates_message(
    scene: str,
    view: np.ndarray,
    number: int,
    colour: int | None,
    masks: Sequence[np.ndarray],
    predicted_iou: Sequence[float],
    chosen: int,
) -> dict[str, Any]:
    """The candidates' value; `candidates_of` fills it for a picture.

    Args:
        scene: the picture that they are of, as in `scene_message`.
        view: uint8 [H, W, 3].
        number: of the object.
        colour: its colour, see ObjectColours.of.
        masks: bool [H, W] each.
        predicted_iou: of each.
        chosen: the one that is the object's mask.
    """
    window = _window(np.logical_or.reduce(masks))
    rows = [
        {
            "picture": jpeg_url(scaled(_faded(view, mask, colour, window), _CANDIDATE_SIDE), 80) if window else "",
            "mask": mask_png(mask),
            "note": f"IoU {iou:.2f}",
            "tooltip": f"predicted IoU {iou:.2f}",
        }
        for mask, iou in zip(masks, predicted_iou, strict=True)
    ]
    return {"scene": scene, "number": number, "chosen": chosen, "rows": rows}


def thumbnail_of(view: np.ndarray, mask: np.ndarray, colour: int | None) -> str:
    """URL of a small picture of an object, the ground faded into its colour; "" if the mask is empty.

    Args:
        view: uint8 [H, W, 3].
        mask: bool [H, W].
        colour: see ObjectColours.of.
    """
    window = _window(mask)
    return jpeg_url(scaled(_faded(view, mask, colour, window), _SIDE), 80) if window else ""


def _window(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of a square around a mask, as far as it lies inside; None for an empty one."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return None
    reach = round(max(width, height) * (0.5 + _MARGIN)) + 1
    x0, y0 = x + width // 2 - reach, y + height // 2 - reach
    return slice(max(y0, 0), y0 + 2 * reach), slice(max(x0, 0), x0 + 2 * reach)


def _faded(view: np.ndarray, mask: np.ndarray, colour: int | None, window: tuple[slice, slice]) -> np.ndarray:
    part = view[window]
    faded = (part * 0.35 + np.array(colour_of(colour or 0)) * 0.65).astype(np.uint8)
    return np.where(mask[window][..., None], part, faded)
