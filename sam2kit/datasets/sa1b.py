"""SA-1B, and what Roboflow exports as "SAM 2": one JSON per picture, with run lengths.

sa_1.jpg   sa_1.json = {"image": {"file_name", "height", "width"}, "annotations": [{"segmentation": {...}}, ...]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam2kit.datasets.coco import AnnotationsTruth, crowds_are_objects, stated_hw
from sam2kit.datasets.layouts import json_of_kind, load_json, split_of
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth
from sam2kit.datasets.samples import BadSampleError, Dataset, Note
from sam2kit.media.clips import PICTURE_SUFFIXES

FORMAT = "SA-1B JSON"


@dataclass(frozen=True)
class Sa1bTruth(Truth):
    """The JSON of one picture, read when the picture is: all of SA-1B would not fit into memory."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The JSON."""
        return (self.path,)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per annotation."""
        content = load_json(self.path)
        image, annotations = content.get("image"), content.get("annotations")
        if not isinstance(image, dict) or not isinstance(annotations, list):
            raise BadSampleError(f'{self.path} lacks "image" or a list "annotations"; export it again')
        known = [a for a in annotations if isinstance(a, dict)]
        usable = tuple(a for a in known if not a.get("iscrowd") or crowds_are_objects(known))
        truth = AnnotationsTruth(usable, stated_hw(image), str(self.path)).read(size)
        if len(usable) < len(known):
            text = f"{self.path}: {len(known) - len(usable)} crowd regions are left out, each outlines many objects"
            truth.notes.append(Note("crowd", text))
        return truth


def recognises(path: Path) -> bool:
    """Whether there are JSON files of this kind."""
    return bool(json_of_kind(path, "sa1b"))


def open_sa1b(path: Path) -> Dataset:
    """All pictures that have such a JSON, by its name or by the name inside it."""
    root = path if path.is_dir() else path.parent
    pictures, notes = [], []
    for file in json_of_kind(path, "sa1b"):
        try:
            picture = _picture_of(file)
        except BadSampleError as error:
            notes.append(Note(error.kind, str(error)))
            continue
        name = picture.relative_to(root) if picture.is_relative_to(root) else Path(picture.name)
        pictures.append(FilePicture(name.as_posix(), picture, Sa1bTruth(file), split_of(file, root)))
    return Dataset(path, FORMAT, pictures, [], [n.text for n in notes], notes)


def _picture_of(file: Path) -> Path:
    # the name itself may hold dots, as Roboflow's a_jpg.rf.1234.json does
    beside = [file.with_name(file.name.removesuffix(file.suffix) + s) for s in (".jpg", *sorted(PICTURE_SUFFIXES))]
    found = next((p for p in beside if p.is_file()), None)
    if found:
        return found
    content = load_json(file)
    image = content.get("image") if isinstance(content, dict) else None
    name = Path(str(image.get("file_name", ""))).name if isinstance(image, dict) else ""
    for folder in (file.parent, file.parent / "images", file.parent.parent / "images"):
        if name and (folder / name).is_file():
            return folder / name
    text = f"{file} is about {name or file.stem + '.jpg'}, which is not beside it; put the picture there"
    raise BadSampleError(text, "missing")
