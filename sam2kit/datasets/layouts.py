"""How folders are called: which hold pictures, which hold masks, which name is a split; and what a JSON is about."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sam2kit.datasets.samples import BadSampleError, Note
from sam2kit.files import read_json

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "inputs", "input", "rgb")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "gt", "groundtruth", "ground_truth",
    "segmentations", "segmentation", "targets", "target",
)  # fmt: skip
SPLIT_FOLDERS = {  # and the split that they hold
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NO_OBJECTS = ("ignore", "ignored", "background", "void", "unlabeled", "unlabelled")
_SNIFFED_BYTES = 2**20  # of each end of a file
_JSON_KINDS = (  # the first whose texts are all there
    ("sav", (r'"masklet"\s*:',)),
    ("labelme", (r'"shapes"\s*:\s*\[',)),
    ("outlines", (r'"photos"\s*:\s*\{', r'"objects"\s*:\s*\[')),
    ("sa1b", (r'"image"\s*:\s*\{', r'"annotations"\s*:\s*\[')),
    ("coco", (r'"images"\s*:\s*\[', r'"(annotations|categories)"\s*:\s*\[')),
    ("coco", (r'"annotations"\s*:\s*\[', r'"image_id"\s*:')),
)


def split_named(text: str) -> str | None:
    """ "train", "val" or "test" if the text names one among its words, such as "instances_val2017"."""
    for word in reversed(re.split(r"[^a-z]+", text.lower())):
        if word in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[word]
    return None


def split_of(path: Path, root: Path) -> str | None:
    """The split that a folder between `root` and `path` names; the nearest to `path` counts."""
    for part in reversed(path.relative_to(root).parts):
        if part.lower() in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[part.lower()]
    return None


def names_no_object(label: object) -> bool:
    """Whether a label says "nothing here", as `__ignore__` and `_background_` in LabelMe."""
    return isinstance(label, str) and label.strip("_ ").lower() in _NO_OBJECTS


def no_object_note(counts: Mapping[str, int], where: Path) -> list[Note]:
    """The note on labels that were left out because they name no object; none if there were none."""
    if not counts:
        return []
    told = ", ".join(f"{count} of {label}" for label, count in counts.items())
    return [Note("ignored", f"{where}: outlines that name no object are left out: {told}; rename what is one")]


def folders_in(folder: Path) -> list[Path]:
    """The folders of a folder, by name, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def folder_called(folder: Path, names: Iterable[str]) -> Path | None:
    """The sub-folder with the first of these names, in whatever case."""
    there = {p.name.lower(): p for p in folders_in(folder)}
    return next((there[name] for name in names if name in there), None)


def place_of(stated: str, folder: Path, root: Path) -> Path | None:
    """Where a file lies that a list names; None if the name leads out of the data, or is none.

    Args:
        folder: that names are relative to.
        root: of the data; links inside it are followed, wherever they lead.
    """
    if "\0" in stated or not stated:
        return None
    path = Path(os.path.abspath(folder / stated))
    return path if path.is_relative_to(os.path.abspath(root)) else None


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sorts numbers in texts as numbers: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part.casefold()) for part in re.split(r"([0-9]+)", text)]


def json_files(path: Path, depth: int = 3) -> list[Path]:
    """The JSON at a path: itself, or those of a folder down to `depth` folders, by name."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    found: list[Path] = []
    for level in range(depth):
        found += sorted(p for p in path.glob("*/" * level + "*.json") if not p.name.startswith(".") and p.is_file())
    return found


def json_kind(path: Path) -> str | None:
    """Which format a JSON is of, from the names in both ends of it; a cut-off file is recognised too."""
    try:
        with path.open("rb") as file:
            text = file.read(_SNIFFED_BYTES)
            file.seek(max(file.tell(), path.stat().st_size - _SNIFFED_BYTES))
            text += file.read()
    except OSError:
        return None
    ends = text.decode("utf-8", "replace")
    return next((kind for kind, wanted in _JSON_KINDS if all(re.search(w, ends) for w in wanted)), None)


def json_of_kind(path: Path, kind: str, looked_at: int | None = 50) -> list[Path]:
    """The JSON files at a path that are of a kind.

    Args:
        looked_at: give up if none of the first so many is; None looks at all. Files beyond them are looked at only if
            one of these was of the kind.
    """
    files = json_files(path)
    first = [file for file in files[:looked_at] if json_kind(file) == kind]
    if not first or looked_at is None:
        return first
    return first + [file for file in files[looked_at:] if json_kind(file) == kind]


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        BadSampleError: if it is cut off or damaged; says where.
    """
    try:
        return read_json(path)
    except ValueError as error:
        raise BadSampleError(f"{error}; export it again, it may have been cut off") from error
    except OSError as error:
        raise BadSampleError(f"{path} cannot be read ({error}); put it back, or export it again") from error
