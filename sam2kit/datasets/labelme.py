"""LabelMe JSON: one file per picture, with polygons, rectangles, circles and painted masks.

Shapes of one label with the same group number are one object. Shapes without area (points, lines) say nothing about
masks and are left out, as are those called `__ignore__` or `_background_`. Areas are filled as LabelMe itself fills
them, with Pillow. Surprise: a JSON that was renamed or copied may name a picture that is another's, or nobody's.
"""

from __future__ import annotations

import base64
import binascii
import glob
import io
import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sam2kit.datasets.layouts import (
    IMAGE_FOLDERS,
    folder_called,
    json_of_kind,
    load_json,
    names_no_object,
    no_object_note,
    place_of,
    split_of,
)
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth
from sam2kit.datasets.samples import BadSampleError, Dataset, Note, left_out
from sam2kit.datasets.segmentations import OutlineCount, check_outlines, outside_notes
from sam2kit.errors import ODD
from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.pictures import open_image

FORMAT = "LabelMe JSON"


@dataclass(frozen=True)
class LabelmeTruth(Truth):
    """The shapes of one picture."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The JSON."""
        return (self.path,)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per shape or group; shapes that cannot be read become notes."""
        content = load_json(self.path)
        sizes = content.get("imageHeight"), content.get("imageWidth")
        truth_hw = size.truth_hw(sizes if all(isinstance(n, int) for n in sizes) else None, str(self.path))
        truth = TrueMasks()
        areas: dict[tuple[str | None, int | str], np.ndarray] = defaultdict(lambda: np.zeros(truth_hw, bool))
        for number, shape in enumerate(content["shapes"], start=1):
            if isinstance(shape, dict) and names_no_object(shape.get("label")):
                continue
            name = f"{self.path}, shape {number}"
            try:
                mask, notes = _mask_of(shape, truth_hw, name)
            except BadSampleError as error:
                truth.notes.append(Note(error.kind, str(error)))
                continue
            truth.notes += notes
            label, group = shape.get("label"), shape.get("group_id")
            areas[label, number if group is None else f"group {group}"] |= mask
        for (label, _), mask in areas.items():
            truth.add(size.fit(mask, str(self.path)), label)
        return truth


@dataclass(frozen=True)
class EmbeddedPicture(FilePicture):
    """A picture that is kept inside the JSON."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The JSON, which holds both."""
        return self.truth.files

    def source(self) -> bytes:
        """The encoded picture."""
        try:
            return base64.b64decode(load_json(self.image)["imageData"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            text = f"{self.image}: the picture inside it is damaged; put the picture's file beside it"
            raise BadSampleError(text) from error


def recognises(path: Path) -> bool:
    """Whether there are JSON files of LabelMe."""
    return bool(json_of_kind(path, "labelme"))


def open_labelme(path: Path) -> Dataset:
    """All pictures that have a LabelMe JSON."""
    root = path if path.is_dir() else path.parent
    pictures: list[FilePicture] = []
    notes: list[Note] = []
    classes: dict[str, None] = {}
    ignored: Counter[str] = Counter()
    outlines, renamed = OutlineCount(), list[str]()
    for file in json_of_kind(path, "labelme"):
        try:
            content = load_json(file)
            if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
                raise BadSampleError(f'{file} has no list "shapes"; save it again in LabelMe')
            sample = _sample(file, content, root, renamed)
            ignored.update(str(s["label"]) for s in content["shapes"] if names_no_object(_label(s)))
            meant = [s for s in content["shapes"] if not names_no_object(_label(s))]
            if not meant:
                raise BadSampleError(f"{file} outlines no object; outline one, or remove it", "no_mask")
            pictures.append(sample)
            classes |= dict.fromkeys(str(label) for s in meant if (label := _label(s)))
            for shape in meant:
                _count_outline(shape, outlines)
        except BadSampleError as error:
            notes.append(Note(error.kind, str(error)))
        except (*ODD, OSError) as error:
            notes.append(Note("unreadable", f"{file} is not as LabelMe's JSON should be ({error!r}); save it again"))
    notes += no_object_note(ignored, path) + outlines.notes(path)
    if renamed:
        text = f"{path}: {len(renamed)} JSON name a picture that is not theirs, so another was taken: {renamed[0]}"
        notes.append(Note("other_picture", text + (", ..." if len(renamed) > 1 else "")))
    return Dataset(path, FORMAT, pictures, [], left_out(notes), notes, tuple(classes))


def _label(shape: Any) -> Any:
    return shape.get("label") if isinstance(shape, dict) else None


def _sample(file: Path, content: dict[str, Any], root: Path, renamed: list[str]) -> FilePicture:
    """The picture that a JSON is about: the one it names, else the one beside it, else the one inside it.

    Args:
        renamed: takes a sentence if it is another one than the JSON names.
    """
    stated = str(content.get("imagePath") or "").replace("\\", "/")
    candidates = [place_of(stated, file.parent, root), file.parent / Path(stated).name] if stated else []
    named = next((p for p in candidates if p is not None and os.path.isfile(p)), None)
    beside = _picture_beside(file, root)
    name, split = file.relative_to(root).as_posix(), split_of(file, root)
    if named is not None and _is_of(named, file, content, alone=beside is None and not content.get("imageData")):
        return FilePicture(name, named, LabelmeTruth(file), split)
    if beside is not None:
        if stated:
            renamed.append(f"{file.name} names {Path(stated).name}, and is about {beside.name} beside it")
        return FilePicture(name, beside, LabelmeTruth(file), split)
    if content.get("imageData"):
        if named is not None:
            renamed.append(f"{file.name} names {named.name}, and is about the picture inside it")
        return EmbeddedPicture(name, file, LabelmeTruth(file), split)
    text = f"{file} is about {stated or 'a picture without a name'}, which is not beside it; put the picture there"
    raise BadSampleError(text, "missing")


def _picture_beside(file: Path, root: Path) -> Path | None:
    """The picture of a JSON's name, beside it or in a folder of pictures next to it."""
    near = [folder_called(p, IMAGE_FOLDERS) for p in (file.parent, file.parent.parent)]
    for folder in (file.parent, *near):
        if folder is not None and folder.is_relative_to(root):
            found = {p.suffix.lower(): p for p in folder.glob(f"{glob.escape(file.stem)}.*") if p.is_file()}
            picture = next((found[suffix] for suffix in sorted(PICTURE_SUFFIXES) if suffix in found), None)
            if picture is not None:
                return picture
    return None


def _is_of(picture: Path, file: Path, content: dict[str, Any], *, alone: bool) -> bool:
    """Whether a JSON is about the picture that it names: not if that is no picture, has another size or a JSON.

    Args:
        alone: there is no other picture that it could be about.
    """
    if alone or picture.stem == file.stem:
        return True
    stated = content.get("imageHeight"), content.get("imageWidth")
    try:
        with open_image(picture) as image:
            size_hw = image.height, image.width
    except (OSError, ValueError):
        return False
    fits = not all(isinstance(n, int) for n in stated) or stated in (size_hw, size_hw[::-1])
    return fits and not picture.with_suffix(".json").is_file()


def _count_outline(shape: Any, outlines: OutlineCount) -> None:
    if not isinstance(shape, dict):
        return
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind == "rectangle" and isinstance(points, list) and len(points) == 2:
        outlines.boxes += 1
    elif kind in ("polygon", "rectangle", "circle", "mask"):
        outlines.add(points if kind != "circle" else [])


def _mask_of(shape: Any, size_hw: tuple[int, int], name: str) -> tuple[np.ndarray, list[Note]]:
    """bool [H, W] of one shape."""
    kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else "nothing"
    try:
        points = np.array(shape["points"], float).reshape(-1, 2)
    except ODD as error:
        raise BadSampleError(f"{name}: its points cannot be read; draw it again", "broken_mask") from error
    wanted = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
    if kind not in wanted:
        text = f"{name} is a {kind}, which has no area; outline the object as polygon, rectangle, circle or mask"
        raise BadSampleError(text, "box_only")
    if len(points) < wanted[kind] or not np.isfinite(points).all():
        text = f"{name}: a {kind} needs {wanted[kind]} points or more, got {len(points)}; draw it again"
        raise BadSampleError(text, "broken_mask")
    if kind == "mask":
        return _painted(shape, points, size_hw, name), []
    notes = outside_notes(points, size_hw, name)
    check_outlines([points], size_hw)
    canvas = Image.new("1", size_hw[::-1])
    brush = ImageDraw.Draw(canvas)
    if kind == "polygon":
        brush.polygon([tuple(p) for p in points], outline=1, fill=1)
    elif kind == "rectangle":
        brush.rectangle([*points.min(axis=0), *points.max(axis=0)], outline=1, fill=1)
    else:
        (x, y), radius = points[0], math.dist(points[0], points[1])
        brush.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    return np.array(canvas, bool), notes


def _painted(shape: dict[str, Any], points: np.ndarray, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """A mask that was painted: a PNG inside the JSON, for the box from its first to its last point."""
    try:
        with open_image(io.BytesIO(base64.b64decode(shape["mask"])), "it") as painted:
            if painted.width > 2 * size_hw[1] + 2 or painted.height > 2 * size_hw[0] + 2:
                raise ValueError("it is far larger than the picture")
            patch = np.array(painted if painted.mode in ("1", "L", "P") else painted.convert("L")).astype(bool)
    except Exception as error:  # broken files fail in many ways
        raise BadSampleError(f"{name}: its painted mask is damaged; paint it again", "broken_mask") from error
    mask = np.zeros(size_hw, bool)
    x, y = (round(float(v)) for v in points.min(axis=0))
    region = mask[max(y, 0) : max(y + patch.shape[0], 0), max(x, 0) : max(x + patch.shape[1], 0)]
    region[:] = patch[max(-y, 0) :, max(-x, 0) :][: region.shape[0], : region.shape[1]]
    return mask
