"""Prompts as people write them down: a list of plain dicts, from a JSON file or a request.

    [{"frame": 0, "object": "cup", "points": [[150, 215]], "labels": [1]}, {"object": 2, "box": [10, 20, 80, 90]}]

`frame` is 0 and `object` 1 where they are left out; labels are all 1. Coordinates are pixels of the picture or clip.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.files import check_file, read_json
from sam2kit.media.pictures import open_image
from sam2kit.predict.session import FramePrompt

PlacedPrompt = tuple[int, Hashable, FramePrompt]  # frame, object id, prompt


def read_prompts(path: Path) -> list[PlacedPrompt]:
    """A JSON list of {"frame", "object", "points", "labels", "box", "mask"}; files of masks lie beside it.

    Raises:
        ValueError: if it is not such a list.
    """
    return prompts_of(read_json(path), str(path), path.parent)


def prompts_of(entries: Any, where: str, folder: Path) -> list[PlacedPrompt]:
    """Such a list that was read already.

    Args:
        where: what it is called in an error.
        folder: holds the files of masks.
    Raises:
        ValueError: if it is not such a list.
    """
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f'{where} must hold a list of {{"frame": 0, "object": 1, "points": [[x, y]]}}')
    return [prompt_of(e, f"entry {i} of {where}", folder) for i, e in enumerate(entries)]


def prompt_of(entry: dict[str, Any], where: str, folder: Path | None) -> PlacedPrompt:
    """One entry of such a list.

    Args:
        where: what it is called in an error.
        folder: holds the files of masks; None where no files may be named.
    Raises:
        ValueError: if it cannot be read as a prompt.
    """
    if folder is None and entry.get("mask") is not None:
        raise ValueError(f"{where} has a mask, which cannot be given here; give points or a box")
    try:
        frame, name = int(entry.get("frame", 0)), str(entry.get("object", 1))
        object_id: Hashable = int(name) if re.fullmatch("-?[0-9]+", name) else name
        points = np.array(entry.get("points") or [], np.float32).reshape(-1, 2)
        mask = None
        if folder is not None and entry.get("mask"):
            mask = _mask_of(folder / str(entry["mask"]))
        prompt = FramePrompt(points, np.array(entry.get("labels", [1] * len(points))), entry.get("box"), mask)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{where} cannot be read as a prompt ({error})") from error
    if prompt.is_empty:
        raise ValueError(f"{where} has neither a point nor a box nor a mask")
    if mask is not None and (len(points) or prompt.box_xyxy is not None):
        raise ValueError(f"{where} has a mask and something else; give one or the other")
    return frame, object_id, prompt


def _mask_of(path: Path) -> np.ndarray:
    """bool [H, W]: what is lighter than the middle."""
    check_file(path, "mask")
    try:
        with open_image(path) as image:
            return np.array(image.convert("L")) > 127
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no picture of a mask that can be read") from error
