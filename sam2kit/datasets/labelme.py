"""LabelMe JSON: one file per picture, with polygons, rectangles, circles and painted masks.

Shapes of one label with the same group number are one object. Shapes without area (points, lines) say nothing about
masks and are left out. Areas are filled as LabelMe itself fills them, with Pillow.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sam2kit.datasets.layouts import json_of_kind, load_json, place_of, split_of
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth
from sam2kit.datasets.samples import BadSampleError, Dataset, Note
from sam2kit.datasets.segmentations import check_outlines, outside_notes
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
    pictures, notes = [], []
    classes: dict[str, None] = {}
    for file in json_of_kind(path, "labelme"):
        try:
            content = load_json(file)
            if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
                raise BadSampleError(f'{file} has no list "shapes"; save it again in LabelMe')
            pictures.append(_sample(file, content, root))
            labels = [s.get("label") for s in content["shapes"] if isinstance(s, dict)]
            classes |= dict.fromkeys(str(label) for label in labels if label)
        except BadSampleError as error:
            notes.append(Note(error.kind, str(error)))
        except (*ODD, OSError) as error:
            notes.append(Note("unreadable", f"{file} is not as LabelMe's JSON should be ({error!r}); save it again"))
    return Dataset(path, FORMAT, pictures, [], [n.text for n in notes], notes, tuple(classes))


def _sample(file: Path, content: dict[str, Any], root: Path) -> FilePicture:
    stated = str(content.get("imagePath") or "").replace("\\", "/")
    beside = [file.with_suffix(suffix) for suffix in sorted(PICTURE_SUFFIXES)]
    candidates = [place_of(stated, file.parent, root), file.parent / Path(stated).name] if stated else []
    image = next((p for p in [*candidates, *beside] if p is not None and os.path.isfile(p)), None)
    name, split = file.relative_to(root).as_posix(), split_of(file, root)
    if image is not None:
        return FilePicture(name, image, LabelmeTruth(file), split)
    if content.get("imageData"):
        return EmbeddedPicture(name, file, LabelmeTruth(file), split)
    text = f"{file} is about {stated or 'a picture without a name'}, which is not beside it; put the picture there"
    raise BadSampleError(text, "missing")


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
