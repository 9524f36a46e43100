"""Photos with hand-drawn outlines, as this project keeps its own: outlines.json beside the photos.

    {"photos": {"cup.jpg": {...}}, "objects": [{"photo", "name", "polygons": [[[x, y], ...]], "holes": [...]}]}

Surprise: an outline's integer coordinate is the middle of a pixel, and a pixel belongs to the object if at least half
of it is covered; so small objects keep their area.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from sam2kit.datasets.layouts import json_kind, load_json, place_of
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth
from sam2kit.datasets.samples import BadSampleError, Dataset, Note
from sam2kit.datasets.segmentations import outside_notes
from sam2kit.errors import ODD

FORMAT = "Outlined photos"


@dataclass(frozen=True)
class OutlinesTruth(Truth):
    """The outlines of one photo."""

    objects: tuple[dict[str, Any], ...]

    @property
    def count(self) -> int:
        """Of masks."""
        return len(self.objects)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per object."""
        truth = TrueMasks()
        for item in self.objects:
            name = f"outlines.json, {item.get('name', 'an object')} of {size.name}"
            try:
                for outline in (*item["polygons"], *item.get("holes", [])):
                    truth.notes += outside_notes(np.array(outline, float).reshape(-1, 2), size.size_hw, name)
                truth.add(fill_outlines(item["polygons"], item.get("holes", []), size.size_hw), item.get("name"))
            except BadSampleError:
                raise
            except (KeyError, TypeError, ValueError, cv2.error) as error:
                text = f"{name}: its outlines cannot be read ({error}); they are lists of [x, y]"
                raise BadSampleError(text, "broken_mask") from error
        return truth


def fill_outlines(
    polygons: Sequence[ArrayLike], holes: Sequence[ArrayLike], size_hw: tuple[int, ...], fine: int = 4
) -> np.ndarray:
    """bool [H, W] from outlines, counted on a grid `fine` times as dense."""
    canvas = np.zeros([n * fine for n in size_hw], np.uint8)
    for outlines, value in ((polygons, 255), (holes, 0)):
        for outline in outlines:
            scaled = np.round((np.array(outline) + 0.5) * fine - 0.5).astype(np.int32)
            cv2.fillPoly(canvas, [scaled], value)
    return cv2.resize(canvas, size_hw[::-1], interpolation=cv2.INTER_AREA) >= 128


def recognises(path: Path) -> bool:
    """Whether there is an outlines.json, or `path` is one."""
    file = _file(path)
    return file.is_file() and json_kind(file) == "outlines"


def open_outlines(path: Path) -> Dataset:
    """All photos of the list.

    Raises:
        FileNotFoundError: if there is no outlines.json.
        ValueError: if it cannot be read.
    """
    file = _file(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}: a folder of photos needs their true outlines")
    content = load_json(file)
    try:
        pictures, notes = _samples(file, content)
        classes = dict.fromkeys(str(o["name"]) for o in content["objects"] if o.get("name"))
    except ODD as error:
        text = f'{file} needs "photos" by name, and "objects" that name their photo ({error!r}); correct it'
        raise BadSampleError(text) from error
    return Dataset(path, FORMAT, pictures, [], [n.text for n in notes], notes, tuple(classes), (file,))


def _samples(file: Path, content: dict[str, Any]) -> tuple[list[FilePicture], list[Note]]:
    pictures, notes = [], []
    of_photo: dict[str, list[dict[str, Any]]] = {}
    for one in content["objects"]:
        of_photo.setdefault(one["photo"], []).append(one)
    for name in content["photos"]:
        if (place := place_of(name, file.parent, file.parent)) is not None and os.path.isfile(place):
            truth = OutlinesTruth(tuple(of_photo.get(name, ())))
            pictures.append(FilePicture(name, file.parent / name, truth))
        else:
            notes.append(Note("missing", f"{file} lists {name}, which is not beside it; put it there"))
    return pictures, notes


def _file(path: Path) -> Path:
    return path / "outlines.json" if path.is_dir() else path
