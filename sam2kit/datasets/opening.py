"""`open_dataset`: finds out in which format somebody keeps pictures or clips with true masks.

The formats that are surest to recognise are tried first; picture and mask folders last, because they only need names.
Readers are imported when they are asked for.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from itertools import combinations
from os import PathLike
from pathlib import Path
from types import ModuleType

from sam2kit.datasets.layouts import IMAGE_FOLDERS, MASK_FOLDERS, folders_in
from sam2kit.datasets.picture_files import pictures_in
from sam2kit.datasets.samples import Dataset
from sam2kit.files import check_file

_LOOKED_AT = 20  # folders in which something is looked for that may have been meant


@dataclass(frozen=True)
class _Reader:
    """A room of this wing with `recognises` and a function that opens."""

    room: str
    function: str
    looks_for: str
    takes_parts: bool = False  # whether it can separate connected parts

    def recognises(self, path: Path) -> bool:
        """Whether this reader is the one."""
        return self._room().recognises(path)

    def open(self, path: Path, separate_parts: bool) -> Dataset:
        """Open it."""
        options = {"separate_parts": separate_parts} if self.takes_parts else {}
        return getattr(self._room(), self.function)(path, **options)

    def _room(self) -> ModuleType:
        return importlib.import_module(f"sam2kit.datasets.{self.room}")


FORMATS = {
    "outlines": _Reader("outlines", "open_outlines", "outlines.json with photos"),
    "sav": _Reader("sav", "open_sav", "SA-V JSON (clip.mp4 with clip_manual.json)"),
    "coco": _Reader("coco", "open_coco", "COCO JSON"),
    "sa1b": _Reader("sa1b", "open_sa1b", "SA-1B or Roboflow JSON (one per picture)"),
    "labelme": _Reader("labelme", "open_labelme", "LabelMe JSON (one per picture)"),
    "voc": _Reader("voc", "open_voc", "Pascal VOC (JPEGImages, SegmentationObject)", True),
    "frames": _Reader("frame_folders", "open_frame_folders", "DAVIS or MOSE (JPEGImages/clip, Annotations/clip)"),
    "yolo": _Reader("yolo", "open_yolo", "YOLO-seg (data.yaml, or images with labels/*.txt)"),
    "sessions": _Reader("sessions", "open_sessions", "sam2kit sessions (*.safetensors)"),
    "masks": _Reader(
        "mask_folders", "open_mask_folders", "pictures and masks (images/ with masks/, or a_mask.png)", True
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
    if format is not None:
        return FORMATS[format].open(path, separate_parts)
    for reader in FORMATS.values():
        if reader.recognises(path):
            return reader.open(path, separate_parts)
    wanted = "; ".join(reader.looks_for for reader in FORMATS.values())
    text = f"{path} holds {_contents(path)}, and no format that is known. Looked for: {wanted}"
    raise ValueError(text + (f". {near}" if (near := _what_is_near(path)) else ""))


def _what_is_near(path: Path) -> str | None:
    """What somebody may have meant: a folder above or below, or two folders of other names."""
    if not path.is_dir():
        return None
    above = [path.absolute().parent] if path.name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS) else []
    for place in (*above, *folders_in(path)[:_LOOKED_AT]):
        reader = next((reader for reader in FORMATS.values() if reader.recognises(place)), None)
        if reader is not None:
            return f"Did you mean {place}? It looks like {reader.looks_for}"
    stems = {folder: {p.stem for p in pictures_in(folder)} for folder in folders_in(path)[:_LOOKED_AT]}
    for one, other in combinations(stems, 2):
        if len(both := stems[one] & stems[other]) and 2 * len(both) >= min(len(stems[one]), len(stems[other])):
            told = f"{one.name} and {other.name} hold pictures of the same names, such as {min(both)}"
            return f"Did you mean pictures and their masks? {told}; call one of them images and the other masks"
    return None


def _contents(path: Path) -> str:
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".7z"):
        return "an archive, which is to be unpacked first"
    if path.is_file():
        return f"one {path.suffix or 'nameless'} file"
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
