"""YOLO-seg: a text file per picture, a line per object: class, then the corners of its outline in 0..1.

    data.yaml (path, train, val, test, names)     images/train/a.jpg     labels/train/a.txt

Or just images/ with labels/, or texts beside the pictures. Surprises: a corner names a pixel, which belongs to the
object; and a line cannot hold every mask exactly. Where sam2kit wrote the files, exact_masks.json beside data.yaml
keeps those that it cannot; it counts only while its line stands as it was written.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.datasets.layouts import (
    IMAGE_FOLDERS,
    folder_called,
    load_json,
    names_no_object,
    natural_key,
    split_named,
    split_of,
)
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth, pictures_in
from sam2kit.datasets.samples import BadSampleError, Dataset, Note, left_out
from sam2kit.datasets.segmentations import OutlineCount, mask_of_segmentation, outside_notes
from sam2kit.errors import ODD
from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.polygons import polygon_to_mask

FORMAT = "YOLO-seg"
EXACT_MASKS = "exact_masks.json"  # line of a label file -> run lengths
_LARGEST_YAML = 2**20  # bytes
_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class YoloTruth(Truth):
    """The label file of one picture."""

    path: Path
    classes: tuple[str, ...] = ()
    exact: dict[str, dict[str, Any]] = field(default_factory=dict)  # line -> run lengths

    @property
    def files(self) -> tuple[Path, ...]:
        """The label file."""
        return (self.path,)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per line; lines that cannot be read become notes."""
        try:
            lines = self.path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSampleError(f"{self.path} cannot be read ({error}); export it again as plain text") from error
        truth = TrueMasks()
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    self._add(line.strip(), f"{self.path}, line {number}", size, truth)
                except BadSampleError as error:
                    truth.notes.append(Note(error.kind, str(error)))
        return truth

    def _add(self, line: str, name: str, size: PictureSize, truth: TrueMasks) -> None:
        label, corners = self._parse(line, name)
        if names_no_object(label):
            truth.notes.append(
                Note("ignored", f"{name} is of the class {label}, which names no object; it is left out")
            )
            return
        if line in self.exact:
            mask, _ = mask_of_segmentation(self.exact[line], size.size_hw, f"{EXACT_MASKS} for {name}")
            truth.add(mask, label)
            return
        height, width = size.size_hw
        pixels = corners * (width, height)
        truth.notes += outside_notes(pixels, size.size_hw, name, may_be_shares=False)
        truth.add(polygon_to_mask(pixels, size.size_hw), label)

    def _parse(self, line: str, name: str) -> tuple[str | None, np.ndarray]:
        """Class name and corners [N, 2] in 0..1."""
        words = line.split()
        try:
            number, values = int(float(words[0])), np.array(words[1:], float)
        except ODD as error:
            text = f"{name} holds something else than numbers; wanted is: class x y x y x y ..."
            raise BadSampleError(text, "broken_mask") from error
        if len(values) == 4:
            text = f"{name} is a box (4 numbers), not an outline; sam2kit learns masks: export the segmentation set"
            raise BadSampleError(text, "box_only")
        if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
            text = f"{name} has {len(values)} numbers after the class; wanted are three or more pairs x y in 0..1"
            raise BadSampleError(f"{text}. Draw it again", "broken_mask")
        if values.max() > 10:
            text = f"{name} has coordinates up to {values.max():.0f}; wanted are shares of width and height in 0..1"
            raise BadSampleError(f"{text}, so divide pixels by the picture's size", "outside")
        if self.classes and not 0 <= number < len(self.classes):
            text = f"{name} is of class {number}, but data.yaml names only 0 to {len(self.classes) - 1}; add its name"
            raise BadSampleError(text, "broken_mask")
        return self.classes[number] if self.classes else str(number), values.reshape(-1, 2)


def recognises(path: Path) -> bool:
    """Whether there is a data.yaml of YOLO, or label texts for pictures."""
    return _yaml(path) is not None or (path.is_dir() and any(_is_labels(p) for p in _texts(path)))


def open_yolo(path: Path) -> Dataset:
    """All pictures that data.yaml names, or all that have a label text.

    Raises:
        ValueError: if data.yaml cannot be read.
    """
    file = _yaml(path)
    root = path if path.is_dir() else path.parent
    content = _read_yaml(file) if file else {}
    notes: list[Note] = []
    listed = _listed_pictures(file, content, notes) if file else {}
    if not listed:  # no paths, or Roboflow's "../train/images", which only fits where it was made
        listed = {p: split_of(p, root) for p in pictures_in(root)}
    classes = _names(content.get("names"))
    exact = _exact_masks(root)
    pictures: list[FilePicture] = []
    labels: set[Path] = set()
    for picture, split in listed.items():
        label = _label_of(picture)
        if label is None:
            text = f"{picture} has no label file {picture.stem}.txt in labels/; add it, or remove the picture"
            notes.append(Note("no_mask", text))
            continue
        name = picture.relative_to(root) if picture.is_relative_to(root) else Path(picture.name)
        ours = exact.get(label.relative_to(root).as_posix(), {}) if label.is_relative_to(root) else {}
        pictures.append(FilePicture(name.as_posix(), picture, YoloTruth(label, classes, ours), split))
        labels.add(label)
    notes += _unpaired_labels(root, labels) + _boxes_note(path, labels)
    pictures.sort(key=lambda sample: natural_key(sample.name))
    sources = tuple(p for p in (file, root / EXACT_MASKS) if p and p.is_file())
    return Dataset(path, FORMAT, pictures, [], left_out(notes), notes, classes, sources)


def _yaml(path: Path) -> Path | None:
    """The YAML that says where pictures are and what classes are called."""
    candidates = [path] if path.is_file() else sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    for file in candidates:
        if file.suffix in (".yaml", ".yml") and file.is_file():
            text = file.read_text(errors="replace")
            if "names:" in text and ("train:" in text or "val:" in text):
                return file
    return None


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    if file.stat().st_size > _LARGEST_YAML:
        raise ValueError(f"{file} has more than {_LARGEST_YAML >> 20} MB, which no data.yaml needs; write it anew")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is not readable YAML ({reason}); compare it with another data.yaml") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must name train, val and names, got a {type(content).__name__}")
    return content


def _names(names: Any) -> tuple[str, ...]:
    """What classes are called; names that are lists themselves could be of any size."""
    listed = names if isinstance(names, dict) else dict(enumerate(names)) if isinstance(names, list) else {}
    if not all(isinstance(i, int) and 0 <= i < _MOST_CLASSES for i in listed):
        raise ValueError(f"the numbers of classes in data.yaml go from 0 to {_MOST_CLASSES - 1}; correct its names")
    if not all(isinstance(name, (str, int, float)) for name in listed.values()):
        raise ValueError("the names in data.yaml are texts, one for each class; correct them")
    return tuple(str(listed.get(i, i)) for i in range(max(listed, default=-1) + 1))


def _listed_pictures(file: Path, content: dict[str, Any], notes: list[Note]) -> dict[Path, str | None]:
    """Picture -> split, as data.yaml says."""
    base = file.parent / str(content.get("path") or "")
    above = Path(os.path.abspath(file.parent)).parent.parents  # nobody's data is the whole disk
    base = base if os.path.isdir(base) and Path(os.path.abspath(base)) not in above else file.parent
    listed: dict[Path, str | None] = {}
    for key in ("train", "val", "valid", "test"):
        stated = content.get(key) or []
        for text in stated if isinstance(stated, list) else [stated]:
            # Roboflow writes ../train/images for train/images
            places = (base / str(text), file.parent / str(text), file.parent / str(text).removeprefix("../"))
            place = next((p for p in places if os.path.exists(p) and _is_of(p, base, file)), None)
            if place is None:
                text = f"{file} says {key}: {text}, which is not there (looked at {places[0]}); correct the path"
                notes.append(Note("missing", text))
                continue
            for picture in _pictures_at(place):
                listed.setdefault(picture, split_named(key))
    stated = {str(content.get(key)) for key in ("train", "val")}
    if len(stated) == 1:  # one folder for both says nothing about a split
        return {p: split_of(p, file.parent) if p.is_relative_to(file.parent) else None for p in listed}
    return listed


def _is_of(place: Path, base: Path, file: Path) -> bool:
    """Whether a place belongs to the data: the whole disk does not."""
    return any(Path(os.path.abspath(place)).is_relative_to(os.path.abspath(p)) for p in (base, file.parent.parent))


def _pictures_at(place: Path) -> list[Path]:
    """Of a folder, or of a text that lists them."""
    if place.is_dir():
        return [Path(*p.parts) for p in pictures_in(place.resolve() if ".." in place.parts else place)]
    found = [place.parent / line.strip() for line in place.read_text().splitlines() if line.strip()]
    return [p for p in found if p.suffix.lower() in PICTURE_SUFFIXES]


def _label_of(picture: Path) -> Path | None:
    """labels/... in place of the last images/..., or beside the picture."""
    beside = picture.with_suffix(".txt")
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() in IMAGE_FOLDERS:
            label = Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            if label.is_file():
                return label
    return beside if beside.is_file() else None


def _texts(path: Path) -> list[Path]:
    """Some label texts: of labels/, of its split folders, or beside pictures."""
    folders = [path, *(p for p in path.iterdir() if p.is_dir())]
    places = [f for folder in folders if (f := folder_called(folder, ("labels",)))] or [path]
    found = []
    for place in places:
        texts = (t for level in ("*.txt", "*/*.txt") for t in place.glob(level))
        found += [t for _, t in zip(range(20), texts, strict=False) if t.is_file()]
    if places == [path]:
        found = [t for t in found if any(t.with_suffix(s).is_file() for s in PICTURE_SUFFIXES)]
    return found


def _is_labels(text: Path) -> bool:
    lines = text.read_text(errors="replace")[:4096].splitlines()
    words = lines[0].split() if lines else []
    return len(words) >= 5 and words[0].isdigit() and words[1].replace(".", "", 1).replace("e-", "", 1).isdigit()


def _unpaired_labels(root: Path, used: set[Path]) -> list[Note]:
    places = [f for folder in [root, *root.iterdir()] if folder.is_dir() and (f := folder_called(folder, ("labels",)))]
    labels = [p for place in places for p in sorted(place.rglob("*.txt")) if p.name != "classes.txt"]
    known = {p.resolve() for p in used}
    text = "has no picture of its name in images/; add the picture, or remove the labels"
    return [Note("unpaired", f"{p} {text}") for p in labels if p.resolve() not in known]


def _boxes_note(path: Path, labels: set[Path]) -> list[Note]:
    """A warning if all outlines are boxes; stops reading at the first that is none."""
    outlines = OutlineCount()
    for label in sorted(labels):
        for line in label.read_text(errors="replace").splitlines():
            if len(words := line.split()[1:]) > 4:
                outlines.add(words)
            if outlines.others:
                return []
    return outlines.notes(path)


def _exact_masks(root: Path) -> dict[str, dict[str, Any]]:
    file = root / EXACT_MASKS
    content = load_json(file) if file.is_file() else {"masks": {}}
    masks = content.get("masks") if isinstance(content, dict) else None
    if not isinstance(masks, dict) or not all(isinstance(of_file, dict) for of_file in masks.values()):
        raise ValueError(f"{file} is not as sam2kit wrote it; copy the data again, or delete this file")
    return masks


def exact_masks_json(masks: dict[str, dict[str, Any]]) -> str:
    """The text of exact_masks.json: label file -> line -> run lengths."""
    about = "masks that a YOLO polygon cannot hold exactly; read by sam2kit while the line is unchanged"
    return json.dumps({"about": about, "masks": masks})
