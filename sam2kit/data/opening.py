"""`open_dataset`: finds out in which format somebody keeps pictures or clips with true masks.

The formats that are surest to recognise are tried first; picture and mask folders last, because they only need names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from os import PathLike
from pathlib import Path

from sam2kit.data import coco, frame_folders, mask_folders, picture_json, sav, sessions, yolo
from sam2kit.data.layouts import IMAGE_FOLDERS, MASK_FOLDERS, folders_in, json_of_kind
from sam2kit.data.sample import Dataset
from sam2kit.data.stored import pictures_in
from sam2kit.files import check_file

_LOOKED_AT = 20  # folders in which something is looked for that may have been meant


@dataclass(frozen=True)
class Format:
    """A way of keeping data."""

    looks_for: str  # in words, for messages
    open: Callable[..., Dataset]
    recognises: Callable[[Path], bool] | None = None  # None: by a JSON of this kind
    has_parts: bool = False  # whether connected parts of its masks can be objects of their own


FORMATS = {
    "sav": Format("SA-V JSON (clip.mp4 with clip_manual.json)", sav.open_sav),
    "coco": Format("COCO JSON", coco.open_coco),
    "sa1b": Format("SA-1B or Roboflow JSON (one per picture)", picture_json.open_sa1b),
    "labelme": Format("LabelMe JSON (one per picture)", picture_json.open_labelme),
    "voc": Format(
        "Pascal VOC (JPEGImages, SegmentationObject)", mask_folders.open_voc, mask_folders.recognises_voc, True
    ),
    "frames": Format(
        "DAVIS or MOSE (JPEGImages/clip, Annotations/clip)", frame_folders.open_frame_folders, frame_folders.recognises
    ),
    "yolo": Format("YOLO-seg (data.yaml, or images with labels/*.txt)", yolo.open_yolo, yolo.recognises),
    "sessions": Format("sam2kit sessions (*.safetensors)", sessions.open_sessions, sessions.recognises),
    "masks": Format(
        "pictures and masks (images/ with masks/, or a_mask.png)",
        mask_folders.open_mask_folders,
        mask_folders.recognises,
        True,
    ),
}


def open_dataset(path: str | PathLike[str], *, format: str | None = None, separate_parts: bool = False) -> Dataset:
    """Open pictures or clips with true masks, whatever format they are in.

    Only lists and JSON are read; `sample.read()` reads pictures and masks.

    Args:
        path: a folder or a JSON file.
        format: one of FORMATS; None finds out.
        separate_parts: in mask pictures, every connected part is an object of its own.
    Returns:
        the dataset; `describe()` says what was found, `skipped` what cannot be used and why.
    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if no known format is there; says what was looked for.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known formats: {', '.join(FORMATS)}")
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is nothing at {path}")
    if not os.path.isdir(path):
        check_file(path, "data set")
    known = FORMATS[format] if format is not None else _format_of(path)
    if known is None:
        wanted = "; ".join(each.looks_for for each in FORMATS.values())
        text = f"{path} holds {_contents(path)}, and no format that is known. Looked for: {wanted}"
        raise ValueError(text + (f". {near}" if (near := _what_is_near(path)) else ""))
    opened = known.open(path, separate_parts=separate_parts) if known.has_parts else known.open(path)
    if format is None and not opened.samples and known is not FORMATS["sessions"]:
        saved = sessions.open_sessions(path)  # an export of ours may lie beside the session that it is of
        return saved if saved.samples else opened
    return opened


def _format_of(path: Path) -> Format | None:
    for name, known in FORMATS.items():
        if known.recognises(path) if known.recognises else json_of_kind(path, name):
            return known
    return None


def _what_is_near(path: Path) -> str | None:
    """What somebody may have meant: a folder above or below, or two folders of other names."""
    if not path.is_dir():
        return None
    above = [path.absolute().parent] if path.name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS) else []
    below = folders_in(path)[:_LOOKED_AT]
    for place in (*above, *below):
        if (known := _format_of(place)) is not None:
            return f"Did you mean {place}? It looks like {known.looks_for}"
    stems = {folder: {p.stem for p in pictures_in(folder)} for folder in below}
    for one, other in combinations(stems, 2):
        if len(both := stems[one] & stems[other]) and 2 * len(both) >= min(len(stems[one]), len(stems[other])):
            same = f"{one.name} and {other.name} hold pictures of the same names, such as {min(both)}"
            return f"Did you mean pictures and their masks? {same}; call one of them images and the other masks"
    return None


def _contents(path: Path) -> str:
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".7z"):
        return "an archive, which is to be unpacked first"
    if path.is_file():
        return f"one {path.suffix or 'nameless'} file"
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "nothing"
