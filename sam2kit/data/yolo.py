"""YOLO-seg: a text file per picture, a line per object: class, then the corners of its outline in 0..1.

    data.yaml (path, train, val, test, names)     images/train/a.jpg     labels/train/a.txt

Or just images/ with labels/, or texts beside the pictures. Surprises: a corner names a pixel, which belongs to the
object; and a line cannot hold every mask exactly. Where sam2kit wrote the files, exact_masks.json beside data.yaml
keeps those that it cannot; it counts only while its line stands as it was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2kit.data.layouts import (
    IMAGE_FOLDERS,
    Findings,
    folder_called,
    load_json,
    name_in,
    names_no_object,
    natural_key,
    split_named,
    split_of,
    text_lines,
)
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.segmentations import boxes_note, check_points, mask_of_segmentation
from sam2kit.data.stored import BadSampleError, FrameSize, frame_files, pictures_in
from sam2kit.files import MALFORMED
from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.mask_files import mask_to_polygon, polygon_to_mask

FORMAT = "YOLO-seg"
EXACT_MASKS = "exact_masks.json"  # line of a label file -> run lengths
_LARGEST_YAML = 2**20  # bytes
_MOST_CLASSES = 10_000
_DIGITS = 1_000_000
_MOST_PARTS = 64  # of a mask, joined by bridges when it is written, in reasonable time; of more, the largest


def recognises(path: Path) -> bool:
    """Whether there is a data.yaml of YOLO, or label texts for pictures."""
    return _yaml(path) is not None or (path.is_dir() and _has_labels(path))


def open_yolo(path: Path) -> Dataset:
    """All pictures that data.yaml names, or all that have a label text.

    Raises:
        ValueError: if data.yaml cannot be read.
    """
    file = _yaml(path)
    root = path if path.is_dir() else path.parent
    content = _read_yaml(file) if file else {}
    found = Findings()
    listed = _listed_pictures(file, content, found) if file else {}
    if not listed:  # no paths, or Roboflow's "../train/images", which only fits where it was made
        listed = {p: split_of(p, root) for p in pictures_in(root)}
    classes, exact = _names(content.get("names")), _exact_masks(root)
    found.classes = dict.fromkeys(classes)
    labels: set[Path] = set()
    for picture, split in listed.items():
        label = _label_of(picture)
        if label is None:
            text = f"{picture} has no label file {picture.stem}.txt in labels/; add it, or remove the picture"
            found.note("no_mask", text)
            continue
        labels.add(label)
        read = partial(_read_lines, label, classes, exact.get(name_in(root, label), {}))
        truth = Truth(read=read, files=(label,))
        found.samples.append(Sample(name_in(root, picture), frame_files(picture), truth, split))
    known = {label.resolve() for label in labels}
    for label in (p for place in _label_folders(root) for p in sorted(place.rglob("*.txt"))):
        if label.name != "classes.txt" and label.resolve() not in known:
            text = "has no picture of its name in images/; add the picture, or remove the labels"
            found.note("unpaired", f"{label} {text}")
    found.notes += boxes_note(_outlines(labels), path)
    found.samples.sort(key=lambda sample: natural_key(sample.name))
    return found.dataset(path, FORMAT, (p for p in (file, root / EXACT_MASKS) if p and p.is_file()))


def _read_lines(
    file: Path, classes: tuple[str, ...], exact: dict[str, dict[str, Any]], frame: int, size: FrameSize
) -> TrueMasks:
    """One mask per line of a label file; lines that cannot be read become notes."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSampleError(f"{file} cannot be read ({error}); export it again as plain text") from error
    (height, width), truth = size.size_hw, TrueMasks()
    for number, line in enumerate(map(str.strip, lines), start=1):
        name = f"{file}, line {number}"
        with truth.noting():
            if not line:
                continue
            label, corners = _parse(line, classes, name)
            if names_no_object(label):
                raise BadSampleError(
                    f"{name} is of the class {label}, which names no object; it is left out", "ignored"
                )
            if line in exact:
                where = f"{EXACT_MASKS} for {name}"
                truth.add(mask_of_segmentation(exact[line], size.size_hw, where, truth.notes), label)
                continue
            pixels = corners * (width, height)
            check_points(pixels, size.size_hw, name, truth.notes, may_be_shares=False)
            truth.add(polygon_to_mask(pixels, size.size_hw), label)
    return truth


def _parse(line: str, classes: tuple[str, ...], name: str) -> tuple[str, np.ndarray]:
    """Class name and corners [N, 2] in 0..1."""
    words = line.split()
    try:
        number, values = int(float(words[0])), np.array(words[1:], float)
    except MALFORMED as error:
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
    if classes and not 0 <= number < len(classes):
        text = f"{name} is of class {number}, but data.yaml names only 0 to {len(classes) - 1}; add its name"
        raise BadSampleError(text, "broken_mask")
    return classes[number] if classes else str(number), values.reshape(-1, 2)


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


def _listed_pictures(file: Path, content: dict[str, Any], found: Findings) -> dict[Path, str | None]:
    """Picture -> split, as data.yaml says."""
    base = file.parent / str(content.get("path") or "")
    above = Path(os.path.abspath(file.parent)).parent.parents  # nobody's data is the whole disk
    base = base if os.path.isdir(base) and Path(os.path.abspath(base)) not in above else file.parent
    allowed = [os.path.abspath(base), os.path.abspath(file.parent.parent)]
    listed: dict[Path, str | None] = {}
    for key in ("train", "val", "valid", "test"):
        stated = content.get(key) or []
        for text in map(str, stated if isinstance(stated, list) else [stated]):
            # Roboflow writes ../train/images for train/images
            places = (base / text, file.parent / text, file.parent / text.removeprefix("../"))
            there = (p for p in places if os.path.exists(p))
            place = next((p for p in there if any(Path(os.path.abspath(p)).is_relative_to(a) for a in allowed)), None)
            if place is None:
                where = f"which is not there (looked at {places[0]}); correct the path"
                found.note("missing", f"{file} says {key}: {text}, {where}")
                continue
            if place.is_dir():
                pictures = pictures_in(place.resolve() if ".." in place.parts else place)
            else:  # a text that lists them
                pictures = [place.parent / line for line in text_lines(place)]
            for picture in (p for p in pictures if p.suffix.lower() in PICTURE_SUFFIXES):
                listed.setdefault(picture, split_named(key))
    if len({str(content.get(key)) for key in ("train", "val")}) == 1:  # one folder for both says nothing about a split
        return {p: split_of(p, file.parent) if p.is_relative_to(file.parent) else None for p in listed}
    return listed


def _label_of(picture: Path) -> Path | None:
    """labels/... in place of the last images/..., or beside the picture."""
    parts = picture.parts
    folders = [i for i in range(len(parts) - 2, -1, -1) if parts[i].lower() in IMAGE_FOLDERS]
    places = [Path(*parts[:i], "labels", *parts[i + 1 :]) for i in folders]
    labels = (place.with_suffix(".txt") for place in (*places, picture))
    return next((label for label in labels if label.is_file()), None)


def _label_folders(root: Path) -> list[Path]:
    """labels/, here and in split folders."""
    return [f for folder in [root, *root.iterdir()] if folder.is_dir() and (f := folder_called(folder, "labels"))]


def _has_labels(path: Path) -> bool:
    """Whether one of some texts holds labels: of labels/, of its split folders, or beside pictures."""
    places = _label_folders(path)
    for place in places or [path]:
        texts = (t for level in ("*.txt", "*/*.txt") for t in place.glob(level))
        for _, text in zip(range(20), texts, strict=False):
            beside = bool(places) or any(text.with_suffix(s).is_file() for s in PICTURE_SUFFIXES)
            words = next(iter(text_lines(text)), "").split() if beside else []
            if len(words) >= 5 and words[0].isdigit() and words[1].replace(".", "", 1).replace("e-", "", 1).isdigit():
                return True
    return False


def _outlines(labels: set[Path]) -> Iterator[list[str]]:
    """Of all lines, without those that are boxes by their form."""
    for label in sorted(labels):
        words = (line.split()[1:] for line in text_lines(label))
        yield from (numbers for numbers in words if len(numbers) > 4)


def _exact_masks(root: Path) -> dict[str, dict[str, Any]]:
    file = root / EXACT_MASKS
    content = load_json(file) if file.is_file() else {"masks": {}}
    masks = content.get("masks") if isinstance(content, dict) else None
    if not isinstance(masks, dict) or not all(isinstance(of_file, dict) for of_file in masks.values()):
        raise ValueError(f"{file} is not as sam2kit wrote it; copy the data again, or delete this file")
    return masks


def yaml_text(splits: Iterable[str | None], classes: Iterable[str]) -> str:
    """data.yaml for pictures in images/[split/]."""
    paths = {split: f"images/{split}" if split else "images" for split in splits}
    train = paths.get("train") or paths.get(None) or next(iter(paths.values()))
    rows = ["path: .", f"train: {train}", f"val: {paths.get('val', paths.get('test', train))}"]
    rows += [f"test: {paths['test']}"] if "test" in paths else []
    return "\n".join([*rows, "names:", *(f"  {number}: {json.dumps(name)}" for number, name in enumerate(classes)), ""])


def outline_line(number: int, mask: np.ndarray, others: Iterable[str]) -> str:
    """Class and outline of a mask that is not empty, another line than those of the other masks.

    Corners are shares of width and height, rounded up: then both rounding and cutting off, as other programs do, give
    the pixel again. Repeating a corner changes nothing.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count - 1 > _MOST_PARTS:
        mask = np.isin(parts, 1 + np.argsort(stats[1:, cv2.CC_STAT_AREA])[-_MOST_PARTS:])
    outline = mask_to_polygon(mask)
    outline = np.concatenate([outline, np.repeat(outline[-1:], max(0, 3 - len(outline)), axis=0)])
    height, width = mask.shape
    shares = np.ceil(outline * _DIGITS / (width, height)) / _DIGITS
    line = " ".join([str(number), *(f"{share:.6f}" for share in shares.ravel())])
    while line in others:
        line += " " + " ".join(line.split()[-2:])
    return line


def wrong_pixels(line: str, mask: np.ndarray) -> int:
    """By how many pixels a line misses its mask."""
    corners = np.array(line.split()[1:], float).reshape(-1, 2)
    return int(np.count_nonzero(polygon_to_mask(corners * mask.shape[::-1], mask.shape) != mask))
