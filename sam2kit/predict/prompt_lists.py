"""Prompts as people write them down: a list of plain dicts, from a JSON file or a request.

    [{"frame": 0, "object": "cup", "points": [[150, 215]], "labels": [1]}, {"object": 2, "box": [10, 20, 80, 90]}]

`frame` is 0 and `object` 1 where they are left out; labels are all 1. Coordinates are pixels of the picture or clip.
Other keys are refused: a misspelt one would put a prompt elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.files import check_file, read_json, refuse_unknown_keys
from sam2kit.media.pictures import open_image
from sam2kit.predict.prompts import FramePrompt

PlacedPrompt = tuple[int, Hashable, FramePrompt]  # frame, object id, prompt
_KEYS = ("frame", "object", "points", "labels", "box", "mask")
ALIASES = {  # what the official package and other programs call them
    "frame_idx": "frame", "frame_index": "frame", "ann_frame_idx": "frame", "frame_id": "frame",
    "obj_id": "object", "object_id": "object", "obj": "object", "id": "object", "track_id": "object", "name": "object",
    "point": "points", "point_coords": "points", "points_xy": "points", "coords": "points", "clicks": "points",
    "label": "labels", "point_labels": "labels",
    "boxes": "box", "bbox": "box", "box_xyxy": "box", "bounding_box": "box", "rect": "box",
    "masks": "mask", "mask_path": "mask", "mask_file": "mask", "segmentation": "mask",
}  # fmt: skip


def read_prompts(path: Path) -> list[PlacedPrompt]:
    """A JSON list, as above; files of masks lie beside it. A ValueError if it is not such a list."""
    return prompts_of(read_json(path), str(path), path.parent)


def prompts_of(entries: Any, where: str, folder: Path | None, *, each_alone: bool = False) -> list[PlacedPrompt]:
    """Such a list that was read already; a ValueError if it is none.

    Args:
        where: what it is called in an error.
        folder: holds the files of masks; None where no files may be named.
        each_alone: each entry is an object of its own, whatever it is called.
    """
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f'{where} must hold a list of {{"frame": 0, "object": 1, "points": [[x, y]]}}')
    placed = [prompt_of(e, f"entry {i} of {where}", folder) for i, e in enumerate(entries)]
    if not each_alone:
        refuse_lost_prompts(placed, where)
    return placed


def place_prompts(prompts: Iterable[PlacedPrompt], frames: range) -> list[PlacedPrompt]:
    """Prompts by frames of the whole clip -> by frames of a part; a ValueError if one is on none of its `frames`."""
    placed = []
    for frame, object_id, prompt in prompts:
        if frame not in frames:
            every = f", every {frames.step}" if frames.step > 1 else ""
            raise ValueError(
                f"the prompt on frame {frame} is not among the frames in use, {frames[0]} to {frames[-1]}{every} "
                "(counted from 0 in the whole clip)"
            )
        placed.append((frames.index(frame), object_id, prompt))
    return placed


def refuse_lost_prompts(prompts: Iterable[PlacedPrompt], where: str) -> None:
    """Raises ValueError if a prompt takes an earlier one's place: clicks add up, a second box or a mask does not."""
    known: dict[tuple[int, Hashable], FramePrompt] = {}
    for frame, object_id, prompt in prompts:
        before = known.get((frame, object_id))
        if before is not None:
            twice = before.box_xyxy is not None and prompt.box_xyxy is not None
            if twice or before.mask is not None or prompt.mask is not None:
                what = "two boxes" if twice else "a mask and something else"
                raise ValueError(
                    f"{where} has {what} for object {object_id} on frame {frame}, of which only one would count; "
                    'give one of them, or another "object"'
                )
            prompt = before.plus(prompt)
        known[frame, object_id] = prompt


def prompt_of(entry: dict[str, Any], where: str, folder: Path | None) -> PlacedPrompt:
    """One entry of such a list; arguments and errors as for `prompts_of`."""
    refuse_unknown_keys(entry, _KEYS, where, ALIASES)
    if folder is None and entry.get("mask") is not None:
        raise ValueError(f"{where} has a mask, which cannot be given here; give points or a box")
    try:
        frame, object_id = _whole(entry.get("frame", 0)), _whole(entry.get("object", 1))
        if type(frame) is not int:
            raise ValueError(f"its frame is {frame!r}, which is no whole number; count frames from 0")
        if type(object_id) is not int and not (isinstance(object_id, str) and object_id.strip()):
            raise ValueError(f"its object is {object_id!r}; give a whole number or a name")
        mask = _mask_of(folder / str(entry["mask"])) if folder is not None and entry.get("mask") else None
        points_xy = np.array(entry.get("points") or [], np.float32).reshape(-1, 2)
        prompt = FramePrompt(points_xy, entry.get("labels"), entry.get("box"), mask)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{where} cannot be read as a prompt ({error})") from error
    if prompt.is_empty:
        raise ValueError(f"{where} has neither a point nor a box nor a mask")
    if mask is not None and (len(prompt.points_xy) or prompt.box_xyxy is not None):
        raise ValueError(f"{where} has a mask and something else; give one or the other")
    return frame, object_id, prompt


def _whole(value: Any) -> Any:
    """Digits, and numbers such as 3.0, as int; other things as they are."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]+\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _mask_of(path: Path) -> np.ndarray:
    """bool [H, W]: what is lighter than the middle; in a palette picture, what is not background."""
    check_file(path, "mask")
    try:
        with open_image(path) as image:
            numbered = image.mode == "P"
            values = np.array(image if numbered or image.mode[0] in "1IF" else image.convert("L"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no picture of a mask that can be read") from error
    top = values.max()
    if top > 1 and (numbered or top < 64) and len(np.unique(values)) > 2:
        raise ValueError(f"{path} holds several objects, numbered up to {top}; save the one that is meant as a mask")
    return values > (0 if numbered else top / 2)
