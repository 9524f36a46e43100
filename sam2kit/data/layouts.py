"""How folders are called: which hold pictures, which hold masks, which name a split; what a JSON is about.

And `Findings`, which readers fill on their way through the files.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2kit.data.sample import Dataset, Sample
from sam2kit.data.segmentations import boxes_note
from sam2kit.data.stored import BadSampleError, Note
from sam2kit.files import MALFORMED, read_json

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
_NO_OBJECTS = (
    "ignore", "ignored", "ignore_region", "ignore_area", "background", "bg", "void", "unlabeled", "unlabelled", "none",
    "dontcare", "dont_care", "don't_care",
)  # fmt: skip
_SNIFFED_BYTES = 2**20  # of each end of a file
_SNIFFED_FILES = 50  # if none of so many is of a kind, the others are not looked at
_DEPTH = 3  # folders, down to which JSON is looked for
_JSON_KINDS = (  # the first whose texts are all there
    ("sav", (r'"masklet"\s*:',)),
    ("labelme", (r'"shapes"\s*:\s*\[',)),
    ("sa1b", (r'"image"\s*:\s*\{', r'"annotations"\s*:\s*\[')),
    ("coco", (r'"images"\s*:\s*\[', r'"(annotations|categories)"\s*:\s*\[')),
    ("coco", (r'"annotations"\s*:\s*\[', r'"image_id"\s*:')),
)


@dataclass
class Findings:
    """What a reader gathers on its way through the files of a dataset."""

    samples: list[Sample] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    classes: dict[str, None] = field(default_factory=dict)  # in the order in which they were met
    outlines: list[Any] = field(default_factory=list)  # points of each, to see whether all are boxes

    def note(self, kind: str, text: str) -> None:
        """Something that people should know."""
        self.notes.append(Note(kind, text))

    def note_ignored(self, labels: Counter[str], where: Path) -> None:
        """Labels that were left out because they name no object, if there were some."""
        if labels:
            listed = ", ".join(f"{count} of {label}" for label, count in labels.items())
            text = f"outlines that name no object are left out: {listed}; rename what is one"
            self.note("ignored", f"{where}: {text}")

    @contextmanager
    def noting(self, file: Path, wanted: str) -> Iterator[None]:
        """Turns whatever is wrong with one file into a note, and goes on.

        Args:
            wanted: what the file should be, such as "COCO JSON".
        """
        try:
            yield
        except BadSampleError as error:
            self.notes.append(error.note)
        except (*MALFORMED, OSError) as error:
            self.note("unreadable", f"{file} is not as {wanted} should be ({error!r}); export it again")

    def add_each(self, files: Iterable[Path], wanted: str, sample_of: Callable[[Path], Sample]) -> Findings:
        """The sample of every file; what is wrong with one becomes a note."""
        for file in files:
            with self.noting(file, wanted):
                self.samples.append(sample_of(file))
        return self

    def dataset(self, path: Path, format: str, sources: Iterable[Path] = ()) -> Dataset:
        """All of it."""
        notes = [*self.notes, *boxes_note(self.outlines, path)]
        return Dataset(path, format, self.samples, notes, tuple(self.classes), tuple(sources))


def split_named(text: str) -> str | None:
    """ "train", "val" or "test" if the text names one among its words, such as "instances_val2017"."""
    words = reversed(re.split(r"[^a-z]+", text.lower()))
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), None)


def split_of(path: Path, root: Path) -> str | None:
    """The split that a folder between `root` and `path` names; the nearest to `path` counts."""
    parts = (part.lower() for part in reversed(path.relative_to(root).parts))
    return next((SPLIT_FOLDERS[part] for part in parts if part in SPLIT_FOLDERS), None)


def names_no_object(label: object) -> bool:
    """Whether a label says "nothing here", as `__ignore__` and `_background_` in LabelMe."""
    return isinstance(label, str) and re.sub(r"[\s_-]+", "_", label.lower()).strip("_") in _NO_OBJECTS


def folders_in(folder: Path) -> list[Path]:
    """The folders of a folder, by name, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def folder_called(folder: Path, *names: str) -> Path | None:
    """The sub-folder with the first of these names, in whatever case."""
    there = {p.name.lower(): p for p in folders_in(folder)}
    return next((there[name] for name in names if name in there), None)


def text_lines(file: Path) -> list[str]:
    """The lines of a text that are not blank; none if there is no such file."""
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return [line.strip() for line in lines if line.strip()]


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


def name_in(root: Path, path: Path) -> str:
    """How a sample is called: its path in the data, or the name of a file that lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def natural_key(path: Path | str) -> list[tuple[int, str]]:
    """Sorts numbers in names as numbers: 2 before 10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), "") if part.isdecimal() else (0, part.casefold()) for part in parts]


def by_name(paths: Iterable[Path]) -> list[Path]:
    """Files or folders in the order of their names, numbers as numbers."""
    return sorted(paths, key=lambda path: natural_key(path.name))


def json_of_kind(path: Path, kind: str) -> list[Path]:
    """The JSON files of a kind at a path: itself, or those of a folder and some folders below, by name."""
    files: list[Path] = [path] if path.is_file() and path.suffix.lower() == ".json" else []
    for level in range(_DEPTH if path.is_dir() else 0):
        files += sorted(p for p in path.glob("*/" * level + "*.json") if not p.name.startswith(".") and p.is_file())
    first = [file for file in files[:_SNIFFED_FILES] if _json_kind(file) == kind]
    return first and first + [file for file in files[_SNIFFED_FILES:] if _json_kind(file) == kind]


def _json_kind(path: Path) -> str | None:
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
